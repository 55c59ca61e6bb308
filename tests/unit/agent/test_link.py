"""The link with a real controller's end, over real TLS: it comes back, obeys the leader alone, and renews what it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blackhole import Mode, proxy
from credentials import Site, now
from doorkeepers import Gatekeeper, Listener
from frontdoor import front_door
from serai.agent.identity import Addresses, Identity
from serai.agent.link.events import Memory
from serai.agent.link.memory import MemoryFile
from serai.agent.link.port import MovePort
from serai.agent.link.runtime import Link, LinkConfig
from serai.controller.agents import Agents, Leader
from serai.lab.simulated import Pool, SimulatedHost
from serai.model.inventory import Mac, VnicId
from serai.model.migration import Step, Ticket
from serai.model.ruleset import TABLES, GuardedVnic, HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.tenancy import Mode as Enforcing
from serai.wire.channel import ChannelError, ControllerChannel, Timing
from serai.wire.listen import listen
from serai.wire.local import LinkStatus
from serai.wire.remote import VERSION, Difference, Expect, FromAgent, Held, Hello, Moving, Sight, Welcome, Whole

QUICK = Timing(open_seconds=2, close_seconds=0.3, beat_seconds=0.2, dead_seconds=0.6)
WEB, DB = Mac("52:54:00:00:00:01"), Mac("52:54:00:00:00:02")


def ruleset(*numbers: int, host: str = "a", egress: int = 7) -> HostRuleset:
    vnics = [
        GuardedVnic(
            id=VnicId(number), path=f"/acme/shop:vm{number}/eth0", mac=Mac(f"52:54:00:00:00:{number:02x}"),
            addresses=(IPv4Address(number),), mode=Enforcing.ENFORCE, view=1, members=2, egress=egress, ingress=8,
        )
        for number in numbers
    ]  # fmt: skip
    return HostRuleset.whole(host=host, vnics=vnics, rules=(), tables={n: np.empty(0, d) for n, d in TABLES.items()})


ONE, TWO = ruleset(1), ruleset(1, 2)


def digest(of: HostRuleset) -> bytes:
    return bytes.fromhex(of.digest)


class Scene:
    """A site with a controller's end, and agents below ``state``."""

    def __init__(self, site: Site, state: Path) -> None:
        self.site, self.state = site, state
        self.gatekeeper, self.listener = Gatekeeper(site), Listener()
        self.agents = Agents(self.gatekeeper, self.listener, timing=QUICK)
        self.port = 0
        self.pool = Pool()
        self.links: dict[str, Link] = {}
        self.clock_ahead = 0.0

    def identity(self, host: str, *, age: timedelta = timedelta(0), controllers: tuple[str, ...] = ()) -> Identity:
        made = Site(directory=self.state, keys=self.site.keys).identity(host, age=age)
        identity = Identity(made)
        identity.write_addresses(Addresses(controllers=list(controllers), agents=[self.url]))
        return identity

    @property
    def url(self) -> str:
        return f"wss://localhost:{self.port}"

    @contextlib.asynccontextmanager
    async def agent(
        self, host: str, *agents: str, under: str = "", moves: MovePort | None = None
    ) -> AsyncIterator[SimulatedHost]:
        import time  # noqa: PLC0415

        simulated = SimulatedHost(host, {VnicId(1): WEB}, self.pool)
        config = LinkConfig(
            host=host, state=self.state / (under or host), agents=agents, timing=QUICK, clock=lambda: time.time() + self.clock_ahead,
            jitter=lambda: 0.0,
        )  # fmt: skip
        link = self.links[under or host] = Link(simulated, config, moves=moves)
        task = asyncio.create_task(link.run())
        try:
            yield simulated
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def status(self, host: str = "a") -> LinkStatus:
        status = self.links[host].status()
        assert status is not None
        return status

    async def until(self, true: Callable[[], Any]) -> None:
        while not true():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.01)

    async def linked(self, host: str = "a") -> None:
        await self.until(lambda: (status := self.links[host].status()) and status.connected)

    async def told(self, host: str, *, whole: HostRuleset) -> None:
        assert self.agents.send(
            host, Whole(number=0, term=self.gatekeeper.now_leads.term, revision=1, ruleset=whole.encode())
        )

    def held(self, host: str = "a") -> list[Held]:
        return [what for who, what in self.listener.told if who == host and isinstance(what, Held)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("link-site"))


