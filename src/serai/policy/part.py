"""Parts of rulesets, ready to be sent, with what each costs the host that needs it."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import msgspec

from serai.model.records import TABLES
from serai.model.ruleset import digest_of
from serai.model.ruleset_form import FrozenPart

_ENCODER: Final = msgspec.msgpack.Encoder()
_FIELD_BITS: Final = 40
_SIZES: Final = tuple(layout.itemsize for layout in TABLES.values())
_NAMES: Final = ("vnics", *TABLES)


class Part(NamedTuple):
    """One part."""

    digest: bytes
    raw: bytes
    """A ``FrozenPart``, encoded."""
    cost: int
    """vNICs, and records of each table: numbers of 40 bits side by side, so that costs can be added up as they are."""

    @classmethod
    def of(cls, part: FrozenPart) -> Self:
        """Encode ``part``."""
        raw = _ENCODER.encode(part)
        endpoints, prefixes, lists, pages = _SIZES
        cost = (
            sum(len(guest.cards) for guest in part.guests)
            | len(part.endpoints) // endpoints << _FIELD_BITS
            | len(part.prefixes) // prefixes << 2 * _FIELD_BITS
            | len(part.lists) // lists << 3 * _FIELD_BITS
            | len(part.pages) // pages << 4 * _FIELD_BITS
        )
        return cls(digest_of(raw), raw, cost)


def itemized(cost: int) -> dict[str, int]:
    """Take a sum of costs apart: how many vNICs, and how many records of each table."""
    mask = (1 << _FIELD_BITS) - 1
    return {name: cost >> at * _FIELD_BITS & mask for at, name in enumerate(_NAMES)}
