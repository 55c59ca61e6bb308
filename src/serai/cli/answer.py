"""What ``serai can`` answers: judged for each version of IP, told once where both come out alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.text import Text

from serai.cli.account import account_fields, tell_accounts
from serai.cli.show import line
from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, RuleRef, Tier
from serai.model.ports import format_ports
from serai.model.reasons import Reason
from serai.model.tenancy import Mode
from serai.model.tunnels import is_tunnel
from serai.model.world import World
from serai.policy.evaluate import Connection, Decision, Verdict, judge
from serai.policy.questions.account import Account, account
from serai.policy.questions.explain import near_misses

_NEAR_MISSES_SHOWN = 3
_ISOLATED = {named(direction) for direction in Direction for named in (RuleRef.quarantine, RuleRef.isolated)}

_Holder = tuple[VirtualMachine, Vnic]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One connection, and what becomes of it."""

    connection: Connection
    verdict: Verdict
    staged: Verdict
    """With the staged policies in force."""
    accounts: Mapping[tuple[Direction, bool], Account]
    """How each side that is a VM's came to its verdict, in force (False) and with the staged policies (True)."""
    refused: Reason | None
    """What the source's own gate drops it for before any policy is asked."""

    @classmethod
    def of(cls, world: World, connection: Connection) -> Self:
        """Ask the policies, and what the source's vNIC may do at all."""
        verdict = judge(world, connection)
        may_not_tunnel = verdict.source is not None and not verdict.source[1].security.tunnels
        tunnel = may_not_tunnel and is_tunnel(connection.protocol, connection.port)
        return cls(
            connection=connection,
            verdict=verdict,
            staged=judge(world, connection, staged=True),
            accounts=_accounts(world, connection, verdict),
            refused=Reason.TUNNEL if tunnel else None,
        )

    @property
    def accepted(self) -> bool:
        """Nothing speaks against it."""
        return self.refused is None and self.verdict.action is Action.ACCEPT

    @property
    def passes(self) -> bool:
        """It gets through: nothing is dropped from or to a VM that is only observed."""
        dropped = self.refused and self.verdict.source and self.verdict.source[0].mode is not Mode.OBSERVE
        return self.verdict.passes and not dropped

    @property
    def version(self) -> int:
        """Of IP."""
        return self.connection.source.version

    @property
    def said(self) -> tuple[object, ...]:
        """All that is said of it but the addresses."""
        verdicts = (self.verdict, self.staged)
        return (self.refused, *((verdict.egress, verdict.ingress) for verdict in verdicts))


def tell(to: Console, world: World, answers: Sequence[Answer], service: str, *, explain: bool) -> None:
    """Answer a person who asked about ``service``; ``explain`` what was passed over, if they want to know."""
    if len({answer.said for answer in answers}) == 1:
        _tell_alike(to, world, answers, service, explain=explain)
        return
    versions = [f"IPv{answer.version}" for answer in answers if answer.passes]
    if len(versions) == 1:
        line(to, Text.assemble(("Yes", "bold yellow"), f", but over {versions[0]} only:"))
    else:
        line(to, f"{'Yes' if versions else 'No'}, over IPv4 and IPv6 by different rules:")
    for answer in answers:
        _tell_alike(to, world, [answer], service, explain=explain)


def _tell_alike(to: Console, world: World, answers: Sequence[Answer], service: str, *, explain: bool) -> None:
    """Tell several answers that differ in nothing but addresses."""
    one = answers[0]
    source = _end(one.verdict.source, [answer.connection.source for answer in answers])
    destination = _end(one.verdict.destination, [answer.connection.destination for answer in answers])
    opens = f"open {service} to {destination}"
    if one.accepted:
        answer = Text.assemble(("Yes", "bold green"), f": {source} can {opens}.")
    elif one.passes:
        but = f": {source} can {opens}, but only because what is denied is not dropped in observe mode."
        answer = Text.assemble(("Yes", "bold yellow"), but)
    else:
        answer = Text.assemble(("No", "bold red"), f": {source} cannot {opens}.")
    line(to, answer)
    if one.refused:
        line(to, f"  The gate of {source} drops it before any policy is asked: {one.refused.description}.")
    line(to, f"  Leaving {source}: {_side(one.verdict.source, one.verdict.egress)}")
    if explain:
        _tell_accounts(to, answers, Direction.EGRESS, staged=False)
    line(to, f"  Entering {destination}: {_side(one.verdict.destination, one.verdict.ingress)}")
    if explain:
        _tell_accounts(to, answers, Direction.INGRESS, staged=False)
    for where, direction, now, then in (
        ("leaving", Direction.EGRESS, one.verdict.egress, one.staged.egress),
        ("entering", Direction.INGRESS, one.verdict.ingress, one.staged.ingress),
    ):
        if then and then != now:
            line(to, f"  With the staged policies in force, {where}: {_decision(then)}", style="yellow")
            if explain:
                _tell_accounts(to, answers, direction, staged=True)
    _tell_near_misses(to, world, answers)


def _tell_accounts(to: Console, answers: Sequence[Answer], direction: Direction, *, staged: bool) -> None:
    tell_accounts(
        to, [(a.version, a.accounts[direction, staged]) for a in answers if (direction, staged) in a.accounts]
    )


