"""Does what the moves' core decides: the only place of the agent that talks to other hosts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from serai.agent.identity import Identity, IdentityError
from serai.agent.moving.events import (
    Command,
    Copied,
    Copy,
    Event,
    FlowsRefused,
    FlowsTaken,
    HandedOver,
    HandOver,
    HangUp,
    Heard,
    Joined,
    Listening,
    Migrate,
    MigrationEnded,
    Parted,
    Reach,
    Release,
    Remember,
    RulesHeld,
    Say,
    StopMigration,
    Take,
    Ticked,
    Withhold,
)
from serai.agent.moving.kept import Departing, Phase
from serai.agent.moving.listener import Listener
from serai.agent.moving.memory import MovesFile
from serai.agent.moving.moves import Do, Memory, Moves, Spread
from serai.agent.moving.port import Coming, GatePort, Hypervisor, Leaving
from serai.agent.refused import RefusedError
from serai.datapath.libbpf import KernelError
from serai.model.life import Life
from serai.model.migration import Ticket
from serai.wire.handoff import BEGIN_LIMIT, MESSAGE_LIMIT, OPEN_SECONDS, PARTS, Abort, Begin, Flows
from serai.wire.peer import DestinationEnd, Handoff, HandoffError, SourceEnd, reach
from serai.wire.private import PrivateFileError
from serai.wire.remote import Depart, Expect, Forget, Moving

_log = structlog.get_logger(__name__)

_TICK_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 1.0
"""How often the clock is looked at while a move depends on moments, and otherwise."""
_STOPPED_SECONDS: Final = 1.0
"""How long words wait at the most while a guest is stopped."""
_TOGETHER: Final = MESSAGE_LIMIT // 2
"""Bytes of flows in one message."""
_GUESTS: Final = 64
"""Hosts that may be about to begin at the same time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoverConfig:
    """What a mover is told at its start."""

    host: str
    state: Path
    """Where ``identity/`` is, and what is remembered."""
    address: str = ""
    """Where flows are taken; empty: where controllers are reached from."""
    port: int = 8745
    clock: Callable[[], float] = time.time


