"""Who reaches whom: every pair of ends tries every service, for real, and the evaluator says what to expect."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from ipaddress import IPv4Address

from serai.analysis.naming import NamedRow, service_text
from serai.lab.addresses import address_of
from serai.lab.console import Protocol
from serai.lab.outside import probe_tcp
from serai.lab.probe import ProbeResult
from serai.lab.tour.stage import Stage
from serai.model.flow import Outcome
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action, Direction
from serai.model.ports import ECHO_REQUEST, ICMP, TCP, UDP
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.evaluate import Connection, Decision, Verdict, judge
from serai.policy.lookup import Lookup

_TIMEOUT_MS = 3000
SERVICES = ((TCP, 22), (TCP, 23), (TCP, 80), (TCP, 5432), (TCP, 8080), (UDP, 53), (ICMP, ECHO_REQUEST[ICMP]))
"""What every end tries to reach at every other: protocol and port. All guests serve all of them."""
_PROTOCOLS: Mapping[int, Protocol] = {ICMP: "icmp", TCP: "tcp", UDP: "udp"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One connection to try."""

    source: VirtualMachine | None
    """None: the users outside the data center."""
    source_address: IPv4Address
    target: VirtualMachine
    protocol: int
    port: int

    @property
    def service(self) -> str:
        """E.g. ``tcp/80``."""
        return service_text(self.protocol, self.port)

    @property
    def source_name(self) -> str:
        """As the flow table names it."""
        return self.source.path if self.source else str(self.source_address)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A connection that was tried."""

    probe: Probe
    result: ProbeResult
    accepted: bool
    """Both sides accept it, by the policies."""
    passes: bool
    """It is expected to come through: accepted, or denied where gates only observe."""
    tries: int
    """A connection that should come through and met silence is tried once more: emulated guests do stall."""
    decider: Decision
    """What denied it; where nothing did, what the destination's side said."""
    far: Mapping[Direction, int]
    """Who the far end is to policy, as each side's gate sees it."""

    @property
    def reached(self) -> bool:
        """It came through, and to the right machine: other tenants use the same addresses."""
        target = self.probe.target.domain or self.probe.target.name
        # Services answer with their machine's name; an echo has none to give.
        return self.result.ok and self.result.peer == ("" if self.probe.protocol == ICMP else target)

    @property
    def astray(self) -> bool:
        """It was answered by another machine."""
        return self.result.ok and not self.reached

    @property
    def as_expected(self) -> bool:
        """It came out as the policies say."""
        return self.reached == self.passes and not self.astray

    def rows(self, rows: Iterable[NamedRow]) -> list[NamedRow]:
        """Those of ``rows`` that count this connection, maybe beside others that policy does not tell apart from it."""
        return list(filter(self._is_in, rows))

    def _is_in(self, row: NamedRow) -> bool:
        near, far = self.probe.source_name, self.probe.target.path
        if row.direction is Direction.INGRESS:
            near, far = far, near
        if (row.near, row.service) != (near, self.probe.service):
            return False
        if row.counts_a_class and row.identity is not None:
            return row.identity == self.far.get(row.direction)
        return row.far == far


class Identities:
    """Who is who to policy: gates count what they drop by that, and not by address."""

    def __init__(self, world: World) -> None:
        """Compile the policies; identities are the same on every host."""
        ruleset = compile_host(world, "tour", world.vms)
        self._lookup = Lookup(ruleset)
        self._views = {vnic.id: vnic.view for vnic in ruleset.vnics}

    def around(self, probe: Probe) -> Mapping[Direction, int]:
        """Who the far end of a connection is to each side that has a gate."""
        found = {Direction.INGRESS: self._of(probe.target, probe.source_address)}
        if probe.source is not None:
            found[Direction.EGRESS] = self._of(probe.source, address_of(probe.target))
        return found

    def _of(self, near: VirtualMachine, far: IPv4Address) -> int:
        return self._lookup.identity(self._views[near.vnics[0].id], far)


