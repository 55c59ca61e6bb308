"""Two agents and a VM between them, over real TLS on the loopback: only kernels and hypervisors are played."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from blackhole import Mode, proxy
from credentials import Site
from serai.agent.identity import Identity
from serai.agent.moving import runtime
from serai.agent.moving.kept import Phase
from serai.agent.moving.port import Took
from serai.agent.moving.runtime import Mover, MoverConfig
from serai.agent.refused import RefusedError
from serai.model.life import Life
from serai.model.migration import Step, Ticket
from serai.wire.handoff import VERSION, Abort, Begin, Flows, Taken, Turn
from serai.wire.peer import HandoffError, SourceEnd, reach
from serai.wire.pki import identity_of_der
from serai.wire.remote import Depart, Expect, Forget, Moving

RULES, VNICS = "11" * 32, (1, 2)
TICKET = Ticket(move="a" * 32, epoch=1, vm="/acme:web", domain="web", vnics=list(VNICS), source="a", to="b", until=1e12)


class FakeGates:
    """Gates that note when they are open, and flows that are names and numbers."""

    def __init__(self) -> None:
        self.flows: dict[int, dict[str, int]] = {vnic: {} for vnic in VNICS}
        self.log: list[str] = []
        self.known = True
        self.ended = False
        self.held = 0

    def guarded(self, vnics: Collection[int]) -> bool:
        return self.known and set(vnics) <= set(VNICS)

    def withhold(self, vnics: Collection[int]) -> None:
        assert set(vnics) == set(VNICS)
        self.log.append("closed")

    def release(self, vnics: Collection[int], *, amid: bool) -> None:
        assert set(vnics) == set(VNICS)
        self.log.append("open amid" if amid else "open")

    @property
    def open(self) -> bool:
        return not self.log or self.log[-1] != "closed"

    def leaving(self, vnics: Collection[int]) -> FakeLeaving:
        return FakeLeaving(self, vnics)

    def coming(self, vnics: Collection[int]) -> FakeComing:
        return FakeComing(self, vnics)


class FakeLeaving:
    def __init__(self, gates: FakeGates, vnics: Collection[int]) -> None:
        self.gates, self.vnics = gates, vnics
        self.told: dict[tuple[int, str], int] = {}
        gates.held += 1

    def copy(self, *, whole: bool) -> tuple[Sequence[bytes], int]:
        parts, count = [], 0
        for vnic in self.vnics:
            fresh = {f: n for f, n in self.gates.flows[vnic].items() if whole or self.told.get((vnic, f)) != n}
            self.told |= {(vnic, flow): n for flow, n in fresh.items()}
            parts += [msgspec.msgpack.encode((vnic, {flow: n})) for flow, n in fresh.items()]
            count += len(fresh)
        return parts, count

    def end(self) -> int:
        self.gates.ended = True
        return 0

    def drop(self) -> None:
        self.gates.held -= 1


class FakeComing:
    def __init__(self, gates: FakeGates, vnics: Collection[int]) -> None:
        self.gates, self.vnics = gates, vnics

    def take(self, parts: Sequence[bytes]) -> Took:
        refused = 0
        for part in parts:
            try:
                vnic, flows = msgspec.msgpack.decode(part, type=tuple[int, dict[str, int]])
            except msgspec.MsgspecError as error:
                raise RefusedError(f"no flows: {error}") from error
            if vnic not in self.vnics:
                raise RefusedError(f"these flows are of vNIC {vnic}")
            for flow, packets in flows.items():
                if flow.startswith("denied"):
                    refused += 1
                else:
                    self.gates.flows[vnic][flow] = max(packets, self.gates.flows[vnic].get(flow, 0))
        return Took(flows=len(parts) - refused, refused=refused, unprotected=0)


class FakeHypervisor:
    """Moves the guest when it is told to, step by step."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked: list[tuple[str, str, str]] = []
        self.stopped: list[str] = []
        self.stays = ""
        """Why it does not move the guest away, when somebody else wants that."""
        self.result: asyncio.Future[str] | None = None

    def migrate(self, domain: str, *, host: str, address: str) -> str:
        async def wait() -> str:
            self.asked.append((domain, host, address))
            self.result = self.loop.create_future()
            return await self.result

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(20)

    def leaving(self, domain: str) -> str:
        assert domain == "web"
        return self.stays

    def stop(self, domain: str) -> None:
        def stop() -> None:
            self.stopped.append(domain)
            if self.result is not None and not self.result.done():
                self.result.set_result("it was stopped")

        self.loop.call_soon_threadsafe(stop)

    def ends(self, why: str = "") -> None:
        assert self.result is not None
        self.result.set_result(why)


