"""A shard over a real store: who leads, what hosts are sent, what is known of them. Agents are played."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from credentials import Site
from serai.controller import shard as shard_module
from serai.controller.core import Controller, Event, MoveEnded, MovePlanned, Refusal
from serai.controller.current import Current
from serai.controller.shard import Shard
from serai.model.catalog import Key, read_files
from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.policy.compiler.domains import compile_domains
from serai.policy.compiler.fit import ROOM
from serai.store.records import Commit, Entry, JoinTokenRecord
from serai.store.store import Store
from serai.wire import remote

ENTRY = Entry(who="test", verb="apply", object="resources", scope="/", outcome="done")
SIGHT = remote.Sight(macs=["52:54:00:00:00:01"], vnics=[])


def world(port: int) -> str:
    return f"""
apiVersion: serai.dev/v1
kind: Tenant
metadata: {{name: acme}}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {{name: a}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {{name: front, scope: /acme}}
spec: {{subnets: [10.0.0.0/24]}}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {{name: web, scope: /acme}}
spec:
  host: a
  vnics: [{{network: front, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}}]
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {{name: web, scope: /acme}}
spec:
  tier: Tenant
  ingress: [{{name: all, action: Accept, ports: [tcp/{port}]}}]
"""


@dataclasses.dataclass
class Played:
    """A shard, and the agents' end of it."""

    store: Store
    current: Current
    shard: Shard
    sent: list[tuple[str, remote.FromController]] = dataclasses.field(default_factory=list)
    closed: list[str] = dataclasses.field(default_factory=list)
    held: HostRuleset | None = None

    def send(self, host: str, message: remote.FromController) -> int | None:
        self.sent.append((host, message))
        return len(self.sent)

    def revoke(self, host: str) -> None:
        self.closed.append(host)

    def close_all(self, reason: str) -> None:
        self.closed.append(reason)

    async def commit(self, text: str) -> int:
        writes = {Key.of(d.resource): d.body for d in read_files({"test.yaml": text})}
        head = await self.store.revisions.head()
        commit = Commit(head=head, by="test", message="", digest="", writes=dict(writes), audit=ENTRY)
        number = await self.store.revisions.commit(commit, datetime.now(UTC))
        await self.current.catch_up()
        return number

    def arrive(self, *, parts: bool = False) -> None:
        held = self.held
        self.shard.arrived(
            "a",
            remote.Hello(
                version=1, agent="test", epoch=1, term=0, sight=SIGHT, digest=bytes.fromhex(held.digest) if held else None,
                parts=list(held.parts) if held and parts else [],
            ),
        )  # fmt: skip

    def take(self, message: remote.FromController) -> None:
        """Enforce what was sent, and say so."""
        if isinstance(message, remote.Whole):
            self.held = HostRuleset.decode(message.ruleset)
        else:
            assert isinstance(message, remote.Difference)
            assert self.held is not None
            self.held = Delta.decode(message.delta).apply(self.held)
        self.shard.held("a", remote.Held(digest=bytes.fromhex(self.held.digest), answers=len(self.sent)))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 (what is waited for is no event)
                await asyncio.sleep(0.005)

    def state(self) -> tuple[bool, bool, int, str]:
        """Of host a: connected, holding what it should, the revision that this is of, and its trouble."""
        (state,) = self.shard.states()
        return state.connected, state.holds == state.wanted, state.revision, state.trouble


@contextlib.asynccontextmanager
async def played(directory: Path, *, url: str = "wss://one:1", leads: bool = True) -> AsyncIterator[Played]:
    store = await Store.open(f"sqlite:///{directory}/serai.db", signer=Site.make(directory).keys.audit_signer())
    current = Current(store)
    shard = Shard(store, current, name="all", url=url, by=compile_domains, clock=lambda: datetime.now(UTC))
    made = Played(store, current, shard)
    shard.serve(made)
    await current.load()
    tasks = [asyncio.create_task(part) for part in (current.run(), *([shard.run()] if leads else []))]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        current.close()
        await store.close()


def run(directory: Path, play: Callable[[Played], Awaitable[None]]) -> None:
    async def playing() -> None:
        async with played(directory) as at:
            await at.commit(world(80))
            await at.until(lambda: at.shard.term is not None)
            await play(at)

    asyncio.run(playing())


def test_a_host_is_sent_all_and_then_changes(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        at.arrive()
        await at.until(lambda: len(at.sent) == 1)
        assert isinstance(at.sent[0][1], remote.Whole)
        at.take(at.sent[0][1])
        assert at.state() == (True, True, 1, "")
        assert await at.commit(world(81)) == 2
        await at.until(lambda: len(at.sent) == 2)
        assert isinstance(at.sent[1][1], remote.Difference)
        assert at.state()[1] is False
        at.take(at.sent[1][1])
        await at.until(lambda: at.state() == (True, True, 2, ""))
        assert [vnic.path for vnic in at.held.vnics] == ["/acme:web/eth0"] if at.held else False

    run(tmp_path, play)


def test_a_host_that_holds_it_already_is_sent_nothing(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        at.arrive()
        await at.until(lambda: len(at.sent) == 1)
        at.take(at.sent[0][1])
        at.shard.left("a")
        assert at.state()[0] is False
        at.arrive(parts=True)
        await at.until(lambda: at.state() == (True, True, 1, ""))
        await asyncio.sleep(0.1)
        assert len(at.sent) == 1

    run(tmp_path, play)


def test_what_is_refused_is_sent_whole_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "REFUSED_SECONDS", 0.5)

    async def play(at: Played) -> None:
        at.arrive()
        for number in (1, 2):
            await at.until(lambda number=number: len(at.sent) == number)  # type: ignore[misc]
            at.shard.held("a", remote.Held(digest=None, refused="no room", answers=number))
        await asyncio.sleep(0.1)
        assert len(at.sent) == 2
        assert at.state() == (True, False, 0, "no room")
        await at.until(lambda: len(at.sent) == 3)
        at.take(at.sent[2][1])
        assert at.state() == (True, True, 1, "")

    run(tmp_path, play)


def test_one_leads_at_a_time_and_the_other_knows_what_hosts_hold(tmp_path: Path) -> None:
    async def playing() -> None:
        async with played(tmp_path) as one, played(tmp_path, url="wss://two:1") as other:
            await one.commit(world(80))
            await one.until(lambda: one.shard.term is not None)
            one.arrive()
            await one.until(lambda: len(one.sent) == 1)
            one.take(one.sent[0][1])
            assert other.shard.term is None
            assert await other.shard.preview(1, other.current.edition.catalog.world, None) == ()  # type: ignore[arg-type]
            await asyncio.sleep(shard_module.STATES_SECONDS * 2)
            (state,) = await other.store.hosts.states()
            assert (state.holds, state.connected) == (one.held.digest if one.held else None, True)
            leader = await other.store.leader("all")
            assert leader
            assert (leader.url, leader.term, leader.compiled) == ("wss://one:1", 1, 1)

    asyncio.run(playing())


def test_an_agent_that_has_obeyed_a_later_leader_makes_it_lead_anew(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        at.shard.outranked(7)
        await at.until(lambda: at.shard.term == 8)
        assert at.closed == ["this controller leads no more"]

    run(tmp_path, play)


def test_a_revoked_host_is_parted_with(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        now = datetime.now(UTC)
        token = {"key_digest": b"k" * 32, "serial": "1", "until": now, "entry": ENTRY, "now": now}
        record = JoinTokenRecord(id="t", host="a", secret_digest=b"s", expires=now.replace(year=2100), by="test")
        await at.store.hosts.add_join_token(record, ENTRY, now)
        await at.store.hosts.join("t", b"s", **token)  # type: ignore[arg-type]
        at.arrive()
        await at.until(lambda: len(at.sent) == 1)
        await at.store.hosts.revoke("a", ENTRY, now)
        await at.until(lambda: at.closed == ["a"])
        assert list(at.shard.states()) == []

    run(tmp_path, play)


@dataclasses.dataclass
class Beside:
    """Leads together with a shard."""

    before: list[Event] = dataclasses.field(default_factory=list)
    terms: list[int] = dataclasses.field(default_factory=list)
    taken: list[Event] = dataclasses.field(default_factory=list)
    refused: list[Refusal] = dataclasses.field(default_factory=list)
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def take_over(self, term: int) -> list[Event]:
        self.terms.append(term)
        return self.before

    async def lead(self, term: int) -> None:
        assert term == self.terms[-1]
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    def compiled(self, events: Sequence[Event], refusals: Sequence[Refusal]) -> None:
        self.taken += events
        self.refused += refusals


async def led(at: Played, beside: Beside) -> None:
    """Have it lead anew, with that beside it."""
    at.shard.accompany(beside)
    at.shard.outranked(at.shard.term or 0)
    await at.until(lambda: bool(beside.terms) and at.shard.term == beside.terms[-1])


class Stubborn(Beside):
    """Fails when it is to end for the first time."""

    async def lead(self, term: int) -> None:
        try:
            await super().lead(term)
        finally:
            if len(self.terms) == 1:
                raise RuntimeError("it cannot be put away")


def test_whoever_is_to_end_ends_whatever_fails_just_then(tmp_path: Path) -> None:
    async def playing() -> None:
        async with played(tmp_path, leads=False) as at:
            at.shard.accompany(Stubborn())
            running = asyncio.create_task(at.shard.run())
            await at.until(lambda: at.shard.term is not None)
            running.cancel()
            await asyncio.wait({running}, timeout=5)
            assert running.cancelled(), "it goes on to lead"
            assert at.shard.term is None

    asyncio.run(playing())


def test_a_move_that_is_open_is_planned_before_any_host_is_heard(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        beside = Beside(before=[MovePlanned(vm="/acme:web", to="b")])
        at.shard.outranked(5)
        await led(at, beside)
        assert beside.before[0] in beside.taken
        at.shard.arrived(
            "b",
            remote.Hello(
                version=1, agent="test", epoch=1, term=0, sight=remote.Sight(macs=[], vnics=[]), digest=None, parts=[]
            ),
        )
        assert at.shard.wanted("b") is None  # what it should hold is not known of a host that has just come
        await at.until(lambda: bool(at.sent))
        host, message = at.sent[0]
        assert isinstance(message, remote.Whole)
        ruleset = HostRuleset.decode(message.ruleset)
        assert (host, [vnic.path for vnic in ruleset.vnics]) == ("b", ["/acme:web/eth0"])
        assert at.shard.wanted("b") == ruleset.digest
        at.shard.unplan("/acme:web")
        await at.until(lambda: len(at.sent) == 2)
        assert MoveEnded(vm="/acme:web") in beside.taken
        at.shard.outranked(9)
        await at.until(lambda: at.shard.term == 10)
        assert beside.ended.is_set()  # it led no longer than the shard

    run(tmp_path, play)


def test_a_move_that_cannot_be_planned_is_no_trouble_of_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "Controller", functools.partial(Controller, room={**ROOM, "vnics": 0}))

    async def play(at: Played) -> None:
        beside = Beside()
        at.shard.outranked(5)
        await led(at, beside)
        at.shard.arrived(
            "b",
            remote.Hello(
                version=1, agent="test", epoch=1, term=0, sight=remote.Sight(macs=[], vnics=[]), digest=None, parts=[]
            ),
        )
        await at.until(lambda: bool(at.sent))
        at.shard.plan("/acme:web", "b")
        await at.until(lambda: bool(beside.refused))
        assert [refusal.event for refusal in beside.refused] == [MovePlanned(vm="/acme:web", to="b")]
        assert at.shard.trouble == ""

    run(tmp_path, play)


def test_where_vms_are_is_told_as_hosts_tell_it(tmp_path: Path) -> None:
    async def play(at: Played) -> None:
        mac = Mac("52:54:00:00:00:01")
        assert at.shard.places([mac]) == frozenset()
        at.arrive()
        assert at.shard.places([mac]) == {"a"}
        at.shard.left("a")
        assert at.shard.places([mac]) == {"a"}  # what it has told last
        at.arrive()
        at.shard.seen("a", remote.Sight(macs=[], vnics=[3]))
        assert (at.shard.places([mac]), at.shard.places([VnicId(3)])) == (frozenset(), {"a"})
        at.shard.outranked(5)
        await at.until(lambda: at.shard.term == 6)
        assert at.shard.places([VnicId(3)]) == frozenset()

    run(tmp_path, play)
