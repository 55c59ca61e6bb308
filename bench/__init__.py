"""Benchmarks: ``python -m bench`` lists them, ``python -m bench NAME [--json]`` runs one.

Each prints a table for people; with ``--json`` its last line is one object
``{metric: {"value", "unit", "goal", "ok"}}``. Machines are noisy: what counts are ratios within one run.
"""
