"""``serai prove``: do the policies keep the invariants?"""

from __future__ import annotations

import collections
import shlex
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from serai.cli.reach import note_modes
from serai.cli.show import as_json, console, line
from serai.inventory.files import load
from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, PortRange
from serai.model.ports import ECHO_REQUEST, WITH_PORTS, format_ports
from serai.policy.evaluate import Decision
from serai.policy.questions.prove import Finding, Outcome, Witness, is_first
from serai.policy.questions.prove import prove as prove_all
from serai.policy.questions.question import QuestionError

_STYLES = {Outcome.PROVEN: "bold green", Outcome.REFUTED: "bold red", Outcome.VACUOUS: "bold yellow"}
_MARGIN = " " * 9

_Holder = tuple[VirtualMachine, Vnic]


@click.command(short_help="Prove that policies keep the invariants.")
@click.argument("directory", type=click.Path())
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def prove(directory: str, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Prove every Invariant in the files of DIRECTORY, for every packet there can be, or show one that breaks it.

    Exit status: 0 all are proven, 1 some are refuted or vacuous (they say nothing), 2 there is nothing to prove.
    """
    world = load(directory)
    if not world.invariants:
        message = f"{directory} has no Invariant: there is nothing to prove"
        raise QuestionError(message)
    findings = prove_all(world)
    if json_:
        as_json(console(), {"proven": _all_proven(findings), "invariants": [_fields(one) for one in findings]})
    else:
        _tell(console(), findings, directory)
    sys.exit(0 if _all_proven(findings) else 1)


def _all_proven(findings: Sequence[Finding]) -> bool:
    return all(finding.outcome is Outcome.PROVEN for finding in findings)


def _tell(to: Console, findings: Sequence[Finding], directory: str) -> None:
    for finding in findings:
        invariant = finding.invariant
        described = f": {invariant.description}" if invariant.description else ""
        line(to, Text.assemble((f"{finding.outcome:<8}", _STYLES[finding.outcome]), f" {invariant.path}{described}"))
        for text in _reasons(finding, directory):
            line(to, _MARGIN + text)
    counted = collections.Counter(finding.outcome for finding in findings)
    line(to, ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome]) + ".")
    observed, isolated = (
        sorted({path for paths in lists for path in paths})
        for lists in ([one.observed for one in findings], [one.isolated for one in findings])
    )
    note_modes(to, observed, isolated)


def _reasons(finding: Finding, directory: str) -> list[str]:
    if finding.witness:
        return _refutation(finding.witness, directory)
    if finding.vacuity:
        return [f"It says nothing: {finding.vacuity}."]
    if finding.apart:
        domains = " and ".join(", ".join(found) for found in (finding.source_domains, finding.target_domains))
        return [f"No routing domain holds both sides, so that they can never meet: {domains}."]
    return []


def _refutation(witness: Witness, directory: str) -> list[str]:
    connection, verdict = witness.connection, witness.verdict
    source = _end(verdict.source, connection.source)
    target = _end(verdict.destination, connection.destination)
    said = "is accepted" if verdict.action is Action.ACCEPT else "is denied"
    asked = ("serai", "can", directory, *_question(witness))
    return [
        f"{_service(witness)} from {source} to {target} {said}:",
        f"  leaving:  {_side(verdict.egress)}",
        f"  entering: {_side(verdict.ingress)}",
        f"See: {shlex.join(asked)}",
    ]


def _question(witness: Witness) -> tuple[str, str, str]:
    """Ask about this connection and no other, as far as ``serai can`` is able to."""
    ends = (
        (witness.verdict.source, witness.connection.source),
        (witness.verdict.destination, witness.connection.destination),
    )
    # It takes an address as it is, and a VM by its first address of each kind; one VM it needs, to know where it is.
    names = [_name(*holder) if holder else None for holder, _ in ends]
    addresses = [str(address) for _, address in ends]
    sole = all(holder is None or holder[1].held == (address,) for holder, address in ends)
    source, target = names[0] or addresses[0], names[1] or addresses[1]
    if not sole and names[0] and names[1]:
        source, target = (addresses[0], target) if _is_first(*ends[1]) else (source, addresses[1])
    return source, target, _service(witness)


def _is_first(holder: _Holder | None, address: Address) -> bool:
    return holder is not None and is_first(holder[1], address)


def _name(vm: VirtualMachine, vnic: Vnic) -> str:
    return f"{vm.path}/{vnic.name}" if len(vm.vnics) > 1 else vm.path


def _service(witness: Witness) -> str:
    protocol, port = witness.connection.protocol, witness.connection.port
    one = protocol in WITH_PORTS and protocol not in ECHO_REQUEST
    return format_ports(PortRange(protocol=protocol, first=port, last=port) if one else PortRange(protocol=protocol))


def _end(holder: _Holder | None, address: Address) -> str:
    return f"{holder[0].path} ({address})" if holder else str(address)


def _side(decision: Decision | None) -> str:
    if decision is None:
        return "no VM, so there is nothing to judge here"
    verb = "accepted" if decision.action is Action.ACCEPT else "denied"
    where = f" ({decision.tier} tier)" if decision.tier else ""
    return f"{verb} by {decision.ref.text}{where}"


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "invariant": finding.invariant.path,
        "claim": finding.invariant.claim.value,
        "description": finding.invariant.description,
        "outcome": finding.outcome.value,
        "reason": finding.vacuity.value if finding.vacuity else None,
        "apart": finding.apart,
        "from": {"vms": list(finding.sources), "routingDomains": list(finding.source_domains)},
        "to": {"vms": list(finding.targets), "routingDomains": list(finding.target_domains)},
        "observed": list(finding.observed),
        "isolated": list(finding.isolated),
        "witness": _witness_fields(finding.witness) if finding.witness else None,
    }


def _witness_fields(witness: Witness) -> dict[str, object]:
    connection, verdict = witness.connection, witness.verdict
    return {
        "routingDomain": connection.routing_domain,
        "source": {"vm": verdict.source[0].path if verdict.source else None, "address": str(connection.source)},
        "destination": {
            "vm": verdict.destination[0].path if verdict.destination else None,
            "address": str(connection.destination),
        },
        "protocol": connection.protocol,
        "port": connection.port,
        "service": _service(witness),
        "verdict": verdict.action.value,
        "egress": verdict.egress.ref.text if verdict.egress else None,
        "ingress": verdict.ingress.ref.text if verdict.ingress else None,
        "question": list(_question(witness)),
    }
