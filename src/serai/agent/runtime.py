"""Does what the core decides: the only place of the agent that touches the kernel, the disk and libvirt."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from serai.agent.config import Config
from serai.agent.core import (
    Agent,
    AttachGate,
    BindVnics,
    CloseGate,
    Command,
    CommandFailed,
    DiscardOthers,
    DomainSeen,
    DomainsListed,
    Event,
    ForgetGate,
    GateAdopted,
    GateLost,
    PrepareTables,
    RulesetArrived,
    StoreRuleset,
    TablesPrepared,
    TapAppeared,
    TapVanished,
    Ticked,
)
from serai.agent.definitions import Definitions
from serai.agent.describing import Describer
from serai.agent.digests import Digests
from serai.agent.entry import Desk
from serai.agent.host import Host
from serai.agent.lastgood import LastGood
from serai.agent.lock import AgentLock
from serai.agent.refused import RefusedError
from serai.agent.telling import Teller, TellingConfig
from serai.datapath.gates import Gates
from serai.datapath.layout import VERSION
from serai.datapath.libbpf import KernelError
from serai.datapath.queue import flush
from serai.inventory.booting import boots_of
from serai.inventory.definition import digest_of
from serai.inventory.domains import DefinitionError, tapless, taps_of
from serai.inventory.qemu_conf import forces_tls
from serai.model.inventory import Mac
from serai.model.life import Life
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.wire import local
from serai.wire.notify import tell_ready
from serai.wire.remote import Entering, Entry

if TYPE_CHECKING:
    from serai.agent.link.runtime import Link
    from serai.agent.moving.runtime import Mover

_log = structlog.get_logger(__name__)

_FEW = 16
"""Gates that are told one by one in the log; what happens to more at once is summed up."""
_TAP_GONE = (errno.ENODEV, errno.ENXIO)

_DESCRIBE_SECONDS = 86400.0
"""So long files of a domain may take to be read when somebody wants to know just that."""

_GRACE_SECONDS = 0.2
"""No packet that met a gate before it switched is still inside it after this."""


class Runtime:
    """One host's agent, running."""

    def __init__(self, config: Config) -> None:
        """Set nothing in motion yet."""
        self._config = config
        self._core = Agent()
        self._host = Host(self._core, self._enforce_whole, self._enforce_change)
        self._link: Link | None = None
        self._teller: Teller | None = None
        self._mover: Mover | None = None
        self._last_good = LastGood(config.state / "ruleset")
        self._gates: Gates | None = None
        self._started = time.monotonic()
        self._discarding: asyncio.TimerHandle | None = None
        self._restored = 0
        self._digests = Digests(config.state / "digests.json")
        self._definitions = Definitions(config.state / "definitions")
        self._desk = Desk(
            self._ask,
            self._digests.of,
            self._definitions,
            joined=self._joined,
            encrypted=_encrypted,
            alone=config.limits.without_controller,
        )

    async def run(self) -> None:
        """Guard this host until cancelled.

        Raises:
            AgentBusyError: another agent does already.
            KernelError: the kernel refuses the gate.
        """
        limits = self._config.limits
        with AgentLock(self._config.bpffs):
            self._gates = Gates.open(
                self._config.bpffs,
                sizes=limits.map_sizes,
                flow_quota=limits.flows_per_vnic,
                flow_rate=limits.new_flows_per_second,
                idle=limits.idle,
                ended=self._config.state / f"ended-flows.v{VERSION}.{_boot()}",
                records=self._config.state / "records",
            )
            self._teller = self._make_teller(self._gates)
            self._teller.begin()
            for ifindex in self._gates.upgraded:
                _log.info("gate of an older layout replaced", ifindex=ifindex)
            self._adopt()
            self._load_last_good()
            self._mover = self._make_mover(self._gates)
            self._mover.begin()
            self._tell_rules()
            async with asyncio.TaskGroup() as tasks:
                server = await local.serve(
                    self._config.socket, self._answer, refusals=(RefusedError, KernelError, DefinitionError)
                )
                tasks.create_task(self._watch_taps())
                tasks.create_task(self._watch_libvirt())
                tasks.create_task(self._sweep())
                tasks.create_task(self._listen())
                tasks.create_task(self._teller.run())
                tasks.create_task(self._keep_link())
                tasks.create_task(self._describe())
                tasks.create_task(self._mover.run())
                tasks.create_task(server.serve_forever())
                _log.info("agent guards this host", host=self._config.host, socket=str(self._config.socket))
                tell_ready(os.environ)

    # Events

    def _take(self, event: Event) -> None:
        """Let the core decide, and do all that it says.

        Raises:
            KernelError: the kernel refused a command; the core knows, and all others were carried out.
            RefusedError: the disk did.
        """
        failures: list[KernelError | RefusedError] = []
        ungated: set[int] = set()
        for command in self._core.handle(event):
            try:
                self._execute(command, ungated)
            except (KernelError, RefusedError) as error:
                self._core.handle(CommandFailed(command=command))
                if isinstance(command, AttachGate):
                    ungated.add(command.ifindex)
                    if isinstance(error, KernelError) and error.errno in _TAP_GONE:  # its TapVanished is on the way
                        continue
                failures.append(error)
        self._host.touch()
        if failures:
            raise failures[0]

    def _try(self, event: Event) -> None:
        """Take an event that nobody waits for: what fails is said, and tried again at the next tick."""
        try:
            self._take(event)
        except (KernelError, RefusedError) as error:
            _log.error("the kernel refuses", error=str(error), trying=type(event).__name__)

    async def _watch_taps(self) -> None:
        from serai.inventory.links import watch_taps  # noqa: PLC0415  # its library is slow to load, and gates are waiting

        async for tap in watch_taps():
            if tap.gone:
                self._try(TapVanished(ifindex=tap.ifindex))
            else:
                self._try(TapAppeared(ifindex=tap.ifindex, name=tap.name, bridged=tap.bridged))

    async def _watch_libvirt(self) -> None:
        from serai.inventory.libvirt import LibvirtWatch  # noqa: PLC0415  # as above

        def seen(domain: str, taps: Mapping[str, Mac]) -> None:
            self._try(DomainSeen(domain=domain, taps=taps))

        def listed(domains: Collection[str]) -> None:
            self._try(DomainsListed())
            mover.listed(domains)

        mover = self._moves
        await LibvirtWatch(self._config.libvirt, seen, mover.lived, listed).run()

    def _make_mover(self, gates: Gates) -> Mover:
        from serai.agent.moving.gates import HostGates  # noqa: PLC0415  # as above
        from serai.agent.moving.runtime import Mover, MoverConfig  # noqa: PLC0415
        from serai.inventory.migration import LibvirtMigration  # noqa: PLC0415

        config, limits = self._config, self._config.limits
        return Mover(
            MoverConfig(host=config.host, state=config.state, address=limits.handoff_address, port=limits.handoff_port),
            HostGates(gates, self._core, self._take),
            LibvirtMigration(config.libvirt, destination=limits.migration_uri, seconds=limits.migration_seconds),
            lambda: self._link.local_address if self._link else "",
        )

    def _make_teller(self, gates: Gates) -> Teller:
        config, limits = self._config, self._config.limits
        told = TellingConfig(
            directory=config.state / "records", seconds=limits.record_seconds, most_bytes=limits.records_megabytes << 20,
            boot=_boot(),
        )  # fmt: skip
        return Teller(gates, told, wanted=self._has_a_site, ruleset=lambda: self._core.ruleset)

    def _has_a_site(self) -> bool:
        """Say whether this host has joined one, or is about to."""
        limits = self._config.limits
        return bool(limits.controllers or limits.agents) or self._joined()

    async def _describe(self) -> None:
        from serai.inventory.facts import collect  # noqa: PLC0415  # as above

        agent, features = importlib.metadata.version("serai"), self._kernel.features()
        await Describer(
            lambda: collect(self._config.libvirt, agent=agent, features=features),
            self._host.describe,
            wanted=self._has_a_site,
        ).run()

    async def _keep_link(self) -> None:
        from serai.agent.link.runtime import Link, LinkConfig  # noqa: PLC0415  # as above

        config = self._config
        told = LinkConfig(
            host=config.host, state=config.state, controllers=config.limits.controllers, agents=config.limits.agents
        )
        self._link = Link(self._host, told, self._teller, self._mover)
        await self._link.run()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._config.sweep_seconds)
            try:
                self._kernel.sweep()
            except OSError as error:  # the kernel, or a full disk: gates do not depend on it
                _log.error("what was counted cannot be recorded", error=str(error))
            self._watch_gates()
            self._try(Ticked())

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(self._config.listen_seconds)
            try:
                self._kernel.samples.read()
            except OSError as error:
                _log.error("flows that ended cannot be recorded", error=str(error))

    def _watch_gates(self) -> None:
        """Look whether every gate is still where it was put, and put back those that are not."""
        for ifindex in sorted(self._core.attached):
            if not self._kernel.is_attached(ifindex) and _exists(ifindex):  # else its TapVanished is on the way
                self._restored += 1
                _log.error("something has taken the gate off a tap: putting it back", ifindex=ifindex)
                self._try(GateLost(ifindex=ifindex))

    # Commands

    @property
    def _moves(self) -> Mover:
        assert self._mover is not None, "used before run()"  # noqa: S101
        return self._mover

    @property
    def _kernel(self) -> Gates:
        assert self._gates is not None, "used before run()"  # noqa: S101
        return self._gates

    def _execute(self, command: Command, ungated: Collection[int]) -> None:
        """Carry out a command; taps in ``ungated`` could not be given a gate just now."""
        match command:
            case AttachGate():
                self._attach(command)
            case ForgetGate():
                self._kernel.forget(command.ifindex)
                _log.info("tap is gone", ifindex=command.ifindex)
            case PrepareTables():
                self._kernel.prepare(command.ruleset, command.bridge)
                self._take(TablesPrepared(ruleset=command.ruleset))
                self._tell_rules()
            case BindVnics():
                bindings = {ifindex: vnic for ifindex, vnic in command.bindings.items() if ifindex not in ungated}
                self._kernel.bind(bindings)
                for ifindex, vnic in list(bindings.items())[:_FEW]:
                    _log.info("gate guards", ifindex=ifindex, vnic=vnic.path, mode=str(vnic.mode))
                if len(bindings) > _FEW:
                    _log.info("and others", gates=len(bindings) - _FEW)
            case CloseGate():
                self._kernel.unbind(command.ifindex)
                _log.info("gate closed", ifindex=command.ifindex)
            case StoreRuleset():
                self._store(command.ruleset)
            case DiscardOthers():
                self._discard_later(command.ruleset)

    def _tell_rules(self) -> None:
        """Moves wait for rules."""
        ruleset = self._core.ruleset
        if self._mover is not None and ruleset is not None:
            self._mover.rules_held(ruleset.digest, [vnic.id for vnic in ruleset.vnics])

    def _attach(self, command: AttachGate) -> None:
        if self._kernel.attach(command.ifindex):
            # Frames that the bridge flooded into the tap before the gate was there must not come out.
            flush(command.name)
            _log.info("gate attached", tap=command.name, ifindex=command.ifindex)
        else:
            _log.debug("gate adopted", tap=command.name, ifindex=command.ifindex)

    def _discard_later(self, ruleset: HostRuleset) -> None:
        def discard() -> None:
            try:
                if self._kernel.discard_others(ruleset):
                    return
            except OSError as error:
                _log.error("what is not needed any more cannot be removed", error=str(error))
            self._discard_later(ruleset)

        if self._discarding is not None:
            self._discarding.cancel()
        self._discarding = asyncio.get_running_loop().call_later(_GRACE_SECONDS, discard)

    def _adopt(self) -> None:
        """Take over the gates of an earlier agent, and clean up behind taps that went while there was none."""
        bound = self._kernel.bound()
        left = self._kernel.adopted() | bound.keys()
        names = dict(socket.if_nameindex())
        alive = names.keys()
        for ifindex in sorted(left - alive):
            self._kernel.forget(ifindex)
        for ifindex in sorted(left & alive):
            self._take(GateAdopted(ifindex=ifindex, vnic=bound.get(ifindex)))
            # It has a gate, so it wanted one. Netlink will tell what it is like now; that can wait, its gate need not.
            self._try(TapAppeared(ifindex=ifindex, name=names[ifindex], bridged=True))
        if left & alive:
            _log.info("gates adopted", count=len(left & alive))

    # The last good ruleset

    def _load_last_good(self) -> None:
        try:
            ruleset = self._last_good.read()
            if ruleset is None:
                _log.info("no ruleset on disk yet: gates stay closed until one arrives")
                return
            self._require_own(ruleset)
            self._take(RulesetArrived(ruleset=ruleset))
        except (OSError, ValueError) as error:  # KernelError and RefusedError are among them
            _log.error("trouble with the first ruleset: gates go on with what they hold", error=str(error))

    def _store(self, ruleset: HostRuleset) -> None:
        try:
            self._last_good.write(ruleset)
        except OSError as error:
            message = f"the ruleset is in force, but cannot be kept for a restart: {error.strerror or error}"
            raise RefusedError(message) from error
        _log.info("ruleset in force", digest=ruleset.digest[:12], vnics=len(ruleset.vnics))

    def _require_own(self, ruleset: HostRuleset) -> None:
        if ruleset.host != self._config.host:
            raise RefusedError(f"this ruleset is for host {ruleset.host}, and this is host {self._config.host}")

    # Questions

    async def _answer(self, request: local.Request) -> local.Reply:
        match request:
            case local.Status():
                return self._status()
            case local.Apply():
                return self._apply(lambda: (HostRuleset.decode(request.ruleset), None))
            case local.Change():
                return self._apply(lambda: self._changed(request.delta))
            case local.Enter():
                return await self._desk.enter(request.definition, incoming=request.incoming)
            case local.Describe():
                return await self._describe_domain(request.definition)
            case local.Guard():
                return self._guard(request.definition)
            case local.Release():
                self._take(DomainSeen(domain=request.domain, taps={}))
                self._moves.entered(request.domain, Life.GONE)
                return local.Done()
            case local.Rows():
                ruleset = self._core.ruleset
                return local.RowsReply(rows=list(self._kernel.rows()), rules=dict(ruleset.rules) if ruleset else {})
            case local.Samples():
                return self._samples()

    def _status(self) -> local.StatusReply:
        ruleset = self._core.ruleset
        lost_denials, lost_events = self._kernel.lost()
        return local.StatusReply(
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            digest=ruleset.digest if ruleset else None,
            gates=[
                local.GateStatus(
                    tap=gate.tap,
                    ifindex=gate.ifindex,
                    domain=gate.domain,
                    mac=str(gate.mac) if gate.mac else None,
                    vnic=gate.vnic.path if gate.vnic else None,
                    vnic_id=gate.vnic.id if gate.vnic else gate.adopted,
                    mode=gate.vnic.mode if gate.vnic else None,
                )
                for gate in self._core.gates()
            ],
            drops=[
                local.DropStatus(vnic_id=drop.vnic, direction=drop.direction, reason=drop.reason, packets=drop.packets)
                for drop in self._kernel.drops()
            ],
            flows=self._kernel.flows.count(),
            forgotten_flows=self._kernel.flows.forgotten,
            forgotten_denials=self._kernel.denials.forgotten,
            lost_denials=lost_denials,
            lost_events=lost_events,
            restored_gates=self._restored,
            link=self._link.status() if self._link else None,
            records=self._teller.status() if self._teller else None,
            moves=[
                local.MoveStatus(move=ticket.move, vm=ticket.vm, source=ticket.source, to=ticket.to, phase=str(phase))
                for ticket, phase in (self._mover.open() if self._mover else ())
            ],
        )

    async def _ask(self, entering: Entering) -> Entry | None:
        return await self._link.ask(entering) if self._link else None

    async def _describe_domain(self, definition: str) -> local.DescribeReply:
        found = await self._digests.of(boots_of(definition), _DESCRIBE_SECONDS)
        self._definitions.remember(definition)
        boots = [local.BootStatus(what=b.what, path=b.path, sha256=b.sha256, why=b.why) for b in found]
        return local.DescribeReply(definition=digest_of(definition), boots=boots)

    def _joined(self) -> bool:
        return (self._config.state / "identity" / "host.pem").exists()

    def _samples(self) -> local.SamplesReply:
        self._kernel.samples.read()
        ruleset = self._core.ruleset
        return local.SamplesReply(
            samples=list(self._kernel.samples.latest(time.monotonic_ns())),
            rules=dict(ruleset.rules) if ruleset else {},
            vnics={str(vnic.id): vnic.path for vnic in ruleset.vnics} if ruleset else {},
        )

    def _changed(self, raw: bytes) -> tuple[HostRuleset, HostRuleset]:
        """Return what a change makes of the ruleset in force, and the bridge to it."""
        delta = Delta.decode(raw)
        old = self._core.ruleset
        if old is None:
            raise RefusedError("this is a change of a ruleset, and there is none yet: send all of it")
        new = delta.apply(old)
        return new, delta.bridged(old, new)

    def _enforce_whole(self, raw: bytes) -> None:
        self._apply(lambda: (HostRuleset.decode(raw), None))

    def _enforce_change(self, raw: bytes) -> None:
        self._apply(lambda: self._changed(raw))

    def _apply(self, read: Callable[[], tuple[HostRuleset, HostRuleset | None]]) -> local.ApplyReply:
        try:
            ruleset, bridge = read()
        except ValueError as error:
            raise RefusedError(str(error)) from error
        self._require_own(ruleset)
        self._take(RulesetArrived(ruleset=ruleset, bridge=bridge))
        return local.ApplyReply(digest=ruleset.digest)

    def _guard(self, definition: str) -> local.GuardReply:
        domain, taps = taps_of(definition)
        if kinds := tapless(definition):
            message = f"{domain} has a network card that no gate can stand at (type {', '.join(kinds)})"
            raise RefusedError(message)
        for name in taps:  # libvirt has made them, but their netlink message may still be on its way
            try:
                ifindex = socket.if_nametoindex(name)
            except OSError as error:
                message = f"the domain {domain} has no tap {name} here"
                raise RefusedError(message) from error
            self._take(TapAppeared(ifindex=ifindex, name=name, bridged=True))
        self._take(DomainSeen(domain=domain, taps=taps))
        self._moves.entered(domain, Life.HELD)
        # One that waits for a VM to come is made ready too: it opens when it is its turn.
        guarded = {gate.tap for gate in self._core.gates() if gate.vnic is not None or gate.waits}
        for name in sorted(taps.keys() - guarded):
            _log.warning("no vNIC of the ruleset is behind this tap: its gate stays closed", tap=name, domain=domain)
        return local.GuardReply(guarded=sorted(taps.keys() & guarded), closed=sorted(taps.keys() - guarded))


def _encrypted() -> bool | None:
    """Whether a domain that comes can come over TLS only; None: libvirt here would take it in clear, too."""
    return True if forces_tls() else None


def _exists(ifindex: int) -> bool:
    try:
        socket.if_indextoname(ifindex)
    except OSError:
        return False
    return True


def _boot() -> str:
    """What tells this boot of the host from others: the gate's clock starts anew with each."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
