"""What becomes of one connection, and why: all that ``serai can`` has to tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Self

from serai.model.policy import Action, Direction
from serai.model.reasons import Reason
from serai.model.tenancy import Mode
from serai.model.tunnels import is_tunnel
from serai.model.world import World
from serai.policy.evaluate import Connection, Verdict, judge
from serai.policy.questions.account import Account, account
from serai.policy.questions.explain import NearMiss, near_misses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One connection, and what becomes of it."""

    connection: Connection
    verdict: Verdict
    staged: Verdict
    """With the staged policies in force."""
    accounts: Mapping[tuple[Direction, bool], Account]
    """How each side that is a VM's came to its verdict, in force (False) and with the staged policies (True)."""
    refused: Reason | None
    """What the source's own gate drops it for before any policy is asked."""

    @classmethod
    def of(cls, world: World, connection: Connection) -> Self:
        """Ask the policies, and what the source's vNIC may do at all."""
        verdict = judge(world, connection)
        may_not_tunnel = verdict.source is not None and not verdict.source[1].security.tunnels
        tunnel = may_not_tunnel and is_tunnel(connection.protocol, connection.port)
        return cls(
            connection=connection,
            verdict=verdict,
            staged=judge(world, connection, staged=True),
            accounts=_accounts(world, connection, verdict),
            refused=Reason.TUNNEL if tunnel else None,
        )

    @property
    def accepted(self) -> bool:
        """Nothing speaks against it."""
        return self.refused is None and self.verdict.action is Action.ACCEPT

    @property
    def passes(self) -> bool:
        """It gets through: nothing is dropped from or to a VM that is only observed."""
        dropped = self.refused and self.verdict.source and self.verdict.source[0].mode is not Mode.OBSERVE
        return self.verdict.passes and not dropped

    @property
    def version(self) -> int:
        """Of IP."""
        return self.connection.source.version

    def near_misses(self, world: World) -> Iterator[tuple[Direction, NearMiss]]:
        """Find the rules that come closest where no rule decided, for that is where a typing error hides."""
        connection, verdict = self.connection, self.verdict
        for direction, holder, decision, remote in (
            (Direction.EGRESS, verdict.source, verdict.egress, connection.destination),
            (Direction.INGRESS, verdict.destination, verdict.ingress, connection.source),
        ):
            if not holder or not decision or decision.action is not Action.DENY or decision.level is not None:
                continue
            for miss in near_misses(world, *holder, direction, remote, connection.protocol, connection.port):
                yield direction, miss


def _accounts(world: World, connection: Connection, verdict: Verdict) -> Mapping[tuple[Direction, bool], Account]:
    service = connection.protocol, connection.port
    sides = (
        (Direction.EGRESS, verdict.source, connection.destination),
        (Direction.INGRESS, verdict.destination, connection.source),
    )
    return {
        (direction, staged): account(world, *holder, direction, remote, *service, staged=staged)
        for direction, holder, remote in sides
        if holder
        for staged in (False, True)
    }
