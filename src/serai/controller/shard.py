"""Leads some hosts: compiles for them, tells them what to enforce, and knows what they hold. One controller at a time does."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final, Protocol, TypeVar

import structlog

from serai.controller.core import (
    Controller,
    Event,
    HostLeft,
    HostReported,
    MoveEnded,
    MovePlanned,
    Refusal,
    SendRuleset,
    WorldChanged,
)
from serai.controller.current import Current, Edition
from serai.controller.news import News
from serai.controller.whereabouts import Sign, Whereabouts
from serai.model.inventory import Mac, VnicId
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.domains import DomainCompiler
from serai.store.records import HostState
from serai.store.store import Store
from serai.wire import remote

_log = structlog.get_logger(__name__)

ATTEMPT_SECONDS: Final = 0.5
"""How often one that does not lead tries to, and one that does asks whether it still does."""
STATES_SECONDS: Final = 0.5
"""How old may be what other controllers know of hosts."""
REFUSED_SECONDS: Final = 5.0
"""How long a host that refuses its ruleset is left alone."""
_GATHER_SECONDS: Final = 0.002
"""How long events are gathered before they are compiled: a crowd that comes at once costs one update."""
_CROWD: Final = 64
"""The most events that are compiled at once: nobody shall wait for all of a crowd."""

T = TypeVar("T")


class Endpoint(Protocol):
    """Where agents are connected."""

    def send(self, host: str, message: remote.FromController) -> int | None:
        """Send something to the agent of a host, and return the number that its answer will name; None: it is not there."""
        ...

    def revoke(self, host: str) -> None:
        """End the conversation with the agent of a host at once, where there is one."""
        ...

    def close_all(self, reason: str) -> None:
        """End all conversations."""
        ...


class Companion(Protocol):
    """Who has something to do as long as this controller leads."""

    async def take_over(self, term: int) -> Sequence[Event]:
        """Get ready to lead; return what must be known of before any host is heard."""
        ...

    async def lead(self, term: int) -> None:
        """Do what there is to do, until cancelled."""
        ...

    def compiled(self, events: Sequence[Event], refusals: Sequence[Refusal]) -> None:
        """What hosts should hold follows from these events from now on, but for those that were refused."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Revised:
    """There is a new revision."""

    edition: Edition
    update: Update


@dataclasses.dataclass(frozen=True, slots=True)
class _Outgoing:
    """A ruleset, written down."""

    host: str
    digest: str
    raw: bytes
    whole: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a batch of events."""

    outgoing: Sequence[_Outgoing]
    refusals: Sequence[Refusal]
    wanted: dict[str, str]
    seconds: float


@dataclasses.dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of one host."""

    state: HostState
    macs: frozenset[Mac] = frozenset()
    vnics: frozenset[VnicId] = frozenset()
    refusals: int = 0
    """How often what was sent was refused, one after the other."""
    compiled: bool = False
    """What it should hold is what this leader has found out, not one before it."""


