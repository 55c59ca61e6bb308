"""Hosts that take part in moves, for tests: over real links to a real controller, with no kernel and no hypervisor behind them.

What two agents say to each other over a connection of their own, they say here by calling each other. A test may hold a move at a step,
have a host fail, be cut off, or be killed so that it has forgotten everything but what its gates guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.agent.join import join
from serai.controller.config import Config
from serai.controller.main import Running, controller
from serai.controller.moves.config import MoveSettings
from serai.controller.traffic.config import FlowSettings
from serai.model.host_facts import Cpu, HostFacts
from serai.model.inventory import vnic_id
from serai.model.migration import Facts, Step, Ticket
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.tenancy import ROOT, Scope
from serai.wire import api, remote
from serai.wire.channel import AgentChannel, ChannelError, Timing
from serai.wire.dial import dial
from serai.wire.tls import host_context

QUICK = Timing(open_seconds=3, close_seconds=0.3, beat_seconds=1, dead_seconds=3)
ADMIN = Caller(
    name="ada", grants=(Grant(Role.SECURITY_ADMIN, ROOT), Grant(Role.OPERATOR, ROOT), Grant(Role.AUDITOR, ROOT))
)
PATIENCE = 20.0
FACTS = HostFacts(cpu=Cpu(arch="x86_64"), memory=8192, nics=[], kernel="6.8.0", features=[], agent="played")
"""What hosts are made of: there is room for several VMs, of 1 GiB each."""
STEPS = (Step.PREPARED, Step.COPIED, Step.SWITCHED, Step.LIVE, Step.CARRIED, Step.FENCED)
"""What hosts say, in order."""


def resources(*vms: str, port: int = 80, hosts: Sequence[str] = ("a", "b", "c")) -> str:
    """Hosts, VMs of one tenant, expected at a, and the port that is open between them."""
    parts = ["kind: Tenant\nmetadata: {name: acme}"]
    parts += [f"kind: Host\nmetadata: {{name: {host}}}" for host in hosts]
    parts.append("kind: Network\nmetadata: {name: front, scope: /acme}\nspec: {subnets: [10.0.0.0/24]}")
    parts += [
        f"kind: VirtualMachine\nmetadata: {{name: {vm}, scope: /acme}}\nspec: {{host: a, memory: 1024, vnics: "
        f'[{{network: front, mac: "52:54:00:00:00:{at:02x}", addresses: [10.0.0.{at}]}}]}}'
        for at, vm in enumerate(vms, 1)
    ]
    parts.append(
        "kind: Policy\nmetadata: {name: all, scope: /acme}\nspec:\n  tier: Tenant\n"
        f"  ingress: [{{name: some, action: Accept, ports: [tcp/{port}]}}]"
    )
    return "\n---\n".join(f"apiVersion: serai.dev/v1\n{part}\n" for part in parts)


@dataclasses.dataclass
class Guest:
    """A VM, where it really is."""

    name: str
    number: int
    host: PlayedHost
    stopped: bool = False

    @property
    def path(self) -> str:
        return f"/acme:{self.name}"

    @property
    def mac(self) -> str:
        return f"52:54:00:00:00:{self.number:02x}"

    @property
    def vnic(self) -> int:
        return vnic_id(Scope("/acme"), self.name, "eth0")


@dataclasses.dataclass
class Part:
    """A host's part in one move."""

    ticket: Ticket
    step: Step | None = None
    digest: str = ""
    """What it was asked to hold."""
    said: remote.Moving | None = None
    work: asyncio.Task[None] | None = None
    """What the source does."""
    getting_ready: asyncio.Task[None] | None = None
    """What the destination does."""