def probes(stage: Stage, world: World) -> Iterator[Probe]:
    """Go through all connections of the matrix: VM to VM, and users to VM (TCP only), network by network."""
    vms = list(world.vms.values())
    for target in vms:
        for source in vms:
            if source is not target and source.vnics[0].network == target.vnics[0].network:
                for protocol, port in SERVICES:
                    yield Probe(
                        source=source,
                        source_address=address_of(source),
                        target=target,
                        protocol=protocol,
                        port=port,
                    )
        for protocol, port in SERVICES:
            if protocol == TCP:
                address = stage.network_of(target).outside
                yield Probe(source=None, source_address=address, target=target, protocol=protocol, port=port)


async def try_all(stage: Stage, world: World) -> list[Tried]:
    """Try the whole matrix at once."""
    wanted, identities = list(probes(stage, world)), Identities(world)
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:  # a denied probe from outside blocks a thread for long
        return list(await asyncio.gather(*(_try(stage, pool, world, probe, identities) for probe in wanted)))


def on_record(tried: Tried, rows: Iterable[NamedRow]) -> bool:
    """Say whether a gate has recorded that it denied this connection, by the rule that the evaluator names."""
    return any(row.outcome is not Outcome.ACCEPTED and row.rule == tried.decider.ref.text for row in tried.rows(rows))


def verdict_on(world: World, source: IPv4Address, target: VirtualMachine, protocol: int, port: int) -> Verdict:
    """What the policies say of a connection from ``source`` to the first address of ``target``, on its network."""
    (vnic, *_) = target.vnics
    connection = Connection(
        routing_domain=vnic.network.routing_domain,
        source=source,
        destination=address_of(target),
        protocol=protocol,
        port=port,
    )
    return judge(world, connection)


def grid(tried: Sequence[Tried]) -> tuple[list[str], list[list[str]]]:
    """Who reached whom over what: headings and rows of a table."""
    targets = sorted({t.probe.target.path for t in tried})
    sources = sorted({t.probe.source_name for t in tried})
    rows = []
    for source in sources:
        cells = []
        for target in targets:
            pair = [t for t in tried if (t.probe.source_name, t.probe.target.path) == (source, target)]
            reached = [t.probe.service for t in pair if t.reached]
            everything = len(reached) == len(pair) > 1
            cells.append("all" if everything else ", ".join(reached) or ("-" if pair else ""))
        rows.append([source, *cells])
    return ["FROM \\ TO", *targets], rows


async def _try(stage: Stage, pool: Executor, world: World, probe: Probe, identities: Identities) -> Tried:
    verdict = verdict_on(world, probe.source_address, probe.target, probe.protocol, probe.port)
    sides = [side for side in (verdict.egress, verdict.ingress) if side is not None]
    decider = next((side for side in sides if side.action is Action.DENY), sides[-1])
    result, tries = await _reach(stage, pool, probe), 1
    if verdict.passes and result.error == "timeout":
        result, tries = await _reach(stage, pool, probe), 2
    accepted = verdict.action is Action.ACCEPT
    return Tried(
        probe=probe, result=result, accepted=accepted, passes=verdict.passes, tries=tries, decider=decider,
        far=identities.around(probe),
    )  # fmt: skip


async def _reach(stage: Stage, pool: Executor, probe: Probe) -> ProbeResult:
    address = address_of(probe.target)
    if probe.source is not None:
        port = 0 if probe.protocol == ICMP else probe.port
        return await stage.shell(probe.source).probe(_PROTOCOLS[probe.protocol], address, port, timeout_ms=_TIMEOUT_MS)
    namespace = stage.center.lab.plan.outside_namespace(stage.network_of(probe.target).name)
    call = functools.partial(probe_tcp, namespace, address, probe.port, timeout_seconds=_TIMEOUT_MS / 1000)
    return await asyncio.get_running_loop().run_in_executor(pool, call)
