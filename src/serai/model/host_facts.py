"""What a host is made of, as far as it matters to VMs that shall run there."""

from __future__ import annotations

import enum


class Feature(enum.StrEnum):
    """Something that a kernel may have, and gates are better off with."""

    TCX = "tcx"
    """Gates are links (Linux 6.6): replaced in one step, and nothing else on the tap pushes them aside."""
    JIT = "jit"
    """BPF programs run as machine code."""


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