class PlayedHost:
    """One host and its agent."""

    def __init__(self, name: str, state: Path, scene: Scene) -> None:
        self.name, self.state, self.scene = name, state, scene
        self.url = ""
        self.taps: set[str] = set()
        """Names of guests behind whose taps its hypervisor says that somebody is."""
        self.gates: set[str] = set()
        """Names of guests for whom a gate forwards."""
        self.ruleset: HostRuleset | None = None
        self.ever: list[frozenset[int]] = []
        """The vNICs that each ruleset had which it ever held."""
        self.heard: list[remote.FromController] = []
        self.parts: dict[str, Part] = {}
        self.epoch = 0
        self.facts = FACTS
        self.refuses = ""
        """Why it prepares for nobody."""
        self._answers: dict[int, asyncio.Future[remote.Entry]] = {}
        self._channel: AgentChannel | None = None
        self._link: asyncio.Task[None] | None = None
        self._away = False

    # The link

    def context(self) -> ssl.SSLContext:
        where = self.state / "identity"
        return host_context(where / "host.pem", where / "host.key", where / "ca.pem")

    def start(self) -> None:
        self._link = asyncio.create_task(self._keep_link())

    async def stop(self) -> None:
        """Be killed: nothing is remembered but what the kernel holds. A guest that was stopped for a move runs on."""
        works = [task for part in self.parts.values() for task in (part.work, part.getting_ready)]
        tasks = [task for task in (self._link, *works) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.parts.clear()
        self.epoch = 0
        self._channel = None
        for name, guest in self.scene.guests.items():
            if guest.stopped and guest.host is self:
                guest.stopped = False
                self.gates.add(name)

    def cut(self) -> None:
        """Lose the connection, and make none until ``mend``."""
        self._away = True
        if self._channel is not None:
            self._channel.cut("the cable is out")

    def mend(self) -> None:
        self._away = False

    async def _keep_link(self) -> None:
        while True:
            if not self._away:
                with contextlib.suppress(ChannelError):
                    async with await dial(self.url, self.context(), timing=QUICK) as channel:
                        await self._talk(channel)
            self._channel = None
            await asyncio.sleep(0.05)

    async def _talk(self, channel: AgentChannel) -> None:
        digest = bytes.fromhex(self.ruleset.digest) if self.ruleset else None
        parts = list(self.ruleset.parts) if self.ruleset else []
        channel.send(
            remote.Hello(
                version=remote.VERSION, agent="played", epoch=self.epoch, term=0, digest=digest, parts=parts, sight=self.sight()
            )
        )  # fmt: skip
        while True:
            match message := await channel.receive():
                case remote.Welcome():
                    self.epoch = message.epoch
                    self._channel = channel
                    channel.send(remote.Described(facts=self.facts))
                    for part in self.parts.values():
                        if part.said is not None:
                            channel.send(part.said)
                case remote.Whole():
                    self._hold(HostRuleset.decode(message.ruleset), message.number)
                case remote.Difference():
                    assert self.ruleset is not None
                    self._hold(Delta.decode(message.delta).apply(self.ruleset), message.number)
                case remote.Elsewhere() | remote.Fenced():
                    return
                case remote.Expect():
                    self.heard.append(message)
                    self._expect(message)
                case remote.Depart():
                    self.heard.append(message)
                    self._depart(message)
                case remote.Forget():
                    self.heard.append(message)
                    self._forget(message.move)
                case remote.Entry():
                    self._answers[message.answers].set_result(message)
                case _:
                    pass

    def send(self, message: remote.FromAgent) -> None:
        if self._channel is not None:
            with contextlib.suppress(ChannelError):
                self._channel.send(message)

    # What it holds and sees

    def describe(self, facts: HostFacts) -> None:
        """Be made of something else, and tell it."""
        self.facts = facts
        self.send(remote.Described(facts=facts))

    def sight(self) -> remote.Sight:
        guests = self.scene.guests
        return remote.Sight(
            macs=[guests[name].mac for name in sorted(self.taps)],
            vnics=[guests[name].vnic for name in sorted(self.gates)],
        )

    def look(self) -> None:
        """Tell whom it sees."""
        self.send(remote.Seen(sight=self.sight()))

    def _hold(self, ruleset: HostRuleset, number: int) -> None:
        self.ruleset = ruleset
        self.ever.append(frozenset(vnic.id for vnic in ruleset.vnics))
        self.send(remote.Held(digest=bytes.fromhex(ruleset.digest), answers=number))

    def holds(self, name: str) -> bool:
        """Say whether it has the rules of a guest."""
        return self.ruleset is not None and self.scene.guests[name].vnic in {vnic.id for vnic in self.ruleset.vnics}

    async def enter(self, guest: Guest, *, encrypted: bool | None = None) -> remote.Entry:
        """Ask whether a guest may come in, as its hypervisor's hook has it asked."""
        number = len(self._answers) + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        cards = [remote.Card(mac=guest.mac)]
        self.send(remote.Entering(number=number, domain=guest.name, cards=cards, incoming=True, encrypted=encrypted))
        return await asyncio.wait_for(answer, PATIENCE)

    # Moves

    def say(self, part: Part, step: Step, **what: Any) -> None:
        part.step, part.said = step, remote.Moving(move=part.ticket.move, step=step, **what)
        self.send(part.said)

    def _expect(self, message: remote.Expect) -> None:
        part = self.parts.setdefault(message.ticket.move, Part(message.ticket))
        part.digest = message.digest.hex()
        if part.step not in {None, Step.PREPARED}:
            self.send(part.said or remote.Moving(move=message.ticket.move, step=Step.ABORTED))
        elif part.getting_ready is None or part.getting_ready.done():
            part.getting_ready = asyncio.create_task(self._prepare(part))

    async def _prepare(self, part: Part) -> None:
        if self.refuses:
            self.say(part, Step.ABORTED, why=self.refuses)
            return
        scene = self.scene
        held = lambda: self.ruleset is not None and self.ruleset.digest == part.digest  # noqa: E731
        await scene.until(lambda: held() and scene.lets(Step.PREPARED), "it may prepare")
        self.say(part, Step.PREPARED, address=f"{self.name}:1", facts=Facts(digest=part.digest))

    def _depart(self, message: remote.Depart) -> None:
        part = self.parts.setdefault(message.ticket.move, Part(message.ticket))
        if part.work is None or part.work.done():
            if part.step is Step.ABORTED:
                self.send(part.said or remote.Moving(move=message.ticket.move, step=Step.ABORTED))
            else:
                part.work = asyncio.create_task(self._move(part, migrate=message.migrate))

    async def _move(self, part: Part, *, migrate: bool) -> None:
        """What the two hosts do between themselves. Without ``migrate`` a hypervisor brings the guest, or does not."""
        scene, guest = self.scene, self.scene.guest(part.ticket.vm)
        there = scene.hosts[part.ticket.to]
        if guest.host is not self:
            return
        await scene.until(lambda: scene.lets(Step.COPIED), "it may copy")
        self.say(part, Step.COPIED, facts=Facts(flows_first=3))
        if migrate:
            there.taps.add(guest.name)
            there.look()
        await scene.until(lambda: guest.name in there.taps and scene.lets(Step.SWITCHED), "it may switch")
        if part.ticket.move not in there.parts:
            self._back(part, guest, "the destination knows nothing of it")
            return
        guest.stopped = True
        self.gates.discard(guest.name)
        self.say(part, Step.SWITCHED)
        await scene.until(lambda: scene.lets(Step.LIVE) and part.ticket.move in there.parts, "it may live")
        guest.host, guest.stopped = there, False
        there.gates.add(guest.name)
        there.look()
        there.tell(part.ticket.move, Step.LIVE, facts=Facts(flows_first=3))
        self.taps.discard(guest.name)
        self.look()
        await scene.until(lambda: scene.lets(Step.CARRIED), "it may carry")
        there.tell(part.ticket.move, Step.CARRIED, facts=Facts(flows_first=3, flows_later=1))
        await scene.until(lambda: scene.lets(Step.FENCED), "it may fence")
        self.say(part, Step.FENCED, facts=Facts(encrypted=True, gap_us=250_000))

    def tell(self, move: str, step: Step, **what: Any) -> None:
        """Say so of a move, if it is remembered."""
        if move in self.parts:
            self.say(self.parts[move], step, **what)

    def fail(self, why: str) -> None:
        """Give up the move that is on, before the guest runs elsewhere."""
        for part in self.parts.values():
            guest = self.scene.guest(part.ticket.vm)
            if part.ticket.source == self.name and guest.host is self and part.step is not Step.ABORTED:
                if part.work is not None:
                    part.work.cancel()
                self._back(part, guest, why)

    def _back(self, part: Part, guest: Guest, why: str) -> None:
        guest.stopped = False
        self.gates.add(guest.name)
        there = self.scene.hosts[part.ticket.to]
        there.taps.discard(guest.name)
        there.look()
        there.parts.pop(part.ticket.move, None)
        self.say(part, Step.ABORTED, why=why)

    def _forget(self, move: str) -> None:
        part = self.parts.get(move)
        if part is None:
            return
        guest = self.scene.guest(part.ticket.vm)
        if part.ticket.source == self.name and guest.host is self:
            if part.step is Step.ABORTED:
                del self.parts[move]
                return
            if part.work is not None:
                part.work.cancel()
            self._back(part, guest, "told to forget it")
        elif (
            part.step in {Step.LIVE, Step.CARRIED, Step.FENCED, Step.SWITCHED}
            and part.work is not None
            and not part.work.done()
        ):
            pass  # it goes on to its end
        else:
            del self.parts[move]


class Scene:
    """A controller, which may be killed and begun anew, and the hosts."""

    def __init__(self, directory: Path, settings: MoveSettings | None = None, *vms: str) -> None:
        self.directory = directory
        self.config = self._config(directory, settings or MoveSettings())
        self.hosts = {name: PlayedHost(name, directory / name, self) for name in "abc"}
        self.guests = {name: Guest(name, at, self.hosts["a"]) for at, name in enumerate(vms or ("web",), 1)}
        self.hosts["a"].taps = set(self.guests)
        self.hosts["a"].gates = set(self.guests)
        self.held_at: Step | None = None
        self.two_gates: list[str] = []
        self.made: Running | None = None
        self._closing = contextlib.AsyncExitStack()

    @staticmethod
    def _config(directory: Path, settings: MoveSettings) -> Config:
        ports = []
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                free = stack.enter_context(socket.socket())
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        return Config(
            database=f"sqlite:///{directory}/serai.db", keys=directory / "keys", names=["localhost"], address="127.0.0.1",
            port=ports[0], agents_port=ports[1], client=directory / "client.toml", flows=FlowSettings(store="off"),
            moves=settings,
        )  # fmt: skip

    @property
    def service(self) -> Any:
        assert self.made is not None
        return self.made.service

    def guest(self, path: str) -> Guest:
        return self.guests[path.rpartition(":")[2]]

    def lets(self, step: Step) -> bool:
        """Say whether hosts may go on to a step."""
        return self.held_at is None or STEPS.index(step) < STEPS.index(self.held_at)

    async def begin(self) -> None:
        """Have a controller lead."""
        self._closing = contextlib.AsyncExitStack()
        self.made = await self._closing.enter_async_context(controller(self.config))
        await self.until(lambda: self.made is not None and self.made.shard.term is not None, "it leads")

    async def end(self) -> None:
        await self._closing.aclose()
        self.made = None

    async def restart(self) -> None:
        """Have another one lead."""
        await self.end()
        await self.begin()

    async def connect(self, *names: str) -> None:
        """Have hosts join, and keep their links from now on."""
        for name in names or self.hosts:
            host = self.hosts[name]
            host.url = self.config.agents_url
            token = await self.service.join_token(ADMIN, api.JoinTokenRequest(host=name))
            await asyncio.to_thread(join, self.config.url, token.token, host.state, name)
            host.start()
        await self.until(lambda: all(self.settled(name) for name in names or self.hosts), "hosts hold what they should")

    def settled(self, name: str) -> bool:
        state = self.made.shard.state(name) if self.made else None
        return state is not None and state.connected and state.holds is not None and state.holds == state.wanted

    async def virsh_migrate(self, name: str, to: str, *, encrypted: bool | None = None) -> remote.Entry:
        """Have a hypervisor move a guest that nobody here has asked to, if it may; return what it was told."""
        guest, there = self.guests[name], self.hosts[to]
        entry = await there.enter(guest, encrypted=encrypted)
        if not entry.objections:
            there.taps.add(name)
            there.look()
        return entry

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self.check()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never: {what}") from None

    def check(self) -> None:
        """See that of each guest one gate forwards at the most, and where the guest is."""
        for name, guest in self.guests.items():
            forwarding = [host.name for host in self.hosts.values() if name in host.gates]
            if len(forwarding) > 1 or forwarding not in ([], [guest.host.name]):
                self.two_gates.append(f"{name}: {forwarding} while it is at {guest.host.name}")


@contextlib.asynccontextmanager
async def scene(directory: Path, settings: MoveSettings | None = None, *vms: str) -> AsyncIterator[Scene]:
    """A controller that leads, and three hosts; all VMs run at a."""
    made = Scene(directory, settings, *vms)
    await made.begin()
    try:
        await made.service.apply(ADMIN, api.ChangeRequest(files={"all.yaml": resources(*made.guests)}))
        await made.connect()
        yield made
        assert made.two_gates == []
    finally:
        for host in made.hosts.values():
            await host.stop()
        await made.end()


@contextlib.asynccontextmanager
async def beside(at: Scene) -> AsyncIterator[Scene]:
    """Another controller over the same database, which does not lead."""
    other = Scene(at.directory / "beside", None, *at.guests)
    other.config = msgspec.structs.replace(other.config, database=at.config.database, keys=at.config.keys)
    async with controller(other.config) as other.made:
        assert other.made.shard.term is None
        yield other
