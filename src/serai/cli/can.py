"""``serai can``: may this machine open a connection to that one, and who says so?"""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from serai.cli.question import End, connect, parse_end, parse_service, require_opening
from serai.cli.show import as_json, console, line
from serai.inventory.files import load
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, RuleRef, Tier
from serai.model.ports import format_ports
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import Connection, Decision, Verdict, judge
from serai.policy.explain import near_misses

_NEAR_MISSES_SHOWN = 3


@click.command(short_help="Say whether one machine can open a connection to another.")
@click.argument("directory", type=click.Path())
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.argument("service", metavar="PROTO/PORT")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def can(directory: str, source: str, destination: str, service: str, json_: bool) -> None:  # noqa: FBT001
    """Say whether FROM can open a connection to TO, by the files of DIRECTORY.

    FROM and TO are a VM (/acme/shop:web, or web where that is clear, or web/eth1 for one of several vNICs)
    or an IPv4 address. PROTO/PORT is tcp/443, udp/53, icmp (an echo request) or a protocol number.

    Exit status: 0 it can, 1 it cannot, 2 the question makes no sense.
    """
    world = load(directory)
    ends = parse_end(world, source), parse_end(world, destination)
    asked = parse_service(service)
    require_opening(asked, service)
    connection = connect(*ends, *asked)
    if connection is None:
        _tell_separate(*ends, json_=json_)
        sys.exit(1)
    verdict = judge(world, connection)
    staged = judge(world, connection, staged=True)
    if json_:
        as_json(console(), _answer(connection, service, verdict, staged))
    else:
        _tell(console(), connection, service, verdict, staged)
        _tell_near_misses(console(), world, connection, verdict)
    sys.exit(0 if verdict.passes else 1)


def _tell_separate(source: End, destination: End, *, json_: bool) -> None:
    domains = [
        " and ".join(sorted({vnic.network.routing_domain for vnic in end.vnics})) for end in (source, destination)
    ]
    reason = f"no routing domain holds both: one is in {domains[0]}, the other in {domains[1]}"
    if json_:
        as_json(console(), {"allowed": False, "verdict": None, "reason": reason})
        return
    answer = Text.assemble(("No", "bold red"), f": {source} cannot reach {destination} at all: {reason}.")
    line(console(), answer)


def _tell(to: Console, connection: Connection, service: str, verdict: Verdict, staged: Verdict) -> None:
    opens = f"open {service} to {_end(verdict.destination, connection.destination)}"
    source = _end(verdict.source, connection.source)
    if verdict.action is Action.ACCEPT:
        answer = Text.assemble(("Yes", "bold green"), f": {source} can {opens}.")
    elif verdict.passes:
        but = f": {source} can {opens}, but only because what is denied is not dropped in observe mode."
        answer = Text.assemble(("Yes", "bold yellow"), but)
    else:
        answer = Text.assemble(("No", "bold red"), f": {source} cannot {opens}.")
    line(to, answer)
    line(to, f"  Leaving {source}: {_side(verdict.source, verdict.egress)}")
    line(
        to,
        f"  Entering {_end(verdict.destination, connection.destination)}: "
        f"{_side(verdict.destination, verdict.ingress)}",
    )
    for where, now, then in (
        ("leaving", verdict.egress, staged.egress),
        ("entering", verdict.ingress, staged.ingress),
    ):
        if then and then != now:
            line(to, f"  With the staged policies in force, {where}: {_decision(then)}", style="yellow")


def _tell_near_misses(to: Console, world: World, connection: Connection, verdict: Verdict) -> None:
    """Point at the rules that come closest where no rule decided, for that is where a typing error hides."""
    for direction, holder, decision, remote in (
        (Direction.EGRESS, verdict.source, verdict.egress, connection.destination),
        (Direction.INGRESS, verdict.destination, verdict.ingress, connection.source),
    ):
        if not holder or not decision or decision.action is not Action.DENY or decision.level is not None:
            continue
        service = connection.protocol, connection.port
        for miss in near_misses(world, *holder, direction, remote, *service)[:_NEAR_MISSES_SHOWN]:
            but = f"this peer on {', '.join(map(format_ports, miss.ports))}" if miss.ports else "other peers"
            line(to, f"  Nearest rule for {direction}: {miss.ref.text} accepts {but}.", style="dim")


def _end(holder: tuple[VirtualMachine, Vnic] | None, address: object) -> str:
    if holder is None:
        return str(address)
    vm, vnic = holder
    return f"{vm.path}{'/' + vnic.name if len(vm.vnics) > 1 else ''} ({address})"


def _side(holder: tuple[VirtualMachine, Vnic] | None, decision: Decision | None) -> str:
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
    if decision.tier is Tier.TENANT:
        direction = "egress" if decision.ref == RuleRef.unmatched(Direction.EGRESS) else "ingress"
        why = f"Tenant policies govern its {direction} and no rule matches"
        return f"{verb}: {why} ({decision.ref.text}){passed}."
    return f"{verb}: no policy decides, so the site's default counts ({decision.ref.text}){passed}."


def _answer(connection: Connection, service: str, verdict: Verdict, staged: Verdict) -> dict[str, object]:
    return {
        "allowed": verdict.passes,
        "verdict": verdict.action.value,
        "routingDomain": connection.routing_domain,
        "source": _end_fields(verdict.source, connection.source),
        "destination": _end_fields(verdict.destination, connection.destination),
        "service": {"text": service, "protocol": connection.protocol, "port": connection.port},
        "egress": _decision_fields(verdict.egress),
        "ingress": _decision_fields(verdict.ingress),
        "staged": {
            "verdict": staged.action.value,
            "egress": _decision_fields(staged.egress),
            "ingress": _decision_fields(staged.ingress),
        },
    }


def _end_fields(holder: tuple[VirtualMachine, Vnic] | None, address: object) -> dict[str, str | None]:
    vm, vnic = holder or (None, None)
    return {
        "address": str(address),
        "vm": vm.path if vm else None,
        "vnic": vnic.name if vnic else None,
        "mode": vm.mode.value if vm else None,
    }


def _decision_fields(decision: Decision | None) -> dict[str, object] | None:
    if decision is None:
        return None
    return {
        "action": decision.action.value,
        "rule": decision.ref.text,
        "tier": decision.tier.value if decision.tier else None,
        "level": decision.level,
        "passed": [ref.text for ref in decision.passed],
    }
