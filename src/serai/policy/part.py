"""Parts of rulesets, ready to be sent, with what each costs the host that needs it."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import msgspec

from serai.model.records import ENDPOINT, PREFIX, TABLES
from serai.model.ruleset import digest_of
from serai.model.ruleset_form import FrozenDomain, FrozenGuest, FrozenPart

_ENCODER: Final = msgspec.msgpack.Encoder()
_FIELD_BITS: Final = 40
_NAMES: Final = ("vnics", *TABLES)


class Part(NamedTuple):
    """One part."""

    digest: bytes
    raw: bytes
    """A ``FrozenPart``, encoded; empty for what costs a host something and is not sent."""
    cost: int
    """vNICs, and records of each table: numbers of 40 bits side by side, so that costs can be added up as they are."""

    @classmethod
    def of(cls, part: FrozenPart) -> Self:
        """Encode ``part``."""
        raw = _ENCODER.encode(part)
        match part:
            case FrozenGuest():
                cost = len(part.cards)
            case FrozenDomain():
                cost = (
                    len(part.endpoints) // ENDPOINT.itemsize << _FIELD_BITS
                    | len(part.prefixes) // PREFIX.itemsize << 2 * _FIELD_BITS
                )
            case _:
                cost = 0  # of a book: that of its uses
        return cls(digest_of(raw), raw, cost)

    @classmethod
    def use(cls, domain: Self, book: Self, lists: int, pages: int) -> Self:
        """What it costs to fill ``book`` in for ``domain``: so many records."""
        return cls(domain.digest + book.digest, b"", lists << 3 * _FIELD_BITS | pages << 4 * _FIELD_BITS)


def itemized(cost: int) -> dict[str, int]:
    """Take a sum of costs apart: how many vNICs, and how many records of each table."""
    mask = (1 << _FIELD_BITS) - 1
    return {name: cost >> at * _FIELD_BITS & mask for at, name in enumerate(_NAMES)}
