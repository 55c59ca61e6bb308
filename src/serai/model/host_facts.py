"""What a host is made of, as far as it matters to VMs that shall run there."""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

MOST_FEATURES: Final = 4096
"""Features of one CPU."""
MOST_NICS: Final = 256
"""NICs of one host."""

_Word = Annotated[str, msgspec.Meta(max_length=128)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Feature(enum.StrEnum):
    """Something that a kernel may have, and gates are better off with."""

    TCX = "tcx"
    """Gates are links (Linux 6.6): replaced in one step, and nothing else on the tap pushes them aside."""
    JIT = "jit"
    """BPF programs run as machine code."""


class Cpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host's CPU, in the words of libvirt."""

    arch: _Word
    """E.g. ``x86_64``."""
    vendor: _Word = ""
    model: _Word = ""
    """The nearest that libvirt has a name for."""
    family: _Count = 0
    """The maker's own numbers of family and model; 0: there are none."""
    number: _Count = 0
    features: Annotated[list[_Word], msgspec.Meta(max_length=MOST_FEATURES)] = []
    """All of them, those of the model too; in order."""


class Nic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network card of a host, as it is built in: no bridge, no tap, no part of another."""

    name: _Word
    speed: _Count | None = None
    """Mbit/s; None: it has no link, or does not tell."""


class HostFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a host is made of. What cannot be found out is empty."""

    cpu: Cpu
    memory: _Count
    """MiB, as the kernel counts them: a little less than is built in."""
    nics: Annotated[list[Nic], msgspec.Meta(max_length=MOST_NICS)]
    """In order of name."""
    kernel: _Word
    """Its release."""
    features: Annotated[list[_Word], msgspec.Meta(max_length=64)]
    """Of the kernel, as far as gates care (``Feature``); in order."""
    agent: _Word
    """Its version; the same of ``libvirt`` and ``qemu``."""
    libvirt: _Word = ""
    qemu: _Word = ""


def version(text: str) -> tuple[int, ...]:
    """Return a version such as ``0.1.0`` in numbers, to be compared; what follows the numbers is left out, and so are zeros at the end."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