def _tell_near_misses(to: Console, world: World, answers: Sequence[Answer]) -> None:
    """Point at the rules that come closest where no rule decided, for that is where a typing error hides."""
    hints: dict[str, list[str]] = {}
    for answer in answers:
        for hint in _near_misses(world, answer):
            hints.setdefault(hint, []).append(f"IPv{answer.version}")
    for hint, versions in hints.items():
        only = "" if len(versions) == len(answers) else f" over {versions[0]}"
        line(to, f"  Nearest rule{only} for {hint}.", style="dim")


def _near_misses(world: World, answer: Answer) -> Iterator[str]:
    connection, verdict = answer.connection, answer.verdict
    for direction, holder, decision, remote in (
        (Direction.EGRESS, verdict.source, verdict.egress, connection.destination),
        (Direction.INGRESS, verdict.destination, verdict.ingress, connection.source),
    ):
        if not holder or not decision or decision.action is not Action.DENY or decision.level is not None:
            continue
        service = connection.protocol, connection.port
        for miss in near_misses(world, *holder, direction, remote, *service)[:_NEAR_MISSES_SHOWN]:
            but = f"this peer on {', '.join(map(format_ports, miss.ports))}" if miss.ports else "other peers"
            yield f"{direction}: {miss.ref.text} accepts {but}"


def _accounts(world: World, connection: Connection, verdict: Verdict) -> Mapping[tuple[Direction, bool], Account]:
    service = connection.protocol, connection.port
    sides = (
        (Direction.EGRESS, verdict.source, connection.destination),
        (Direction.INGRESS, verdict.destination, connection.source),
    )
    return {
        (direction, staged): account(world, *holder, direction, remote, *service, staged=staged)
        for direction, holder, remote in sides
        if holder
        for staged in (False, True)
    }


def _end(holder: _Holder | None, addresses: Iterable[Address]) -> str:
    listed = ", ".join(map(str, dict.fromkeys(addresses)))
    if holder is None:
        return listed
    vm, vnic = holder
    return f"{vm.path}{'/' + vnic.name if len(vm.vnics) > 1 else ''} ({listed})"


def _side(holder: _Holder | None, decision: Decision | None) -> str:
    if holder is None or decision is None:
        return "no VM, so there is nothing to judge here."
    vm, _ = holder
    observed = decision.action is Action.DENY and vm.mode is Mode.OBSERVE
    return _decision(decision) + (" The VM is in observe mode: the packets pass." if observed else "")


def _decision(decision: Decision) -> str:
    verb = "accepted" if decision.action is Action.ACCEPT else "denied"
    passed = f", after Pass by {' and '.join(ref.text for ref in decision.passed)}" if decision.passed else ""
    if decision.level is not None:
        where = f"{decision.tier} tier, level {decision.level}"
        return f"{verb} by the rule {decision.ref.text} ({where}){passed}."
    if decision.ref in _ISOLATED:
        names = "names" if decision.action is Action.ACCEPT else "does not name"
        return f"{verb}: the VM is isolated, and the site's quarantine {names} the other end ({decision.ref.text})."
    if decision.tier is Tier.TENANT:
        direction = "egress" if decision.ref == RuleRef.unmatched(Direction.EGRESS) else "ingress"
        why = f"Tenant policies govern its {direction} and no rule matches"
        return f"{verb}: {why} ({decision.ref.text}){passed}."
    return f"{verb}: no policy decides, so the site's default counts ({decision.ref.text}){passed}."


def answer_fields(answers: Sequence[Answer], service: str) -> dict[str, object]:
    """Answer a program. The fields beside ``connections`` are those of the first connection that can be opened."""
    decisive = next((answer for answer in answers if answer.passes), answers[0])
    connection = decisive.connection
    return {
        **_fields(decisive),
        "service": {"text": service, "protocol": connection.protocol, "port": connection.port},
        "connections": list(map(_fields, answers)),
    }


def _fields(answer: Answer) -> dict[str, object]:
    connection, verdict, staged = answer.connection, answer.verdict, answer.staged
    return {
        "allowed": answer.passes,
        "verdict": verdict.action.value,
        "version": answer.version,
        "droppedFor": answer.refused.name.lower() if answer.refused else None,
        "routingDomain": connection.routing_domain,
        "source": _end_fields(verdict.source, connection.source),
        "destination": _end_fields(verdict.destination, connection.destination),
        "egress": _side_fields(answer, Direction.EGRESS, verdict.egress),
        "ingress": _side_fields(answer, Direction.INGRESS, verdict.ingress),
        "staged": {
            "verdict": staged.action.value,
            "egress": _side_fields(answer, Direction.EGRESS, staged.egress, staged=True),
            "ingress": _side_fields(answer, Direction.INGRESS, staged.ingress, staged=True),
        },
    }


def _end_fields(holder: _Holder | None, address: Address) -> dict[str, str | None]:
    vm, vnic = holder or (None, None)
    return {
        "address": str(address),
        "vm": vm.path if vm else None,
        "vnic": vnic.name if vnic else None,
        "mode": vm.mode.value if vm else None,
    }


def _side_fields(
    answer: Answer, direction: Direction, decision: Decision | None, *, staged: bool = False
) -> dict[str, object] | None:
    if decision is None:
        return None
    return {
        "action": decision.action.value,
        "rule": decision.ref.text,
        "tier": decision.tier.value if decision.tier else None,
        "level": decision.level,
        "passed": [ref.text for ref in decision.passed],
        **account_fields(answer.accounts[direction, staged]),
    }