class Scene:
    def __init__(self, site: Site, state: Path) -> None:
        self.site = Site(directory=state, keys=site.keys)
        self.state = state
        self.gates = {host: FakeGates() for host in ("a", "b")}
        self.movers: dict[str, Mover] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.words: dict[str, list[Moving]] = {"a": [], "b": []}
        self.hypervisor = FakeHypervisor(asyncio.get_running_loop())
        self.address = "127.0.0.1"
        for host in ("a", "b"):
            self.site.identity(host)
            self.start(host)

    def start(self, host: str) -> None:
        mover = Mover(
            MoverConfig(host=host, state=self.state / host, address=self.address, port=0), self.gates[host], self.hypervisor,
            lambda: "127.0.0.1",
        )  # fmt: skip
        self.movers[host] = mover
        mover.begin()
        mover.rules_held(RULES, VNICS)

        async def hear() -> None:
            while True:
                self.words[host].append(await mover.next_word())

        async def both() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(mover.run())
                tasks.create_task(hear())

        self.tasks[host] = asyncio.create_task(both())

    async def kill(self, *hosts: str) -> None:
        for host in hosts:
            self.tasks[host].cancel()
            await asyncio.gather(self.tasks[host], return_exceptions=True)

    async def until(self, true: Callable[[], Any]) -> None:
        while not true():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.005)

    async def told(self, host: str, step: Step) -> Moving:
        await self.until(lambda: any(word.step is step for word in self.words[host]))
        return next(word for word in self.words[host] if word.step is step)

    async def expected(self) -> str:
        """The destination waits; returns where."""
        self.movers["b"].order(Expect(ticket=TICKET, term=1, digest=bytes.fromhex(RULES)))
        self.movers["b"].lived("web", Life.HELD)
        return (await self.told("b", Step.PREPARED)).address

    async def departed(self, address: str = "") -> None:
        """Flows are there, and the hypervisor is at work."""
        address = address or await self.expected()
        self.movers["a"].order(Depart(ticket=TICKET, term=1, address=address))
        await self.told("a", Step.COPIED)
        await self.until(lambda: self.hypervisor.asked)

    async def move_guest(self) -> None:
        self.movers["a"].lived("web", Life.HELD)
        await self.until(lambda: self.gates["b"].open)
        assert not self.gates["a"].open
        self.movers["b"].lived("web", Life.RUNS)
        self.movers["a"].lived("web", Life.MOVED)
        self.hypervisor.ends()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("mover-site"))


@pytest.fixture
def play(site: Site, tmp_path: Path) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    async def limited(test: Callable[[Scene], Awaitable[None]]) -> None:
        scene = Scene(site, tmp_path)
        async with asyncio.timeout(25):
            try:
                await test(scene)
            finally:
                await scene.kill("a", "b")

    return lambda test: asyncio.run(limited(test))


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


