"""A real controller and the moving halves of real agents: links, handoff and state machines over TLS; kernels and hypervisors are played."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from test_moves_driven import ask, follow, over

from moving import ADMIN, Scene, resources
from serai.agent.join import join
from serai.agent.link.runtime import Link, LinkConfig
from serai.agent.moving.port import Took
from serai.agent.moving.runtime import Mover, MoverConfig
from serai.controller.moves.config import MoveSettings
from serai.lab.simulated import Pool, SimulatedHost
from serai.model.inventory import Mac, VnicId
from serai.model.life import Life
from serai.model.migration import Step
from serai.wire import api, moveapi, remote

DOMAIN = "web"


class Gates:
    """Gates that know whether they forward (``GatePort``), and 5 flows of each vNIC that leaves."""

    def __init__(self, host: AgentHost) -> None:
        self.host = host
        self.closed: set[int] = set()

    def guarded(self, vnics: Collection[int]) -> bool:
        return set(vnics) <= set(self.host.played.sight().vnics)

    def withhold(self, vnics: Collection[int]) -> None:
        self.closed |= set(vnics)

    def release(self, vnics: Collection[int], *, amid: bool) -> None:
        del amid
        self.closed -= set(vnics)

    def leaving(self, vnics: Collection[int]) -> Gates:
        del vnics
        return self

    coming = leaving

    def copy(self, *, whole: bool) -> tuple[Sequence[bytes], int]:
        return ([b"flows"], 5) if whole else ([], 0)

    def end(self) -> int:
        return 0

    def drop(self) -> None:
        pass

    def take(self, parts: Sequence[bytes]) -> Took:
        return Took(flows=5 * len(parts), refused=0, unprotected=0)


class Hypervisors:
    """Moves the guest, as libvirt's two ends do; blocks whoever calls (``Hypervisor``)."""

    def __init__(self, at: Agents) -> None:
        self.at = at
        self.held = asyncio.Event()
        self.held.set()
        """Let the guest be stopped."""
        self.cancelled = False
        self.stays = ""
        """Why it moves nobody away by itself."""

    def migrate(self, domain: str, *, host: str, address: str) -> str:
        assert domain == DOMAIN
        assert address
        return asyncio.run_coroutine_threadsafe(self._migrate(host), self.at.loop).result(30)

    def leaving(self, domain: str) -> str:
        assert domain == DOMAIN
        return self.stays

    def stop(self, domain: str) -> None:
        assert domain == DOMAIN
        self.cancelled = True
        self.at.loop.call_soon_threadsafe(self.held.set)

    async def moves(self, to: str) -> str:
        """Move the guest as somebody else wants it."""
        return await self._migrate(to)

    async def _migrate(self, to: str) -> str:
        at, self.cancelled = self.at, False
        source, there = at.agents[at.where], at.agents[to]
        there.played.start(at.vnic, at.mac)
        there.mover.lived(DOMAIN, Life.HELD)
        await self.held.wait()
        if self.cancelled:
            there.played.stop(at.vnic)
            there.mover.lived(DOMAIN, Life.GONE)
            return "operation aborted: cancelled by client"
        source.mover.lived(DOMAIN, Life.HELD)
        await asyncio.sleep(0.02)
        at.where = to
        there.mover.lived(DOMAIN, Life.RUNS)
        await asyncio.sleep(0.02)
        source.played.stop(at.vnic)
        source.mover.lived(DOMAIN, Life.MOVED)
        return ""


