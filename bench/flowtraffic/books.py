"""Which services VMs of a tier offer, and which rules apply to them: each tenant has one policy a tier."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serai.model.policy import Direction, RuleRef
from serai.model.ports import TCP, UDP
from serai.model.tenancy import Scope

Array = NDArray[Any]

TIERS: Final = ("web", "app", "db", "mgmt")
SERVICES: Final = 3
"""That each VM offers."""
_OFFERED: Final = (
    ((TCP, 443), (TCP, 80), (UDP, 443)),
    ((TCP, 8080), (TCP, 8443), (TCP, 9092), (TCP, 5672)),
    ((TCP, 5432), (TCP, 3306), (TCP, 6379), (TCP, 27017), (TCP, 9200)),
    ((UDP, 53), (UDP, 123), (TCP, 22), (UDP, 514), (TCP, 389)),
)
_EVERYBODY: Final = ((TCP, 22), (TCP, 9100))

BOOK_RULES: Final = 8
"""Of a book, by direction: a rule for each service, and what denies."""
DENIES: Final = SERVICES
"""Place of the rule that denies, among those of a direction."""
_OF_DIRECTION: Final = BOOK_RULES // 2


class Books:
    """The rules of all tenants."""

    def __init__(self, tenants: int) -> None:
        """Write them: the last word of a direction is a policy's own in every other tenant."""
        self._texts = [
            _text(tenant, tier, direction, place)
            for tenant in range(tenants)
            for tier in TIERS
            for direction in Direction
            for place in range(_OF_DIRECTION)
        ]
        self.rules = np.array([RuleRef(text).id for text in self._texts] + [0] * BOOK_RULES, "<u8")
        """Numbers of rules: at ``book + direction * 4 + place``; the last book is that of nobody."""

    def table(self) -> pa.Table:
        """Return the rows of the store's table of rules."""
        texts = sorted(set(self._texts))
        return pa.table({"number": pa.array([RuleRef(text).id for text in texts], pa.uint64()), "text": texts})


def _text(tenant: int, tier: str, direction: Direction, place: int) -> str:
    scope = Scope(f"/t{tenant}")
    if place < DENIES:
        return RuleRef.of(scope, tier, direction, f"{'from' if direction is Direction.INGRESS else 'to'}-{place}").text
    return RuleRef.unmatched(direction).text if tenant % 2 else RuleRef.of(scope, tier, direction, "nothing-else").text


def offered(tier: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return protocols and ports of what VMs of these tiers offer, ``(n, SERVICES)``: first what they are for."""
    kinds: Array = np.zeros((len(tier), SERVICES, 2), "<u2")
    for number, services in enumerate(_OFFERED):
        mine = np.flatnonzero(tier == number)
        main = rng.integers(0, len(services), len(mine))
        table = np.array(services, "<u2")
        kinds[mine, 0], kinds[mine, 1] = table[main], table[(main + 1) % len(services)]
        kinds[mine, 2] = np.array(_EVERYBODY, "<u2")[rng.integers(0, len(_EVERYBODY), len(mine))]
    return kinds[..., 0].astype("u1"), kinds[..., 1].copy()
