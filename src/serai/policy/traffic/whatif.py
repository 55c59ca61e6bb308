"""What another world would have done to what was seen: recorded conversations, replayed against both."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from datetime import datetime

from serai.model.policy import Action, Direction
from serai.model.ports import WITH_PORTS, format_ports
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.traffic.ends import Ends
from serai.policy.traffic.gates import Gates, Said
from serai.policy.traffic.kinds import Kind, kinds
from serai.policy.traffic.seen import DYNAMIC, Conversation


class Change(enum.StrEnum):
    """What a conversation newly would be."""

    DENIED = "denied"
    ALLOWED = "allowed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of conversation that would come out otherwise."""

    change: Change
    source: str
    """Path of the VM, or the address of an end that is none."""
    target: str
    service: str
    """In the grammar of ports."""
    connections: int
    bytes: int
    last: datetime
    """When it was seen last."""
    rule_before: str
    """What decides in the old world, on the side that turns."""
    rule_after: str
    """What decides there in the new one."""

    @property
    def about(self) -> tuple[str, ...]:
        """All but the amounts."""
        return (self.change, self.source, self.target, self.service, self.rule_before, self.rule_after)

    def __add__(self, other: Row) -> Row:
        """Join rows about the same: VMs that spoke over both versions of IP."""
        return dataclasses.replace(
            self,
            connections=self.connections + other.connections,
            bytes=self.bytes + other.bytes,
            last=max(self.last, other.last),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a change would have done to what was seen."""

    rows: tuple[Row, ...]
    """Those newly denied first, the largest first."""
    conversations: int
    """Kinds of conversations that were replayed: ends, addresses as far as they are told, and service; each counts once, whoever told it."""
    unknown: int
    """Those that could not be: an end is gone, or the records do not tell ports apart that policies do."""


class _Outcome(enum.IntEnum):
    """What becomes of packets, the worst first."""

    DENIED = 0
    OBSERVED = 1
    """They pass, because the gate that denies them only observes."""
    ACCEPTED = 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Fate:
    outcome: _Outcome
    said: tuple[Said | None, Said | None]
    """Of the source's side and of the target's."""

    @property
    def worst(self) -> int:
        """The side that speaks for the outcome: the first of the worst."""
        outcomes = [_Outcome.ACCEPTED if said is None else _outcome(said) for said in self.said]
        return outcomes.index(min(outcomes))


def whatif(old_world: World, new_world: World, conversations: Iterable[Conversation]) -> WhatIf:
    """Replay conversations, whatever became of them when they were seen, in two worlds.

    A conversation is newly denied also where a gate that only observes would deny it from now on, and where a gate that
    observed what it denies would enforce it. Only packets that open a conversation are judged, as policies do; port
    security is not.

    Args:
        old_world: what is in force.
        new_world: what is to come.
        conversations: what was seen.
    """
    old, new = Gates(old_world), Gates(new_world)
    edges = [_dynamic_edges(world) for world in (old_world, new_world)]
    replayed = unknown = 0
    rows: dict[tuple[object, ...], Row] = {}
    for kind in kinds(conversations):
        conversation = kind.told[0]
        ends = old.finder.find(conversation), new.finder.find(conversation)
        fates = None
        if ends[0] is not None and ends[1] is not None:
            fates = _agreed(
                [
                    (_fate(old, ends[0], conversation.protocol, port), _fate(new, ends[1], conversation.protocol, port))
                    for port in _ports(conversation, edges)
                ]
            )
        if fates is None:
            unknown += 1
            continue
        replayed += 1
        if fates[0].outcome is not fates[1].outcome:
            row = _row(kind, *fates)
            known = rows.get(row.about)
            rows[row.about] = known + row if known else row
    return WhatIf(rows=tuple(sorted(rows.values(), key=_order)), conversations=replayed, unknown=unknown)


def _fate(gates: Gates, ends: Ends, protocol: int, port: int) -> _Fate:
    said = gates.judge(ends, Direction.EGRESS, protocol, port), gates.judge(ends, Direction.INGRESS, protocol, port)
    return _Fate(min((_outcome(each) for each in said if each), default=_Outcome.ACCEPTED), said)


def _outcome(said: Said) -> _Outcome:
    if said.action is Action.ACCEPT:
        return _Outcome.ACCEPTED
    return _Outcome.OBSERVED if said.mode is Mode.OBSERVE else _Outcome.DENIED


def _agreed(fates: list[tuple[_Fate, _Fate]]) -> tuple[_Fate, _Fate] | None:
    """Return what becomes of a conversation where all ports that it may have been on say the same."""
    first = fates[0]
    same = all((old.outcome, new.outcome) == (first[0].outcome, first[1].outcome) for old, new in fates)
    return first if same else None


def _row(kind: Kind, old: _Fate, new: _Fate) -> Row:
    amount = kind.amount
    change = Change.DENIED if new.outcome < old.outcome else Change.ALLOWED
    side = new.worst if change is Change.DENIED else old.worst
    before, after = old.said[side], new.said[side]
    return Row(
        change=change,
        source=str(kind.source),
        target=str(kind.target),
        service=format_ports(kind.service),
        connections=amount.connections,
        bytes=amount.bytes,
        last=amount.last,
        rule_before=before.ref.text if before else "",
        rule_after=after.ref.text if after else "",
    )


def _order(row: Row) -> tuple[object, ...]:
    return (row.change is Change.ALLOWED, -row.bytes, -row.connections, *row.about)


def _ports(conversation: Conversation, edges: list[dict[int, set[int]]]) -> list[int]:
    """Return the ports that a conversation may have been on, as far as policies tell them apart."""
    if conversation.protocol not in WITH_PORTS or conversation.port:
        return [conversation.port]
    return sorted({DYNAMIC[0], *(port for found in edges for port in found.get(conversation.protocol, ()))})


def _dynamic_edges(world: World) -> dict[int, set[int]]:
    """Return the dynamic ports at which what policies say may turn, by protocol."""
    found: dict[int, set[int]] = {protocol: set() for protocol in WITH_PORTS}
    for policy in world.policies:
        for ports in (p for rules in policy.rules.values() for rule in rules for c in rule.clauses for p in c.ports):
            turns = {port for port in (ports.first, ports.last + 1) if DYNAMIC[0] < port <= DYNAMIC[1]}
            for protocol in found:
                if ports.contains(protocol, ports.first):
                    found[protocol] |= turns
    return found