class Shard:
    """The hosts of one shard, while this controller leads it."""

    def __init__(
        self, store: Store, current: Current, *, name: str, url: str, by: DomainCompiler, clock: Callable[[], datetime]
    ) -> None:
        """Lead nothing yet. ``url`` is where agents reach this controller."""
        self._store, self._current, self._by, self._clock = store, current, by, clock
        self._leadership = store.leadership(name, url, clock=clock)
        self._floor = 0
        self.name, self.url = name, url
        self._workshop = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compiler")
        self._endpoint: Endpoint | None = None
        self._companions: list[Companion] = []
        self.trouble = ""
        """What keeps hosts from having what they should; empty while nothing does."""
        self._begin()
        current.follow(self._revised)

    def _begin(self) -> None:
        """Know nothing."""
        self._term: int | None = None
        self._follows = False
        self._core = Controller(by=self._by)
        self._known: dict[str, _Known] = {}
        self._sights = Whereabouts()
        self._events: asyncio.Queue[Event | _Revised] = asyncio.Queue()
        self._compiled = 0
        self._stirred: set[str] = set()
        self.news = News()
        """Told as soon as something is known of hosts that was not before."""
        self._unheard = False

    def serve(self, endpoint: Endpoint) -> None:
        """Speak to agents through this."""
        self._endpoint = endpoint

    def accompany(self, companion: Companion) -> None:
        """Lead together with this, too."""
        self._companions.append(companion)

    @property
    def term(self) -> int | None:
        """The term in which this controller leads; None: it does not."""
        return self._term

    @property
    def compiled(self) -> int:
        """The revision up to which hosts have been told."""
        return self._compiled

    def outranked(self, term: int) -> None:
        """Lead in a term higher than this one from now on, or not at all: somebody has obeyed a leader of it."""
        self._floor = max(self._floor, term)

    def states(self) -> Iterator[HostState]:
        """Go through what is known of hosts, in order of name."""
        for name in sorted(self._known):
            yield self._known[name].state

    def guarded(self, host: str) -> frozenset[VnicId]:
        """Return the vNICs that the gates of a host guard, as its agent says."""
        known = self._known.get(host)
        return known.vnics if known else frozenset()

    def signs(self) -> dict[str, frozenset[Sign]]:
        """Return what each host reports: what is behind its taps, and what its gates guard. Who does not lead knows of none."""
        return {host: known.macs | known.vnics for host, known in self._known.items()}

    def state(self, host: str) -> HostState | None:
        """Return what is known of a host."""
        known = self._known.get(host)
        return known.state if known else None

    def wanted(self, host: str) -> str | None:
        """Return the digest that a host should hold; None: that has not been found out since this controller leads."""
        known = self._known.get(host)
        return known.state.wanted if known and known.compiled else None

    def places(self, signs: Iterable[Sign]) -> frozenset[str]:
        """Return the hosts that have told of any of these, as far as is known since this controller leads."""
        return self._sights.seen(signs)

    def plan(self, vm: str, to: str) -> None:
        """Have a host sent the rules of a VM that is about to go there."""
        self._events.put_nowait(MovePlanned(vm=vm, to=to))

    def unplan(self, vm: str) -> None:
        """A VM is not about to go anywhere any more."""
        self._events.put_nowait(MoveEnded(vm=vm))

    # Who leads

    async def run(self) -> None:
        """Lead whenever nobody else does, until cancelled."""
        try:
            while True:
                if (term := await self._attempt()) is not None:
                    await self._lead_apart(term)
                await asyncio.sleep(ATTEMPT_SECONDS)
        finally:
            self._workshop.shutdown(wait=False, cancel_futures=True)
            await self._leadership.release()

    async def _attempt(self) -> int | None:
        try:
            return await self._leadership.attempt(self._floor)
        except Exception as error:  # noqa: BLE001 (the database may be away for a while)
            _log.error("cannot ask who leads", shard=self.name, error=str(error))
            return None

    async def _lead_apart(self, term: int) -> None:
        """Lead in a task of its own: a group of tasks that fails just when it is cancelled keeps that to itself."""
        leading = asyncio.create_task(self._lead(term))
        try:
            await asyncio.wait({leading})
        finally:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
        leading.result()

    async def _lead(self, term: int) -> None:
        """Lead until somebody else does, or nobody can say who does."""
        try:
            await self._take_over(term)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._compile())
                tasks.create_task(self._tell_others(term))
                tasks.create_task(self._watch_hosts())
                tasks.create_task(self._watch_leadership(term))
                for companion in self._companions:
                    tasks.create_task(companion.lead(term))
        except* _DeposedError:
            _log.warning("leads no more", shard=self.name, term=term)
        except* Exception as trouble:  # noqa: BLE001 (it is tried again)
            _log.error("cannot lead", shard=self.name, term=term, error=str(trouble.exceptions[0]))
        finally:
            self._begin()
            if self._endpoint is not None:
                self._endpoint.close_all("this controller leads no more")
            await self._leadership.release()

    async def _take_over(self, term: int) -> None:
        began = time.monotonic()
        self._follows = True  # before the first look: nothing may come between
        edition = await self._current.catch_up()
        for state in await self._store.hosts.states():
            self._known[state.name] = _Known(state=dataclasses.replace(state, connected=False))
        before = [event for companion in self._companions for event in await companion.take_over(term)]
        outcome = await self._work(self._handle, [WorldChanged(world=edition.catalog.world), *before])
        self._complain(outcome.refusals)
        for companion in self._companions:
            companion.compiled(before, outcome.refusals)
        gc.freeze()  # what is known now stays: to look through all of it again and again would hold everything up
        self._compiled, self._term = edition.revision, term
        taken = round(time.monotonic() - began, 2)
        _log.info("leads", shard=self.name, term=term, revision=edition.revision, seconds=taken)

    async def _watch_leadership(self, term: int) -> None:
        while True:
            await asyncio.sleep(ATTEMPT_SECONDS)
            if self._floor > term or not await self._leadership.alive():
                raise _DeposedError

    async def _watch_hosts(self) -> None:
        """Part with hosts that are revoked."""
        mark = None
        while True:
            if mark != self._current.hosts_mark:
                mark = self._current.hosts_mark
                for record in await self._store.hosts.all():
                    if record.revoked and self._endpoint is not None:
                        self._endpoint.revoke(record.name)
                        if record.name in self._known:
                            del self._known[record.name]
                            self._sights.report(record.name, None)
                            self._events.put_nowait(HostLeft(host=record.name))
            await asyncio.sleep(STATES_SECONDS / 5)

    # What happens

    async def _revised(self, edition: Edition, update: Update) -> None:
        if self._follows:
            self._events.put_nowait(_Revised(edition, update))

    def arrived(self, host: str, hello: remote.Hello) -> None:
        """An agent is there."""
        known = self._known.get(host)
        self._known[host] = fresh = _Known(
            state=HostState(
                name=host, connected=True, since=self._clock(), agent=hello.agent, epoch=hello.epoch, holds=_hex(hello.digest),
                wanted=known.state.wanted if known else None, revision=known.state.revision if known else 0,
                trouble="", vnics=len(hello.sight.vnics),
            )
        )  # fmt: skip
        self._look(fresh, hello.sight)
        self._report(fresh, parts=frozenset(hello.parts))

    def seen(self, host: str, sight: remote.Sight) -> None:
        """Whom a host runs has changed."""
        known = self._known[host]
        self._look(known, sight)
        self._put(known, vnics=len(sight.vnics))
        self._report(known)

    def held(self, host: str, held: remote.Held) -> None:
        """A host tells what it holds, most often in answer to what it was sent."""
        known = self._known[host]
        self._put(known, holds=_hex(held.digest), trouble=held.refused)
        self._note_revision(known)
        self._tell_news()
        if not held.refused:
            known.refusals = 0
            self._report(known)
            return
        _log.warning("host refuses what it was sent", host=host, why=held.refused)
        known.refusals += 1
        # A change that does not fit is mended by sending all; what is refused again and again is not sent again and again.
        pause = 0.0 if known.refusals == 1 else REFUSED_SECONDS
        asyncio.get_running_loop().call_later(pause, self._report_again, known)

    def left(self, host: str) -> None:
        """An agent is there no more; its gates go on."""
        if host in self._known:
            self._put(self._known[host], connected=False, since=self._clock())
            self._tell_news()

    def _report_again(self, known: _Known) -> None:
        if self._known.get(known.state.name) is known and known.state.connected:
            self._report(known)

    def _look(self, known: _Known, sight: remote.Sight) -> None:
        known.macs, known.vnics = frozenset(map(Mac, sight.macs)), frozenset(map(VnicId, sight.vnics))
        self._sights.report(known.state.name, known.macs | known.vnics)

    def _report(self, known: _Known, parts: frozenset[bytes] | None = None) -> None:
        state = known.state
        self._events.put_nowait(
            HostReported(host=state.name, macs=known.macs, vnics=known.vnics, digest=state.holds, parts=parts)
        )

    def _put(self, known: _Known, **what: object) -> None:
        changed = dataclasses.replace(known.state, **what)  # type: ignore[arg-type]  # fields of HostState
        if changed != known.state:
            known.state = changed
            self._stirred.add(changed.name)
            self._unheard = True

    def _tell_news(self) -> None:
        if self._unheard:
            self._unheard = False
            self.news.tell()

    def _note_revision(self, known: _Known) -> None:
        if known.state.holds == known.state.wanted:
            self._put(known, revision=self._compiled)

    # What is done about it

    async def _compile(self) -> None:
        while True:
            batch = [await self._events.get()]
            await asyncio.sleep(_GATHER_SECONDS)
            while not self._events.empty() and len(batch) < _CROWD:
                batch.append(self._events.get_nowait())
            revision = self._compiled
            events: list[Event] = []
            for each in batch:
                if not isinstance(each, _Revised):
                    events.append(each)
                elif each.edition.revision > revision:  # else it was there when this controller began to lead
                    revision = each.edition.revision
                    events.append(WorldChanged(world=each.edition.catalog.world, update=each.update))
            outcome = await self._work(self._handle, events)
            self._unheard |= revision != self._compiled
            self._compiled = revision
            self._carry_out(outcome)
            for companion in self._companions:
                companion.compiled(events, outcome.refusals)
            self._tell_news()

    def _handle(self, events: Sequence[Event]) -> _Outcome:
        """Compile. This runs beside the event loop."""
        began = time.monotonic()
        answers = self._core.handle(*events)
        outgoing = [_written(answer) for answer in answers if isinstance(answer, SendRuleset)]
        return _Outcome(
            outgoing=outgoing,
            refusals=[answer for answer in answers if isinstance(answer, Refusal)],
            wanted={host: self._core.wanted(host) for host in self._core.hosts},
            seconds=time.monotonic() - began,
        )

    def _carry_out(self, outcome: _Outcome) -> None:
        self._complain(outcome.refusals)
        for host, digest in outcome.wanted.items():
            known = self._known.get(host)
            if known is not None:
                known.compiled = True
                if known.state.wanted != digest:
                    self._put(known, wanted=digest)
                    self._note_revision(known)
        for each in outcome.outgoing:
            about = {"number": 0, "term": self._term or 0, "revision": self._compiled}
            message = (
                remote.Whole(ruleset=each.raw, **about) if each.whole else remote.Difference(delta=each.raw, **about)
            )
            if self._endpoint is not None:
                self._endpoint.send(each.host, message)

    def _complain(self, refusals: Iterable[Refusal]) -> None:
        # A move that cannot be made ends, and whoever wanted it hears why.
        others = [refusal for refusal in refusals if not isinstance(refusal.event, MovePlanned)]
        self.trouble = "; ".join(str(refusal.why) for refusal in others)
        for refusal in others:
            _log.error("cannot be compiled", error=str(refusal.why))

    async def _tell_others(self, term: int) -> None:
        """Keep in the database what other controllers shall know of hosts."""
        told = -1
        while True:
            await asyncio.sleep(STATES_SECONDS)
            if self._stirred or told != self._compiled:
                stirred, self._stirred, told = self._stirred, set(), self._compiled
                states = [self._known[name].state for name in stirred if name in self._known]
                await self._store.hosts.put_states(states, shard=self.name, term=term, compiled=self._compiled)

    async def preview(self, revision: int, world: World, update: Update) -> Sequence[str]:
        """Return which hosts would be sent another ruleset if what is in force at ``revision`` were changed so.

        Only the controller that leads knows; others return none.

        Raises:
            FitError: a host would have no room for what it would have to hold.
        """
        if self._term is None:
            return ()
        # What is otherwise is told for one revision; when another has been compiled last, it is found out anew.
        return await self._work(lambda: self._core.foresee(world, update if self._compiled == revision else None))

    async def _work(self, job: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workshop, job, *arguments)


class _DeposedError(Exception):
    """This controller leads no more."""


def _hex(digest: bytes | None) -> str | None:
    return digest.hex() if digest else None


def _written(command: SendRuleset) -> _Outgoing:
    if command.change is None:
        raw, whole = command.ruleset.encode(), True
    else:
        raw, whole = command.change.encode(), False
    return _Outgoing(host=command.ruleset.host, digest=command.ruleset.digest, raw=raw, whole=whole)