class AgentHost:
    """What an agent is, as far as it moves (``HostPort``)."""

    def __init__(self, name: str, at: Agents) -> None:
        self.name, self.at = name, at
        self.played = SimulatedHost(name, {at.vnic: at.mac} if name == at.where else {}, Pool())
        self.gates = Gates(self)
        self.state = at.scene.directory / name
        self.link = Link(self, LinkConfig(host=name, state=self.state), moves=_Late(self))
        self.task: asyncio.Task[None] | None = None
        self.mover = self._mover()

    def _mover(self) -> Mover:
        config = MoverConfig(host=self.name, state=self.state, address="127.0.0.1", port=0)
        return Mover(config, self.gates, self.at.hypervisors, lambda: "127.0.0.1")

    def start(self) -> None:
        async def both() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.mover.run())
                tasks.create_task(self.link.run())

        self.mover.begin()
        self._held()
        self.task = asyncio.create_task(both())

    async def kill(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def restart(self) -> None:
        """Another agent takes over, which knows what was on disk."""
        await self.kill()
        self.mover = self._mover()
        self.link = Link(self, LinkConfig(host=self.name, state=self.state), moves=_Late(self))
        self.start()
        self.mover.lived(DOMAIN, Life.RUNS if self.at.where == self.name else Life.GONE)

    def _held(self) -> None:
        ruleset = self.played.ruleset
        if ruleset is not None:
            self.mover.rules_held(ruleset.digest, [vnic.id for vnic in ruleset.vnics])

    # HostPort

    def sight(self) -> object:
        return self.played.sight()

    def held(self) -> tuple[bytes | None, tuple[bytes, ...]]:
        return self.played.held()

    def facts(self) -> None:
        return None

    def enforce(self, ruleset: bytes) -> bytes:
        digest = self.played.enforce(ruleset)
        self._held()
        return digest

    def change(self, delta: bytes) -> bytes:
        digest = self.played.change(delta)
        self._held()
        return digest

    async def wait_changed(self) -> None:
        await self.played.wait_changed()


class _Late:
    """The mover that a host has just now (``MovePort``)."""

    def __init__(self, host: AgentHost) -> None:
        self.host = host

    def __getattr__(self, name: str) -> object:
        return getattr(self.host.mover, name)


class Agents:
    """Hosts a and b, a guest at a, and the scene that has the controller."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.scene = Scene(directory, MoveSettings(finish_seconds=10))
        guest = self.scene.guests["web"]
        self.vnic, self.mac, self.where = VnicId(guest.vnic), Mac(guest.mac), "a"
        self.hypervisors = Hypervisors(self)
        self.agents = {name: AgentHost(name, self) for name in "ab"}

    def forwarding(self) -> list[str]:
        """The hosts of which a gate forwards for the guest."""
        return [
            name
            for name, host in self.agents.items()
            if self.vnic in host.played.sight().vnics and self.vnic not in host.gates.closed
        ]

    async def begin(self) -> None:
        await self.scene.begin()
        await self.scene.service.apply(ADMIN, api.ChangeRequest(files={"all.yaml": resources("web", hosts=("a", "b"))}))
        for name, host in self.agents.items():
            token = await self.scene.service.join_token(ADMIN, api.JoinTokenRequest(host=name))
            await asyncio.to_thread(join, self.scene.config.url, token.token, host.state, name)
            host.start()
        await self.ready()

    async def enters(self, to: str) -> remote.Entry:
        """Have the hook of a host ask whether the guest may come."""
        cards = [remote.Card(mac=str(self.mac))]
        asked = remote.Entering(number=1, domain=DOMAIN, cards=cards, incoming=True, encrypted=True)
        entry = await self.agents[to].link.ask(asked)
        assert entry is not None
        return entry

    async def ready(self) -> None:
        await self.scene.until(lambda: all(map(self.scene.settled, self.agents)), "hosts hold what they should")

    async def end(self) -> None:
        self.hypervisors.held.set()
        for host in self.agents.values():
            await host.kill()
        await self.scene.end()


@contextlib.asynccontextmanager
async def agents(directory: Path) -> AsyncIterator[Agents]:
    made = Agents(directory)
    try:
        await made.begin()
        yield made
    finally:
        await made.end()


def run(directory: Path, play: Callable[[Agents], Awaitable[None]]) -> None:
    async def playing() -> None:
        async with asyncio.timeout(60), agents(directory) as at:
            await play(at)

    asyncio.run(playing())


def test_there_and_back(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        for epoch, to in enumerate("ba", 1):
            ended = await over(at.scene, await ask(at.scene, to=to))
            assert (ended.state, ended.why, ended.epoch) == ("done", "", epoch)
            receipt = ended.receipt
            assert receipt
            assert (receipt.unheard, receipt.reached, receipt.made) == ([], Step.FENCED, True)
            facts = receipt.facts
            assert (facts.flows_first, facts.unprotected, facts.encrypted, facts.refused) == (5, 0, True, 0)
            assert facts.gap_us is not None
            assert len(facts.digest) == 64
            assert at.where == to
            await at.scene.until(lambda to=to: at.forwarding() == [to], "one gate forwards")  # type: ignore[misc]
            await at.scene.until(
                lambda: not any(host.mover.said() for host in at.agents.values()), "it is over there, too"
            )

    run(tmp_path, play)


def test_a_hypervisor_moves_it_by_itself_there_and_back(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        for number, to in enumerate("ba", 1):
            entry = await at.enters(to)
            assert (entry.objections, entry.warnings) == ([], [])
            assert await at.hypervisors.moves(to) == ""
            made = await at.scene.service.move(ADMIN, str(number), seen=None, seconds=0)
            ended = await over(at.scene, made)
            assert (ended.state, ended.why, ended.by) == ("done", "", f"hypervisor of host {to}")
            assert ended.receipt
            assert ended.receipt.unheard == []
            facts = ended.receipt.facts
            assert (facts.flows_first, facts.unprotected, facts.encrypted, facts.refused) == (5, 0, True, 0)
            assert facts.gap_us is not None
            await at.scene.until(lambda to=to: at.forwarding() == [to], "one gate forwards")  # type: ignore[misc]

    run(tmp_path, play)


def test_a_host_that_asks_for_a_guest_which_nobody_moves_gets_nothing(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        at.hypervisors.stays = "libvirt does not move web away"
        await at.enters("b")
        ended = await over(at.scene, await at.scene.service.move(ADMIN, "1", seen=None, seconds=0))
        assert (ended.state, ended.why) == ("aborted", "host a: libvirt does not move web away")
        assert (at.where, at.forwarding()) == ("a", ["a"])

    run(tmp_path, play)


def test_a_hypervisor_that_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.controller.moves.core.GONE", timedelta(seconds=0.2))

    async def play(at: Agents) -> None:
        at.hypervisors.held.clear()
        await at.enters("b")
        going = asyncio.create_task(at.hypervisors.moves("b"))
        made = await at.scene.service.move(ADMIN, "1", seen=None, seconds=0)
        await follow(at.scene, made, "copied")
        await at.scene.until(lambda: "b" in at.scene.made.shard.places([at.mac]), "it is on its way")  # type: ignore[union-attr]
        await asyncio.sleep(0.6)
        at.hypervisors.stop(DOMAIN)
        assert "aborted" in await going
        ended = await over(at.scene, made)
        assert ended.state == "aborted"
        assert (at.where, at.forwarding()) == ("a", ["a"])
        assert not (await at.enters("b")).objections
        assert await at.hypervisors.moves("b") == ""
        assert (await over(at.scene, await at.scene.service.move(ADMIN, "2", seen=None, seconds=0))).state == "done"

    run(tmp_path, play)


def test_a_controller_that_dies_while_they_copy(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        at.hypervisors.held.clear()
        made = await ask(at.scene)
        await follow(at.scene, made, "copied")
        await at.scene.end()
        at.hypervisors.held.set()
        await at.scene.until(lambda: at.where == "b" and at.forwarding() == ["b"], "they finish it without")
        await at.scene.begin()
        ended = await over(at.scene, made)
        assert (ended.state, ended.receipt and ended.receipt.unheard) == ("done", [])

    run(tmp_path, play)


def test_an_abort_while_they_copy(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        at.hypervisors.held.clear()
        made = await ask(at.scene)
        await follow(at.scene, made, "copied")
        await at.scene.until(lambda: "b" in at.scene.made.shard.places([at.mac]), "it is on its way")  # type: ignore[union-attr]
        await at.scene.service.abort_move(ADMIN, made.id, moveapi.AbortRequest())
        ended = await over(at.scene, made)
        assert ended.state == "aborted"
        assert (at.where, at.forwarding()) == ("a", ["a"])
        at.hypervisors.held.set()
        await at.scene.until(lambda: at.scene.made.shard.places([at.mac]) == {"a"}, "nothing is left of it")  # type: ignore[union-attr]
        assert (await over(at.scene, await ask(at.scene))).state == "done"

    run(tmp_path, play)


def test_an_agent_of_the_destination_that_begins_anew_while_they_copy(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        at.hypervisors.held.clear()
        made = await ask(at.scene)
        await follow(at.scene, made, "copied")
        await at.agents["b"].restart()
        await at.scene.until(lambda: at.scene.settled("b"), "it is back")
        at.hypervisors.held.set()
        ended = await over(at.scene, made)
        assert ended.state in {"done", "aborted"}, ended
        await at.scene.until(lambda: at.forwarding() == [at.where], "one gate forwards, where the guest is")
        assert at.where == ("b" if ended.state == "done" else "a")

    run(tmp_path, play)


def test_an_agent_of_the_source_that_begins_anew_while_they_copy(tmp_path: Path) -> None:
    async def play(at: Agents) -> None:
        at.hypervisors.held.clear()
        made = await ask(at.scene)
        await follow(at.scene, made, "copied")
        await at.agents["a"].restart()
        ended = await over(at.scene, made)
        assert (ended.state, ended.why) == ("aborted", "host a: the source's agent was restarted")
        assert (at.where, at.forwarding()) == ("a", ["a"])

    run(tmp_path, play)
