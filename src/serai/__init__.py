"""Serai: security for virtual data centers that travels with the virtual machines."""

__version__ = "0.1.0"
