"""Makes plans of moves for people, and for the controller itself. Nothing is done by them."""

from __future__ import annotations

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.moves.moves import Moves
from serai.controller.placing.facts import Facts
from serai.controller.planning.config import PlanningSettings
from serai.controller.shard import Shard
from serai.controller.views import require
from serai.store.store import Store
from serai.wire.planapi import PlanReply, PlanRequest


class Planning:
    """Looks at what is known, and has a plan made of it. Only the controller that leads knows what hosts report."""

    def __init__(  # noqa: PLR0917  # one argument for each whom it asks
        self, store: Store, current: Current, shard: Shard, moves: Moves, facts: Facts, settings: PlanningSettings
    ) -> None:
        """Ask these."""
        self._store, self._current, self._shard, self._moves = store, current, shard, moves
        self._facts, self._settings = facts, settings

    async def plan(self, who: Caller, request: PlanRequest) -> PlanReply:
        """Make a plan for somebody.

        Raises:
            ForbiddenError: this person may not move VMs.
            InvalidError: it names neither hosts nor a pool, or both.
            NotFoundError: there is no such host, or no such pool.
            UnavailableError: another controller leads, or none; or it took too long.
        """
        require(who, Verb.MOVE)
        return await self.again(request)

    async def again(self, goal: PlanRequest) -> PlanReply:
        """Make a plan from how things stand now, for a controller that carries one out.

        Raises:
            InvalidError, NotFoundError, UnavailableError: as for ``plan``.
        """
        raise NotImplementedError
