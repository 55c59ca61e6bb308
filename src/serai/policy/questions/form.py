"""Questions as texts, and answers in the form of JSON: what programs are given, and what people are told from.

The form of ``can``, ``reach`` and ``diff`` is that of ``--json``, wherever the world is that was asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Direction
from serai.model.ports import format_ports
from serai.model.world import World
from serai.policy.evaluate import Decision
from serai.policy.questions.account import Account, PassedOver
from serai.policy.questions.answer import Answer
from serai.policy.questions.diff import Difference, diff
from serai.policy.questions.names import Part, State
from serai.policy.questions.question import apart, connections, parse_end, parse_service, require_opening
from serai.policy.questions.reach import reach
from serai.policy.questions.rows import Row
from serai.policy.questions.selection import parse_choice

_NEAR_MISSES = 3
"""How many are told, a side."""

Form = dict[str, Any]

_Holder = tuple[VirtualMachine, Vnic]


def answer_can(world: World, source: str, target: str, service: str) -> Form:
    """Say whether one machine can open a connection to another.

    The fields beside ``connections`` are those of the first connection that can be opened. There is no ``connections``,
    and a ``reason``, where the two cannot reach each other at all.

    Raises:
        QuestionError: it makes no sense; the text says how to ask.
    """
    ends = parse_end(world, source), parse_end(world, target)
    asked = parse_service(service)
    require_opening(asked, service)
    answers = [Answer.of(world, connection) for connection in connections(*ends, *asked)]
    if not answers:
        left, right = map(str, ends)
        return {"allowed": False, "verdict": None, "reason": apart(*ends), "from": left, "to": right}
    decisive = next((answer for answer in answers if answer.passes), answers[0])
    protocol, port = asked
    return {
        **_answer(world, decisive),
        "service": {"text": service, "protocol": protocol, "port": port},
        "connections": [_answer(world, answer) for answer in answers],
    }


def answer_reach(world: World, source: str | None, target: str | None) -> Form:
    """List what some can open to others; None means everybody.

    Raises:
        QuestionError: it makes no sense; the text says how to ask.
    """
    found = reach(world, parse_choice(world, source), parse_choice(world, target))
    return {
        "reach": [_row(row) for domain in found for row in domain.rows],
        "observed": sorted({path for domain in found for path in domain.observed}),
        "isolated": sorted({path for domain in found for path in domain.isolated}),
        "versions": {domain.routing_domain: list(domain.versions) for domain in found if domain.rows},
        "meet": any(domain.meet for domain in found),
    }


def answer_diff(old: World, new: World) -> Form:
    """List the connections that are accepted in one world and not in the other."""
    found = diff(old, new)
    return {
        "opened": [_row(row) for domain in found for row in domain.opened],
        "closed": [_row(row) for domain in found for row in domain.closed],
        "versions": {d.routing_domain: list(d.versions) for d in found if d.opened or d.closed},
    }


def openings(old: World, new: World) -> Sequence[tuple[str, str, str, str]]:
    """Write the same in short, for a plan: ``opens`` or ``closes``, sources, targets and ports, each in one phrase."""
    return [told for domain in diff(old, new) for told in _openings(domain)]


def _openings(domain: Difference) -> Iterator[tuple[str, str, str, str]]:
    for change, found in (("opens", domain.opened), ("closes", domain.closed)):
        for row in found:
            source, target = (", ".join(part.name for part in side) for side in (row.source, row.target))
            but = row.ports.exceptions(row.versions)
            ports = ", ".join(row.ports.texts(row.versions)) + (f" except {', '.join(but)}" if but else "")
            yield change, source, target, ports


def _answer(world: World, answer: Answer) -> Form:
    connection, verdict, staged = answer.connection, answer.verdict, answer.staged
    near: dict[str, list[Form]] = {}
    for direction, miss in answer.near_misses(world):
        those = near.setdefault(direction.value, [])
        if len(those) < _NEAR_MISSES:
            those.append({"rule": miss.ref.text, "ports": list(map(format_ports, miss.ports))})
    return {
        "allowed": answer.passes,
        "verdict": verdict.action.value,
        "version": answer.version,
        "droppedFor": answer.refused.name.lower() if answer.refused else None,
        "routingDomain": connection.routing_domain,
        "source": _end(verdict.source, connection.source),
        "destination": _end(verdict.destination, connection.destination),
        "egress": _side(answer, Direction.EGRESS, verdict.egress),
        "ingress": _side(answer, Direction.INGRESS, verdict.ingress),
        "staged": {
            "verdict": staged.action.value,
            "egress": _side(answer, Direction.EGRESS, staged.egress, staged=True),
            "ingress": _side(answer, Direction.INGRESS, staged.ingress, staged=True),
        },
        "nearest": near,
    }


def _end(holder: _Holder | None, address: Address) -> Form:
    vm, vnic = holder or (None, None)
    return {
        "address": str(address),
        "vm": vm.path if vm else None,
        "vnic": vnic.name if vnic else None,
        "several": bool(vm and len(vm.vnics) > 1),
        "mode": vm.mode.value if vm else None,
    }


def _side(answer: Answer, direction: Direction, decision: Decision | None, *, staged: bool = False) -> Form | None:
    if decision is None:
        return None
    return {
        "action": decision.action.value,
        "rule": decision.ref.text,
        "tier": decision.tier.value if decision.tier else None,
        "level": decision.level,
        "passed": [ref.text for ref in decision.passed],
        **_account(answer.accounts[direction, staged]),
    }


def _account(account: Account) -> Form:
    return {
        "passedOver": list(map(_passed_over, account.passed_over)),
        "notAsked": [{"tier": each.tier.value, "why": each.why.value} for each in account.unasked],
    }


def _passed_over(each: PassedOver) -> Form:
    ports = {"ports": list(map(format_ports, each.ports))} if each.ports else {}
    by = {"by": each.by.text} if each.by else {}
    return {"rule": each.ref.text, "why": each.why.value, **ports, **by}


def _row(row: Row) -> Form:
    return {
        "routingDomain": row.routing_domain,
        "from": [_part(part) for part in row.source],
        "to": [_part(part) for part in row.target],
        "ports": list(row.ports.texts(row.versions)),
        "except": list(row.ports.exceptions(row.versions)),
        "versions": list(row.versions),
    }


def _part(part: Part) -> Form:
    fields: Form = {"name": part.name}
    if part.vms:
        fields |= {"vms": list(part.vms), "addresses": [str(address) for address in part.addresses]}
    if part.outside:
        fields["outside"] = [{"prefix": str(p), "except": [str(each) for each in but]} for p, but in part.outside]
    if part.state is not State.BOTH:
        fields["state"] = part.state.value
    return fields
