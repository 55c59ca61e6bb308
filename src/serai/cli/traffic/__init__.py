"""Verbs about traffic."""