class Mover:
    """Moves the VMs of one host away, and takes others in (``MovePort``)."""

    def __init__(
        self, config: MoverConfig, gates: GatePort, hypervisor: Hypervisor, local_address: Callable[[], str]
    ) -> None:
        """Move guests by ``hypervisor``; ``local_address`` is where controllers are reached from. Nothing is set in motion yet."""
        self._config = config
        self._gates = gates
        self._hypervisor = hypervisor
        self._local_address = local_address
        self._identity = Identity(config.state / "identity")
        self._file = MovesFile(config.state / "moves.json")
        self._moves = Moves(config.host, Memory())
        self._listener = Listener(self._identity, config.port, self._let_in, even_loopback=bool(config.address))
        self._talks: dict[str, Handoff[Any, Any]] = {}
        self._leaving: dict[str, Leaving] = {}
        self._coming: dict[str, Coming] = {}
        self._migrating: set[str] = set()
        self._fresh: asyncio.Queue[Moving] = asyncio.Queue()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = 0
        self._unkept = ""

    # What the link asks

    def order(self, order: Expect | Depart | Forget) -> None:
        """Do this, and tell how far it has come."""
        if isinstance(order, Depart) and not order.migrate and not self._moves.knows(order.ticket.move):
            self._start(self._depart(order))
        else:
            self._order(order)

    def _order(self, order: Expect | Depart | Forget, against: str = "") -> None:
        guarded = isinstance(order, Depart) and self._gates.guarded(order.ticket.vnics)
        self._do(self._moves.order(order, guarded=guarded, now=_now(), clock=self._config.clock(), against=against))
        self._remember()
        self._woken.set()

    def said(self) -> Sequence[Moving]:
        """Return the latest word about each move that is not forgotten."""
        return self._moves.words

    def open(self) -> Sequence[tuple[Ticket, Phase]]:
        """Return the moves that this host has a part in, and how far each has come here."""
        return self._moves.open

    async def next_word(self) -> Moving:
        """Wait for a word that nobody has waited for yet; while a guest is stopped, its hosts have better things to do."""
        moving = await self._fresh.get()
        until = _now() + _STOPPED_SECONDS
        while self._moves.switching and _now() < until:  # noqa: ASYNC110 (it ends in many ways)
            await asyncio.sleep(_TICK_SECONDS)
        return moving

    # What the agent tells

    def begin(self) -> None:
        """Go on with what an earlier agent has begun, before the hypervisor has spoken."""
        try:
            memory = self._file.read()
        except (OSError, ValueError) as error:
            _log.error("what was known of moves cannot be read: they are over for this host", error=str(error))
            return
        self._moves = Moves(self._config.host, memory)
        self._do(self._moves.begin(_now()))
        for kept in memory.moves:
            if isinstance(kept, Departing) and kept.phase not in {Phase.FENCED, Phase.ABORTED}:
                self._leaving[kept.ticket.move] = self._gates.leaving(kept.ticket.vnics)

    def rules_held(self, digest: str, vnics: Collection[int]) -> None:
        """The kernel holds this ruleset now."""
        self._do(self._moves.everywhere(RulesHeld(digest=digest, vnics=frozenset(vnics))))

    def lived(self, domain: str, life: Life) -> None:
        """The hypervisor says how a domain is."""
        self._do(self._moves.lived(domain, life, _now()))

    def entered(self, domain: str, life: Life) -> None:
        """A domain is being made ready here, or is let go of."""
        self._do(self._moves.entered(domain, life, _now()))

    def listed(self, domains: Collection[str]) -> None:
        """The hypervisor has told all of its domains, and that these are they."""
        self._do(self._moves.listed(domains, _now()))

    async def run(self) -> None:
        """Move and take in, until cancelled. Nothing that goes wrong with a move ends the agent."""
        look_at = 0.0
        try:
            while True:
                if _now() >= look_at:
                    address = await self._listener.keep(self._config.address or self._local_address())
                    self._do(self._moves.everywhere(Listening(address=address, why=self._listener.trouble)))
                    look_at = _now() + _IDLE_SECONDS
                self._do(self._moves.everywhere(Ticked(now=_now(), clock=self._config.clock())))
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS if self._moves.busy else _IDLE_SECONDS):
                        await self._woken.wait()
        finally:
            self._listener.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            talks, self._talks = self._talks, {}
            for talk in talks.values():
                talk.cut()

    # Commands

    def _take(self, move: str, event: Event) -> None:
        self._do(self._moves.about(move, event))

    def _do(self, commands: Sequence[Do | Spread]) -> None:
        """Do one thing after the other: what comes of it is taken in before the next."""
        for each in commands:
            if isinstance(each, Spread):
                self._spread(each.moving)
                continue
            try:
                self._execute(each.ticket, each.command)
            except (KernelError, RefusedError) as error:  # the agent's core knows, and tries again
                _log.error("the kernel refuses", error=str(error), move=each.ticket.move)
                if isinstance(each.command, Withhold):  # what follows would let others forward
                    return

    def _spread(self, moving: Moving) -> None:
        told = {"step": str(moving.step), "move": moving.move[:8], **({"why": moving.why} if moving.why else {})}
        _log.info("a move has come this far", **told)
        self._fresh.put_nowait(moving)

    def _execute(self, ticket: Ticket, command: Command) -> None:
        move = ticket.move
        match command:
            case Withhold():
                self._gates.withhold(ticket.vnics)
            case Release():
                self._gates.release(ticket.vnics, amid=command.amid)
            case Reach():
                self._start(self._reach(ticket, command.address))
            case Say():
                if (talk := self._talks.get(move)) is not None:
                    with contextlib.suppress(HandoffError):  # whoever listens to it hears of that too
                        talk.send(command.message)
            case HangUp():
                if (talk := self._talks.pop(move, None)) is not None:
                    self._start(talk.close())
            case Take():
                self._take(move, self._took(ticket, command))
            case Copy():
                self._take(move, self._copy(ticket, command))
            case Migrate():
                self._start(self._migrate(ticket, command.address))
            case StopMigration():
                self._start(self._stop(ticket))
            case HandOver():
                leaving = self._leaving.pop(move, None) or self._gates.leaving(ticket.vnics)
                unprotected = leaving.end()
                leaving.drop()
                self._take(move, HandedOver(unprotected=unprotected))
            case Remember():
                self._remember()

    def _took(self, ticket: Ticket, take: Take) -> Event:
        if ticket.move not in self._coming:
            self._coming[ticket.move] = self._gates.coming(ticket.vnics)
        try:
            took = self._coming[ticket.move].take(take.parts)
        except RefusedError as error:
            _log.error("flows of another host are refused", source=ticket.source, vm=ticket.vm, error=str(error))
            return FlowsRefused(why=str(error))
        return FlowsTaken(flows=took.flows, refused=took.refused, unprotected=took.unprotected, now=_now())

    def _copy(self, ticket: Ticket, copy: Copy) -> Event:
        if ticket.move not in self._leaving:
            self._leaving[ticket.move] = self._gates.leaving(ticket.vnics)
        parts, flows = self._leaving[ticket.move].copy(whole=copy.whole)
        number = copy.number
        talk = self._talks.get(ticket.move)
        for together in _portions(parts):
            if talk is not None:
                with contextlib.suppress(HandoffError):
                    talk.send(Flows(number=number, parts=together))
            number += 1
        return Copied(number=number - 1, flows=flows, now=_now())

    def _remember(self) -> None:
        memory = self._moves.memory
        known = {kept.ticket.move for kept in memory.moves}
        for move in self._leaving.keys() - known:
            self._leaving.pop(move).drop()
        for move in self._coming.keys() - known:
            del self._coming[move]
        try:
            self._file.write(memory)
            self._unkept = ""
        except PrivateFileError as error:
            if str(error) != self._unkept:
                _log.error("a restart would not know of this host's moves", error=str(error))
            self._unkept = str(error)

    # Conversations

    def _start(self, work: Any) -> None:  # noqa: ANN401  (a coroutine)
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reach(self, ticket: Ticket, address: str) -> None:
        try:
            end: SourceEnd = await reach(address, self._identity.reaching(), ticket.to)
        except (HandoffError, IdentityError) as error:
            _log.warning("the destination of a move is not reached", vm=ticket.vm, to=ticket.to, error=str(error))
            self._take(ticket.move, Parted(why=str(error), now=_now()))
            return
        await self._talk(ticket.move, end)

    async def _let_in(self, end: DestinationEnd) -> None:
        """Somebody shows a certificate of the site."""
        if self._strangers >= _GUESTS:
            end.cut()
            return
        self._strangers += 1
        try:
            begun = await self._begun(end)
        finally:
            self._strangers -= 1
        if begun is None:
            await end.close()
        else:
            await self._talk(begun.move, end)

    async def _begun(self, end: DestinationEnd) -> Begin | None:
        """Hear what it begins with; None: that may not be."""
        host = "?"
        try:
            host = end.host
            async with asyncio.timeout(OPEN_SECONDS):
                begin = await end.receive(BEGIN_LIMIT)
            if not isinstance(begin, Begin):
                raise HandoffError("it does not begin")  # noqa: TRY301  (one way out for all)
            why = self._moves.begins(begin, host, self._config.clock())
            if why:
                end.send(Abort(why=why[:4096]))
                raise HandoffError(why)  # noqa: TRY301
        except (HandoffError, TimeoutError) as error:
            _log.error("a host may not hand flows over", host=host, error=str(error) or "it says nothing")
            return None
        return begin

    async def _talk(self, move: str, end: Handoff[Any, Any]) -> None:
        """Listen to the other end, until either hangs up. A later conversation takes the place of this one."""
        before = self._talks.pop(move, None)
        if before is not None:
            before.cut()
        self._talks[move] = end
        self._take(move, Joined(now=_now()))
        while self._talks.get(move) is end:
            try:
                message = await end.receive()
            except HandoffError as error:
                if self._talks.get(move) is end:
                    del self._talks[move]
                    self._take(move, Parted(why=str(error), now=_now()))
                end.cut()
            else:
                if self._talks.get(move) is end:
                    self._take(move, Heard(message=message, now=_now()))

    # The guest

    async def _depart(self, order: Depart) -> None:
        """Hand flows over for a guest that somebody else moves: if nobody does, another host would get them for the asking."""
        self._order(order, await asyncio.to_thread(self._hypervisor.leaving, order.ticket.domain))

    async def _migrate(self, ticket: Ticket, address: str) -> None:
        self._migrating.add(ticket.move)
        place = address.rpartition(":")[0].strip("[]")
        try:
            why = await asyncio.to_thread(self._hypervisor.migrate, ticket.domain, host=ticket.to, address=place)
        finally:
            self._migrating.discard(ticket.move)
        self._take(ticket.move, MigrationEnded(why=why, now=_now()))

    async def _stop(self, ticket: Ticket) -> None:
        mine = ticket.move in self._migrating
        await asyncio.to_thread(self._hypervisor.stop, ticket.domain)
        if not mine:  # else the call that moves it says how it went
            self._take(ticket.move, MigrationEnded(why="it was stopped", now=_now()))


def _portions(parts: Sequence[bytes]) -> list[list[bytes]]:
    """Parts that go together in one message; at least one message."""
    portions: list[list[bytes]] = [[]]
    size = 0
    for part in parts:
        if portions[-1] and (size + len(part) > _TOGETHER or len(portions[-1]) >= PARTS):
            portions.append([])
            size = 0
        portions[-1].append(part)
        size += len(part)
    return portions


def _now() -> float:
    return time.monotonic()
