"""Makes plans of moves for people, and for the controller itself. Nothing is done by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import structlog

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.elsewhere import ElsewhereError, only_elsewhere
from serai.controller.errors import BusyError, NotFoundError, UnavailableError
from serai.controller.moves.moves import Moves
from serai.controller.placing.facts import Facts
from serai.controller.planning.config import PlanningSettings
from serai.controller.planning.drawing import UnsoundError, draw
from serai.controller.planning.known import Known
from serai.controller.requests import invalid
from serai.controller.shard import Shard
from serai.controller.views import require
from serai.model.definitions import did_you_mean
from serai.store.store import Store
from serai.wire.planapi import PlanReply, PlanRequest

_log = structlog.get_logger(__name__)

SECONDS: Final = 45
"""How long a plan may take."""


class Planning:
    """Looks at what is known, and has a plan made of it, one at a time. Only the controller that leads knows what hosts report."""

    def __init__(  # noqa: PLR0917  # one argument for each whom it asks
        self, store: Store, current: Current, shard: Shard, moves: Moves, facts: Facts, settings: PlanningSettings
    ) -> None:
        """Ask these."""
        self._store, self._current, self._shard, self._moves = store, current, shard, moves
        self._facts, self._settings = facts, settings
        self._one = asyncio.Lock()

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
            InvalidError: as for ``plan``, and so are the others.
            NotFoundError: the same.
            UnavailableError: the same.
        """
        if bool(goal.evacuate) == bool(goal.rebalance):
            raise invalid("evacuate", "name hosts to empty, or in rebalance a pool to level: one of both")
        await self._require_lead()
        try:
            async with asyncio.timeout(SECONDS):
                await self._one.acquire()
        except TimeoutError:
            raise BusyError("other plans are being made: ask again in a moment", retry_seconds=5) from None
        try:
            known = await self._known()
            _require_known(known, goal)
            return await asyncio.to_thread(_drawn, known, goal)
        finally:
            self._one.release()

    async def _require_lead(self) -> None:
        """Let go on where hosts tell where VMs are.

        Raises:
            UnavailableError: they do not tell it to this controller.
        """
        if self._shard.term is not None and self._moves.leads:
            return
        leader = await self._store.leader(self._shard.name)
        if leader is None or leader.url == self._shard.url:
            raise UnavailableError("no controller leads just now: ask again in a moment", retry_seconds=2)
        raise UnavailableError(
            f"this controller does not lead, and hosts tell only the one that does where VMs are: ask {urlsplit(leader.url).hostname}"
        )

    async def _known(self) -> Known:
        edition, facts = await self._current.catch_up(), await self._facts.all()
        joined = {record.name for record in await self._store.hosts.all() if record.revoked is None}
        return Known(
            world=edition.catalog.world, revision=edition.revision,
            states={state.name: state for state in self._shard.states() if state.name in joined},
            signs={host: signs for host, signs in self._shard.signs().items() if host in joined},
            facts={host: told.facts for host, told in facts.items()}, moves=self._moves.wanted(), version=version("serai"), settings=self._settings,
        )  # fmt: skip


def _require_known(known: Known, goal: PlanRequest) -> None:
    """Let go on who names what there is.

    Raises:
        NotFoundError: they do not.
    """
    hosts, pools = {*known.world.hosts, *known.states}, known.world.placement.pools
    for name in goal.evacuate:
        if name not in hosts:
            raise NotFoundError(_no("host", name, hosts, "serai host list"))
    if goal.rebalance and goal.rebalance not in pools:
        raise NotFoundError(_no("pool", goal.rebalance, pools, "serai pool list"))


def _no(what: str, name: str, names: Iterable[str], see: str) -> str:
    return f"there is no {what} {name!r}{did_you_mean(name, names) or f': `{see}` has those that there are'}"


def _drawn(known: Known, goal: PlanRequest) -> PlanReply:
    """Draw a plan in a process of its own: the solver may take long, and might crash.

    Raises:
        UnavailableError: nothing came of it.
    """

    def job() -> PlanReply | str:
        try:
            return draw(known, goal)
        except UnsoundError as error:
            return str(error)

    try:
        made = only_elsewhere(job, SECONDS)
    except ElsewhereError as error:
        _log.error("no plan was made", goal=str(goal), error=str(error))
        raise UnavailableError(f"no plan was made: {error}; ask for fewer hosts at once") from error
    if isinstance(made, str):
        _log.error("a plan was made that is not sound", goal=str(goal), faults=made[:4000])
        raise UnavailableError(
            "a plan was made that is not sound, and is shown to nobody: the controller's log has more"
        )
    return made
