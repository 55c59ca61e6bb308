"""What VMs boot from and are made of, as it was registered. No verdict on a packet depends on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a VM shall be."""

    images: tuple[str, ...] = ()
    """What it boots from is of one of these; none: nobody has said."""
    definition: str | None = None
    """The SHA-256 of its machine definition (``inventory/definition.py``), in hexadecimal; None: nobody has said."""


UNREGISTERED = Registered()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All that has been registered."""

    images: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """The SHA-256 of each file that may be booted from, in hexadecimal, by the name of the image."""
    vms: Mapping[str, Registered] = dataclasses.field(default_factory=dict)
    """By path; those of which something has been said."""


NOTHING_REGISTERED = Registry()