@pytest.fixture
def scene(site: Site, tmp_path: Path) -> Scene:
    made = Scene.__new__(Scene)
    made.site, made.state = site, tmp_path
    return made


def run(scene: Scene, test: Callable[[Scene], Awaitable[None]]) -> None:
    async def limited() -> None:
        Scene.__init__(scene, scene.site, scene.state)
        async with asyncio.timeout(25), scene.agents.serve("127.0.0.1", 0, scene.site.agents()) as scene.port:
            await test(scene)

    asyncio.run(limited())


def test_a_host_is_sent_its_rules_and_says_that_it_holds_them(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with scene.agent("a") as host:
            await scene.linked()
            (hello,) = [what for _, what in scene.listener.told]
            assert (hello.digest, hello.sight) == (None, Sight(macs=[WEB], vnics=[]))
            await scene.told("a", whole=ONE)
            await scene.listener.until("a", Held(digest=digest(ONE), answers=1))
            await scene.listener.until("a", Sight(macs=[WEB], vnics=[1]))
            assert host.bindings()[WEB] == ONE.vnics[0]
            change = Delta.between(ONE, TWO).encode()
            assert scene.agents.send("a", Difference(number=0, term=7, revision=2, delta=change))
            await scene.listener.until("a", Held(digest=digest(TWO), answers=2))
            host.start(VnicId(2), DB)
            await scene.listener.until("a", Sight(macs=[WEB, DB], vnics=[1, 2]))
            assert host.bindings()[DB] == TWO.vnics[1]
            # Again, as if it were still the first that is held:
            assert scene.agents.send("a", Difference(number=0, term=7, revision=3, delta=change))
            await scene.until(lambda: len(scene.held()) == 3)
            refused = scene.held()[-1]
            assert (refused.digest, refused.answers) == (digest(TWO), 3)
            assert "this change is for ruleset" in refused.refused
            assert "not in force" in scene.status().trouble
            for raw in (b"", b"nonsense", ruleset(1, host="b").encode(), ONE.encode()[:-1]):
                scene.agents.send("a", Whole(number=0, term=7, revision=4, ruleset=raw))
            await scene.until(lambda: len(scene.held()) == 7)
            assert all(held.refused and held.digest == digest(TWO) for held in scene.held()[3:])
            assert host.held()[0] == digest(TWO)

    run(scene, test)


def test_it_comes_back_as_what_it_was(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with proxy(scene.port) as between, scene.agent("a", f"wss://localhost:{between.port}") as host:
            await scene.linked()
            await scene.told("a", whole=ONE)
            await scene.listener.until("a", Held(digest=digest(ONE), answers=1))
            scene.listener.told.clear()
            between.cut()
            await scene.until(lambda: any(isinstance(what, Hello) for _, what in scene.listener.told))
            (hello,) = [what for _, what in scene.listener.told if isinstance(what, Hello)]
            assert (hello.epoch, hello.term, hello.digest) == (1, 7, digest(ONE))
            assert hello.parts == sorted(ONE.parts)
            assert hello.checkpoint == scene.gatekeeper.note
            await scene.linked()
            scene.listener.told.clear()
            between.turn(Mode.HOLE)
            await scene.listener.until("a", "left")
            await scene.until(lambda: not scene.status().connected)
            assert host.bindings()[WEB] == ONE.vnics[0]  # nothing of this is the gates' concern
            between.turn(Mode.PASS)
            await scene.linked()
            assert scene.status().epoch == 1
            # In the middle of a ruleset:
            between.cut_after(100)
            await scene.told("a", whole=TWO)
            await scene.until(lambda: between.connections >= 4)
            await scene.linked()
            assert host.held()[0] in {digest(ONE), digest(TWO)}
            assert scene.held()[-1:] in ([], [Held(digest=digest(TWO), answers=1)])

    run(scene, test)


def test_of_two_agents_of_one_host_the_later_is_heard(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with scene.agent("a") as first:
            await scene.linked()
            Site(directory=scene.state, keys=scene.site.keys).identity("a", under="twin")
            async with scene.agent("a", scene.url, under="twin"):
                await scene.linked("twin")
                await scene.until(lambda: scene.status("a").fenced)
                assert "newer agent" in scene.status("a").trouble
                await scene.told("a", whole=ONE)
                await scene.listener.until("a", Held(digest=digest(ONE), answers=1))
                assert first.held()[0] is None
                hellos = len([what for _, what in scene.listener.told if isinstance(what, Hello)])
                await asyncio.sleep(0.6)
                assert len([what for _, what in scene.listener.told if isinstance(what, Hello)]) == hellos
                assert scene.status("twin").epoch == 2
        # The one that was fenced is heard again once it is restarted.
        async with scene.agent("a"):
            await scene.linked()
            assert scene.status().epoch == 3

    run(scene, test)


def test_the_leader_is_found_and_no_earlier_one_obeyed(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        other = Agents(second := Gatekeeper(scene.site), Listener(), timing=QUICK)
        async with other.serve("127.0.0.1", 0, scene.site.agents()) as port:
            scene.gatekeeper.now_leads = Leader(leads=False, url=f"wss://localhost:{port}", term=8)
            second.now_leads = Leader(leads=True, url="", term=8)
            second.epochs = scene.gatekeeper.epochs  # they stand in one database
            async with scene.agent("a"):
                await scene.linked()
                assert (scene.status().url, scene.status().term) == (f"wss://localhost:{port}", 8)
                assert MemoryFile(scene.state / "a" / "link.json").read().term == 8
                # The first wakes up and believes that it leads, as it did before.
                scene.gatekeeper.now_leads = Leader(leads=True, url="", term=7)
                other.close_all("leads no more")
                await scene.until(lambda: scene.gatekeeper.outranked_by == [8])
                assert scene.listener.told == []
                scene.gatekeeper.now_leads = Leader(leads=True, url="", term=9)
                await scene.linked()
                assert (scene.status().url, scene.status().term) == (scene.url, 9)

    run(scene, test)


def test_a_certificate_is_renewed_over_the_link(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        identity = scene.identity("a", age=timedelta(hours=12))
        before = identity.read().certificate
        async with scene.agent("a"):
            await scene.linked()
            await scene.until(lambda: identity.read().certificate.key != before.key)
            after = identity.read().certificate
            assert after.until > before.until
            await scene.until(lambda: scene.status().certificate_until == after.until)
            assert scene.status().connected
            scene.agents.close("a", "come again")
            await scene.until(lambda: not scene.status().connected)
            await scene.linked()  # with the new one

    run(scene, test)


def test_a_host_that_was_off_for_long_comes_back(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        with front_door(scene.site, [scene.url]) as door:
            identity = scene.identity("a", age=timedelta(days=20), controllers=(door.url,))
            door.keys["a"] = identity.read().certificate.key
            async with scene.agent("a"):
                await scene.linked()
                assert identity.read().certificate.until > now()
            assert door.asked == ["/v1/renew"]

    run(scene, test)


def test_a_host_whose_clock_is_behind_comes_back_too(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        with front_door(scene.site, [scene.url]) as door:
            identity = scene.identity("a", age=timedelta(hours=30), controllers=(door.url,))
            door.keys["a"] = identity.read().certificate.key
            scene.clock_ahead = -12 * 3600.0  # to its mind the certificate is still good
            async with scene.agent("a"):
                await scene.linked()
                assert "s behind the controller's" in scene.status().trouble
                skew = scene.status().clock_skew_seconds
                assert skew is not None
                assert abs(skew - 12 * 3600) < 60

    run(scene, test)


def test_a_revoked_host_stays_out_and_says_why(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with scene.agent("a") as host:
            await scene.linked()
            await scene.told("a", whole=ONE)
            await scene.listener.until("a", Held(digest=digest(ONE), answers=1))
            scene.gatekeeper.revoked.add("a")
            scene.agents.revoke("a")
            await scene.until(lambda: "revoked" in scene.status().trouble)
            assert not scene.status().connected
            assert host.held()[0] == digest(ONE)

    run(scene, test)


def test_a_host_that_joins_while_its_agent_runs_is_linked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.agent.link.runtime._LOOK_SECONDS", 0.05)

    async def test(scene: Scene) -> None:
        async with scene.agent("a"):
            await asyncio.sleep(0.1)
            assert scene.links["a"].status() is None
            scene.identity("a")
            await scene.linked()
            scene.identity("a")  # and once more
            await scene.until(lambda: scene.gatekeeper.epochs["a"] == 2)
            await scene.linked()

    run(scene, test)


@pytest.mark.parametrize("wrong", ["memory", "name", "key"])
def test_what_is_wrong_with_the_files_is_told_and_mended(
    scene: Scene, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serai.agent.link.runtime._AFTER_A_FAULT_SECONDS", 0.05)

    async def test(scene: Scene) -> None:
        if wrong == "name":
            Site(directory=scene.state, keys=scene.site.keys).identity("b", under="a")
        else:
            scene.identity("a")
        memory, key = scene.state / "a" / "link.json", scene.state / "a" / "identity" / "host.key"
        if wrong == "memory":
            memory.write_text("{")
        if wrong == "key":
            key.chmod(0o644)
        says = {"memory": "remove it", "name": "joined as b", "key": "chmod 600"}[wrong]
        async with scene.agent("a"):
            await scene.until(lambda: (status := scene.links["a"].status()) and says in status.trouble)
            assert not scene.status().connected
            memory.unlink(missing_ok=True)
            key.chmod(0o600)
            if wrong == "name":
                scene.identity("a")
            await scene.linked()

    run(scene, test)


def test_who_cannot_remember_a_term_does_not_obey_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.agent.link.runtime._AFTER_A_FAULT_SECONDS", 0.05)

    async def test(scene: Scene) -> None:
        scene.identity("a")
        in_the_way = scene.state / "a" / "link.json.new"
        in_the_way.mkdir()
        async with scene.agent("a") as host:
            await scene.until(lambda: "a" in scene.agents.connected())
            scene.agents.send("a", Whole(number=0, term=7, revision=1, ruleset=ONE.encode()))
            await scene.until(lambda: (status := scene.links["a"].status()) and "cannot be written" in status.trouble)
            assert host.applied == 0
            in_the_way.rmdir()
            await scene.linked()
        assert json.loads((scene.state / "a" / "link.json").read_text())["term"] == 7

    run(scene, test)


class Mover:
    """Notes what is ordered, and says what it is told to say."""

    def __init__(self) -> None:
        self.ordered: list[Any] = []
        self.words: list[Moving] = []
        self.fresh: asyncio.Queue[Moving] = asyncio.Queue()

    def order(self, order: Any) -> None:
        self.ordered.append(order)

    def said(self) -> list[Moving]:
        return self.words

    async def next_word(self) -> Moving:
        return await self.fresh.get()

    def say(self, step: Step) -> None:
        self.words = [Moving(move="a" * 32, step=step)]
        self.fresh.put_nowait(self.words[0])


@pytest.mark.parametrize("moves", [True, False])
def test_moves_are_ordered_and_their_last_words_repeated(scene: Scene, moves: bool) -> None:  # noqa: FBT001
    ticket = Ticket(move="a" * 32, epoch=1, vm="/acme:web", domain="web", vnics=[1], source="b", to="a", until=1e10)
    expect = Expect(ticket=ticket, term=7, digest=digest(ONE))
    heard: list[FromAgent] = []
    mover = Mover()

    async def lead(channel: ControllerChannel) -> None:
        with contextlib.suppress(ChannelError):
            while True:
                heard.append(await channel.receive())
                if isinstance(heard[-1], Hello):
                    channel.send(Welcome(version=VERSION, epoch=1, term=7, time=now().timestamp()))
                    channel.send(expect)
                elif heard[-1].step is Step.COPIED:  # type: ignore[union-attr]
                    channel.close("come again")

    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with listen("127.0.0.1", 0, scene.site.agents(), lead, timing=QUICK) as port:
            url = f"wss://localhost:{port}"
            async with scene.agent("a", url, moves=mover if moves else None):
                if not moves:
                    refusal = Moving(move="a" * 32, step=Step.ABORTED, why="nobody on host a moves VMs")
                    await scene.until(lambda: heard[1:] == [refusal])
                    return
                await scene.until(lambda: mover.ordered == [expect])
                assert scene.links["a"].local_address in {"127.0.0.1", "::1"}
                mover.say(Step.PREPARED)
                await scene.until(lambda: len(heard) == 2)
                mover.say(Step.COPIED)
                await scene.until(lambda: len(heard) == 5)
        steps = [said.step for said in heard if isinstance(said, Moving)]
        assert steps == [Step.PREPARED, Step.COPIED, Step.COPIED]

    run(scene, test)


def test_nobody_is_there_for_a_while(scene: Scene) -> None:
    async def test(scene: Scene) -> None:
        scene.identity("a")
        async with scene.agent("a", "wss://localhost:1", scene.url):
            await scene.linked()
        assert MemoryFile(scene.state / "a" / "link.json").read() == Memory(
            term=7, epoch=1, checkpoint=scene.gatekeeper.note
        )

    run(scene, test)
