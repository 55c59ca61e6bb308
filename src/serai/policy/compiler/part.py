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


SENT: Final = 32
"""How long the digest of a part is that is sent; that of a use is longer."""


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
                cost = cost_of(vnics=len(part.cards))
            case FrozenDomain():
                cost = cost_of(
                    endpoints=len(part.endpoints) // ENDPOINT.itemsize, prefixes=len(part.prefixes) // PREFIX.itemsize
                )
            case _:
                cost = 0  # of a book: that of each domain that uses it
        return cls(digest_of(raw), raw, cost)


def cost_of(*, vnics: int = 0, endpoints: int = 0, prefixes: int = 0, lists: int = 0, pages: int = 0) -> int:
    """Put numbers side by side: of vNICs, and of records of each table."""
    counts = (vnics, endpoints, prefixes, lists, pages)
    return sum(count << at * _FIELD_BITS for at, count in enumerate(counts))


def itemized(cost: int) -> dict[str, int]:
    """Take a sum of costs apart: how many vNICs, and how many records of each table."""
    mask = (1 << _FIELD_BITS) - 1
    return {name: cost >> at * _FIELD_BITS & mask for at, name in enumerate(_NAMES)}