def test_a_vm_moves_with_its_flows(play: Play) -> None:
    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows = {1: {f"f{n}": n for n in range(300)}, 2: {"other": 5, "denied": 1}}
        await scene.departed()
        assert scene.hypervisor.asked == [("web", "b", "127.0.0.1")]
        assert b.flows == {1: a.flows[1], 2: {"other": 5}}
        assert (a.log, b.log) == ([], ["closed"])
        a.flows[1] |= {"new": 1, "f5": 500}
        await scene.until(lambda: b.flows[1] == a.flows[1])  # they follow
        a.flows[2]["last"] = 7
        await scene.move_guest()
        assert b.flows[2] == {"other": 5, "last": 7}, "all of them, before the gate opened"
        fenced, carried = await scene.told("a", Step.FENCED), await scene.told("b", Step.CARRIED)
        assert [word.step for word in scene.words["a"]] == [Step.COPIED, Step.SWITCHED, Step.FENCED]
        assert (a.log, b.log, a.ended, b.ended) == (["closed"], ["closed", "open"], True, False)
        assert (carried.facts.digest, carried.facts.refused, fenced.why) == (RULES, 1, "")
        assert (fenced.facts.flows_first, fenced.facts.flows_later, fenced.facts.encrypted) == (302, 3, True)
        assert fenced.facts.gap_us is not None
        for host in ("a", "b"):
            assert [word.step for word in scene.movers[host].said()] == [scene.words[host][-1].step]
            scene.movers[host].order(Forget(move=TICKET.move, term=1))
            assert scene.movers[host].said() == []
        assert a.held == 0

    play(test)


def test_the_guest_stays_and_so_does_its_gate(play: Play) -> None:
    async def test(scene: Scene) -> None:
        await scene.departed()
        scene.movers["a"].lived("web", Life.HELD)
        await scene.until(lambda: scene.gates["b"].open)
        scene.movers["a"].lived("web", Life.RUNS)
        scene.hypervisor.ends("it has failed")
        await scene.told("a", Step.ABORTED)
        assert (await scene.told("b", Step.ABORTED)).why == "the guest runs at the source again"
        assert (scene.gates["a"].log, scene.gates["b"].log) == (["closed", "open"], ["closed", "open", "closed"])
        assert not scene.gates["a"].ended

    play(test)


def test_the_controller_calls_it_off(play: Play) -> None:
    async def test(scene: Scene) -> None:
        await scene.departed()
        scene.movers["a"].order(Forget(move=TICKET.move, term=1, why="called off"))
        assert (await scene.told("a", Step.ABORTED)).why == "called off"
        await scene.told("b", Step.ABORTED)
        assert scene.hypervisor.stopped == ["web"]
        assert (scene.gates["a"].log, scene.gates["b"].log) == ([], ["closed"])
        scene.movers["a"].order(Forget(move=TICKET.move, term=1))
        assert scene.gates["a"].held == 0

    play(test)


def test_flows_go_along_with_a_guest_that_somebody_else_moves(play: Play) -> None:
    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows[1] = {"f": 1}
        leave = Depart(ticket=TICKET, term=1, address=await scene.expected(), migrate=False)
        scene.movers["a"].order(leave)
        await scene.told("a", Step.COPIED)
        scene.hypervisor.stays = "it is not asked again"
        scene.movers["a"].order(leave)
        scene.movers["a"].lived("web", Life.HELD)
        await scene.until(lambda: b.open)
        scene.movers["b"].lived("web", Life.RUNS)
        scene.movers["a"].lived("web", Life.MOVED)
        assert (await scene.told("a", Step.FENCED)).facts.encrypted is None
        assert scene.hypervisor.asked == []
        assert b.flows[1] == {"f": 1}

    play(test)


def test_nobody_gets_the_flows_of_a_guest_that_nobody_moves(play: Play) -> None:
    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows[1] = {"f": 1}
        scene.hypervisor.stays = "libvirt does not move web away"
        address = await scene.expected()
        scene.movers["a"].order(Depart(ticket=TICKET, term=1, address=address, migrate=False))
        assert (await scene.told("a", Step.ABORTED)).why == "libvirt does not move web away"
        assert scene.movers["a"].open() == []
        assert b.flows.get(1, {}) == {}
        assert a.open

    play(test)


