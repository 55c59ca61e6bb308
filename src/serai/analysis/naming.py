"""Flow rows in names that people know."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Iterable, Mapping

from serai.model.flow import UNREAD, FlowRow, Outcome
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Direction, PortRange, RuleRef
from serai.model.ports import ECHO_REQUEST, PROTOCOLS, format_ports
from serai.model.reasons import Reason
from serai.model.world import World

HEADINGS = ("FROM", "TO", "SERVICE", "SIDE", "PACKETS", "BYTES", "VERDICT", "RULE OR REASON")
"""Of a table of rows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NamedRow:
    """Traffic of one kind that one gate saw, between two named ends."""

    host: str
    """The hosts whose gates counted it; a VM that has moved was counted on several."""
    source: str
    target: str
    service: str
    """E.g. ``tcp/443`` or ``icmpv6/128.0``; a dash where the frame was not IP."""
    direction: Direction
    """The side of the gate that judged it."""
    packets: int
    bytes: int
    connections: int
    outcome: Outcome
    staged: Outcome
    reason: Reason
    rule: str
    """The text of the rule that decided; empty where none was asked."""
    identity: int | None
    """Who the far end is to policy; None where that changed meanwhile.

    Dropped packets are counted by it: the address is then that of the last one.
    """

    def cells(self) -> tuple[str, ...]:
        """For a person: what stands under ``HEADINGS``."""
        staged = f" (staged: {self.staged.value})" if self.staged_differs else ""
        return (
            self.source, self.target, self.service, self.direction.value, str(self.packets), str(self.bytes),
            self.outcome.value + staged, self.rule or self.reason.description,
        )  # fmt: skip

    @property
    def near(self) -> str:
        """The end whose gate counted it."""
        return self.source if self.direction is Direction.EGRESS else self.target

    @property
    def far(self) -> str:
        """The other end."""
        return self.target if self.direction is Direction.EGRESS else self.source

    @property
    def counts_a_class(self) -> bool:
        """The far end named is one of many: packets that belong to no flow are counted by identity."""
        return self.outcome is Outcome.DENIED or self.reason not in {Reason.NONE, Reason.DENIED}

    @property
    def staged_differs(self) -> bool:
        """With the staged policies in force it would have come out otherwise."""
        return (self.staged is Outcome.ACCEPTED) != (self.outcome is Outcome.ACCEPTED)

    @property
    def kind(self) -> tuple[str, ...]:
        """All that tells this row from others but its numbers; rows of one kind are summed up."""
        return (
            self.source, self.target, self.service, self.direction, self.outcome, self.rule, self.reason.name,
            self.staged,
        )  # fmt: skip

    def fields(self) -> dict[str, object]:
        """For a program."""
        return {
            "host": self.host, "from": self.source, "to": self.target, "service": self.service,
            "side": self.direction.value, "packets": self.packets, "bytes": self.bytes,
            "connections": self.connections, "verdict": self.outcome.value, "staged": self.staged.value,
            "reason": self.reason.name.lower(), "rule": self.rule,
            "identity": None if self.identity is None else f"{self.identity:#x}",
        }  # fmt: skip


def named_rows(world: World, counted: Mapping[str, Iterable[FlowRow]], rules: Mapping[str, int]) -> list[NamedRow]:
    """Name what the gates of each host counted, and sum up rows that differ in nothing but their numbers.

    Args:
        world: who holds which address, and which rules there are.
        counted: the rows of each host.
        rules: more texts of rules and their numbers, such as those that the hosts' rulesets carry.
    """
    naming = _Naming(world, rules)
    rows = sorted((naming.name(host, row) for host, found in counted.items() for row in found), key=_kind)
    return [_sum(list(group)) for _, group in itertools.groupby(rows, _kind)]


def service_text(protocol: int, port: int) -> str:
    """Write what a connection was opened to as policies do: ``tcp/443``, ``icmp/8.0``, ``47``; a dash if not IP."""
    if protocol in PROTOCOLS.values() and (port or protocol in ECHO_REQUEST):  # else none was read
        return format_ports(PortRange(protocol=protocol, first=port, last=port))
    return format_ports(PortRange(protocol=protocol)) if protocol else "-"


_LAST_WORDS = (RuleRef.builtin, RuleRef.unmatched, RuleRef.quarantine, RuleRef.isolated)

_kind = operator.attrgetter("kind")


class _Naming:
    def __init__(self, world: World, rules: Mapping[str, int]) -> None:
        self._vnics: Mapping[int, tuple[VirtualMachine, Vnic]] = {v.id: (vm, v) for vm, v in world.vnics()}
        self._holders = {
            (vnic.network.routing_domain, address): vm.path for vm, vnic in world.vnics() for address in vnic.held
        }
        known = (rule.ref for policy in world.policies for side in policy.rules.values() for rule in side)
        last_words = (named(direction) for direction in Direction for named in _LAST_WORDS)
        self._rules = {number: text for text, number in rules.items()}
        self._rules |= {ref.id: ref.text for ref in itertools.chain(known, last_words)}

    def name(self, host: str, row: FlowRow) -> NamedRow:
        near, far = "an unknown tap", "-" if row.remote == UNREAD else str(row.remote)
        if row.vnic in self._vnics:
            vm, vnic = self._vnics[row.vnic]
            near, far = vm.path, self._holders.get((vnic.network.routing_domain, row.remote), far)
        source, target = (near, far) if row.direction is Direction.EGRESS else (far, near)
        return NamedRow(
            host=host,
            source=source,
            target=target,
            service=service_text(row.protocol, row.port),
            direction=row.direction,
            packets=row.packets_out + row.packets_in,
            bytes=row.bytes_out + row.bytes_in,
            connections=row.connections,
            outcome=row.outcome,
            staged=row.staged,
            reason=row.reason,
            rule=self._rules.get(row.rule, f"a rule no longer known ({row.rule:#x})") if row.rule else "",
            identity=row.identity,
        )


def _sum(rows: list[NamedRow]) -> NamedRow:
    identities = {row.identity for row in rows}
    return dataclasses.replace(
        rows[0],
        host=", ".join(sorted({row.host for row in rows})),
        packets=sum(row.packets for row in rows),
        bytes=sum(row.bytes for row in rows),
        connections=sum(row.connections for row in rows),
        identity=identities.pop() if len(identities) == 1 else None,
    )