def test_the_line_breaks_and_they_find_each_other_again(play: Play) -> None:
    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows[1] = {f"f{n}": n for n in range(300)}
        port = int((await scene.expected()).rpartition(":")[2])
        async with proxy(port) as between:
            await scene.departed(f"127.0.0.1:{between.port}")
            between.turn(Mode.HOLE)
            between.cut()
            between.turn(Mode.PASS)
            a.flows[1]["meanwhile"] = 1
            await scene.until(lambda: b.flows[1] == a.flows[1])
            await scene.move_guest()
            assert (await scene.told("a", Step.FENCED)).why == ""
            await scene.told("b", Step.CARRIED)

    play(test)


def test_words_wait_while_the_guest_is_stopped(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_STOPPED_SECONDS", 60)

    async def test(scene: Scene) -> None:
        await scene.departed()
        scene.movers["a"].lived("web", Life.HELD)
        await scene.until(lambda: scene.gates["b"].open and scene.movers["a"].said()[-1].step is Step.SWITCHED)
        await asyncio.sleep(0.1)
        assert scene.words["a"][-1].step is Step.COPIED
        scene.movers["b"].lived("web", Life.RUNS)
        await scene.told("a", Step.SWITCHED)

    play(test)


def test_words_do_not_wait_for_ever(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_STOPPED_SECONDS", 0.1)

    async def test(scene: Scene) -> None:
        await scene.departed()
        scene.movers["a"].lived("web", Life.HELD)
        await scene.told("a", Step.SWITCHED)

    play(test)


@pytest.mark.parametrize("host", ["a", "b"])
def test_an_agent_is_restarted_while_the_guest_is_stopped(play: Play, host: str) -> None:
    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows[1] = {"f": 1}
        await scene.departed()
        scene.movers["a"].lived("web", Life.HELD)
        await scene.told("a", Step.SWITCHED)
        await scene.until(lambda: b.open)
        await scene.kill(host)
        scene.start(host)
        assert not a.open
        scene.movers[host].lived("web", Life.HELD)
        scene.movers["b"].lived("web", Life.RUNS)
        await scene.until(lambda: any(word.step is Step.CARRIED for word in scene.words["b"]))
        assert b.log[-1] == "open"
        if host == "b":  # it listens somewhere else now, as the controller tells
            again = await scene.told("b", Step.CARRIED)
            assert again.facts.digest == RULES
        scene.movers["a"].lived("web", Life.MOVED)
        scene.hypervisor.ends()
        if host == "a":
            assert (await scene.told("a", Step.FENCED)).why == ""
        assert not a.open

    play(test)


async def source(scene: Scene, address: str, host: str = "a", begin: Begin | None = None) -> SourceEnd:
    end: SourceEnd = await reach(address, scene.site.reaching(host, under=f"hand-{host}"), "b")
    end.send(begin or Begin(version=VERSION, move=TICKET.move, epoch=1))
    return end


@contextlib.asynccontextmanager
async def begun(scene: Scene) -> AsyncIterator[tuple[SourceEnd, str]]:
    address = await scene.expected()
    end = await source(scene, address)
    assert await end.receive() == Taken(number=0)
    yield end, address
    await end.close()


async def refusal(end: SourceEnd) -> str:
    """Why the destination ends it; empty where it does not say."""
    said = ""
    try:
        while True:
            message = await end.receive()
            said = message.why if isinstance(message, Abort) else said
    except HandoffError:
        return said
    finally:
        await end.close()


FLOWS = msgspec.msgpack.encode((1, {"f": 1}))


class TestRefused:
    """Whatever the destination refuses costs the conversation: the move goes on with the next one."""

    @staticmethod
    async def goes_on(scene: Scene, address: str) -> None:
        assert not scene.gates["b"].open
        end = await source(scene, address)
        end.send(Flows(number=1, parts=[FLOWS]))
        assert [await end.receive(), await end.receive()] == [Taken(number=0), Taken(number=1, flows=1)]
        assert scene.gates["b"].flows[1]["f"] == 1
        await end.close()

    @pytest.mark.parametrize(
        ("messages", "says"),
        [
            ([Flows(number=2)], "message 2 has come where 1 was due"),
            ([Flows(number=1), Flows(number=1)], "message 1 has come where 2 was due"),
            ([Flows(number=1), Turn(number=3, acknowledged=1)], "message 3 has come where 2 was due"),
            ([Flows(number=1, parts=[b"nonsense"])], "no flows"),
            ([Flows(number=1, parts=[FLOWS, msgspec.msgpack.encode((3, {"f": 1}))])], "these flows are of vNIC 3"),
            ([Begin(version=VERSION, move=TICKET.move, epoch=1)], "begins once more"),
        ],
        ids=["gap", "replayed", "a turn out of turn", "malformed", "another vNIC", "begun twice"],
    )
    def test_streams(self, play: Play, messages: list[Any], says: str) -> None:
        async def test(scene: Scene) -> None:
            async with begun(scene) as (end, address):
                for message in messages:
                    end.send(message)
                assert says in await refusal(end)
                await self.goes_on(scene, address)

        play(test)

    @pytest.mark.parametrize("raw", [b"\0\0\0\3abc", b"\xff\xff\xff\xff", b"\0\0\0\1\xc0"])
    def test_bytes(self, play: Play, raw: bytes) -> None:
        async def test(scene: Scene) -> None:
            async with begun(scene) as (end, address):
                end._writer.write(raw)
                assert await refusal(end) == ""
                await self.goes_on(scene, address)

        play(test)

    @pytest.mark.parametrize(
        ("host", "begin", "says"),
        [
            ("c", Begin(version=VERSION, move=TICKET.move, epoch=1), "expects nothing of the kind from host c"),
            ("b", Begin(version=VERSION, move=TICKET.move, epoch=1), "expects nothing of the kind from host b"),
            ("a", Begin(version=VERSION, move="b" * 32, epoch=1), "expects nothing"),
            ("a", Begin(version=VERSION, move=TICKET.move, epoch=2), "is of epoch 1, and not 2"),
            ("a", Begin(version=VERSION + 1, move=TICKET.move, epoch=1), "upgrade the older"),
        ],
        ids=["another host", "itself", "another move", "another epoch", "another version"],
    )
    def test_beginnings(self, play: Play, host: str, begin: Begin, says: str) -> None:
        async def test(scene: Scene) -> None:
            address = await scene.expected()
            assert says in await refusal(await source(scene, address, host, begin))
            await self.goes_on(scene, address)

        play(test)

    def test_who_says_nothing_and_who_says_something_else(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "OPEN_SECONDS", 0.1)

        async def test(scene: Scene) -> None:
            address = await scene.expected()
            silent: SourceEnd = await reach(address, scene.site.reaching("a"), "b")
            assert await refusal(silent) == ""
            other: SourceEnd = await reach(address, scene.site.reaching("a"), "b")
            other.send(Flows(number=1))
            assert await refusal(other) == ""
            await self.goes_on(scene, address)

        play(test)

    def test_of_two_conversations_the_later_counts(self, play: Play) -> None:
        async def test(scene: Scene) -> None:
            async with begun(scene) as (first, address):
                second = await source(scene, address)
                assert await second.receive() == Taken(number=0)
                assert await refusal(first) == ""
                second.send(Flows(number=1, parts=[FLOWS]))
                assert await second.receive() == Taken(number=1, flows=1)
                await second.close()

        play(test)

    def test_too_many_strangers(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "_GUESTS", 2)
        monkeypatch.setattr(runtime, "OPEN_SECONDS", 0.5)

        async def test(scene: Scene) -> None:
            address = await scene.expected()
            waiting = [await reach(address, scene.site.reaching("a"), "b") for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(HandoffError):
                await (await source(scene, address)).receive()
            for end in waiting:
                assert await refusal(end) == ""
            await self.goes_on(scene, address)

        play(test)


def test_a_destination_of_another_name_gets_nothing(play: Play) -> None:
    async def test(scene: Scene) -> None:
        scene.gates["a"].flows[1] = {"f": 1}
        scene.site.identity("c", under="b")  # whoever listens there now
        address = await scene.expected()
        scene.movers["a"].order(Depart(ticket=TICKET, term=1, address=address))
        aborted = await scene.told("a", Step.ABORTED)
        assert "is host c, and the VM goes to host b" in aborted.why
        assert scene.gates["b"].flows[1] == {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serai.agent.moving.departure.ATTEMPTS", 2)
        play(test)


def test_many_flows_go_in_many_messages(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_TOGETHER", 100)

    async def test(scene: Scene) -> None:
        a, b = scene.gates["a"], scene.gates["b"]
        a.flows = {vnic: {f"{vnic}-{n}": n for n in range(500)} for vnic in VNICS}
        await scene.departed()
        assert b.flows == a.flows
        await scene.move_guest()
        await scene.told("a", Step.FENCED)

    play(test)


def test_it_listens_only_while_the_host_has_joined_and_with_its_latest_certificate(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_IDLE_SECONDS", 0.02)

    async def test(scene: Scene) -> None:
        address = await scene.expected()
        (scene.state / "b" / "identity" / "host.pem").rename(scene.state / "kept.pem")

        await scene.until(lambda: scene.movers["b"]._listener._open is None)
        with pytest.raises(HandoffError, match=r"refused|Connect call failed"):
            await source(scene, address)
        scene.site.identity("b")  # it joins again
        await scene.until(lambda: [word.step for word in scene.words["b"]].count(Step.PREPARED) > 1)
        end = await source(scene, scene.words["b"][-1].address)
        assert await end.receive() == Taken(number=0)
        shown = end._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        mine = Identity(scene.state / "b" / "identity").read().certificate.serial
        await end.close()
        assert identity_of_der(shown).serial == mine

    play(test)


def test_a_host_that_nobody_reaches_expects_nobody(play: Play) -> None:
    async def test(scene: Scene) -> None:
        await scene.kill("b")
        scene.address = ""  # it reaches its controller by the loopback
        scene.start("b")
        await scene.until(lambda: scene.movers["b"]._listener.trouble)
        scene.movers["b"].order(Expect(ticket=TICKET, term=1, digest=bytes.fromhex(RULES)))
        assert "set handoff_address" in (await scene.told("b", Step.ABORTED)).why
        assert scene.gates["b"].log == []

    play(test)


def test_a_disk_that_is_full_stops_no_move(play: Play) -> None:
    async def test(scene: Scene) -> None:
        for host in ("a", "b"):
            (scene.state / host / "moves.json.new").mkdir()  # in the way
        scene.gates["a"].flows[1] = {"f": 1}
        await scene.departed()
        await scene.move_guest()
        await scene.told("a", Step.FENCED)
        assert scene.gates["b"].flows[1] == {"f": 1}

    play(test)


def test_a_file_that_is_damaged_is_told_and_forgotten(play: Play) -> None:
    async def test(scene: Scene) -> None:
        await scene.expected()
        await scene.kill("b")
        (scene.state / "b" / "moves.json").write_text("{")
        scene.start("b")
        assert scene.movers["b"].said() == []

    play(test)


def test_a_vm_that_is_not_here_does_not_depart(play: Play) -> None:
    async def test(scene: Scene) -> None:
        scene.gates["a"].known = False
        scene.movers["a"].order(Depart(ticket=TICKET, term=1, address="127.0.0.1:1"))
        assert "does not run here" in (await scene.told("a", Step.ABORTED)).why
        assert scene.movers["a"]._moves.phases == {}

    play(test)


def test_the_phases_are_on_disk(play: Play) -> None:
    async def test(scene: Scene) -> None:
        await scene.departed()
        await scene.kill("a", "b")
        kept = {host: scene.movers[host]._file.read() for host in ("a", "b")}
        assert [move.phase for move in kept["a"].moves + kept["b"].moves] == [Phase.COPIED, Phase.READY]
        assert (scene.state / "a" / "moves.json").stat().st_mode & 0o777 == 0o600

    play(test)
