"""How ``serai can`` tells its answer: judged for each version of IP, told once where both come out alike.

It is told from the form that programs get (``policy/questions/form.py``), which may come from a controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from serai.cli.account import tell_accounts
from serai.cli.show import line
from serai.model.policy import Action, Direction, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.tenancy import Mode

_ISOLATED = {named(direction).text for direction in Direction for named in (RuleRef.quarantine, RuleRef.isolated)}
_JUDGED = ("action", "rule", "tier", "level", "passed")
"""What is said of a side, but how it came to it."""

Form = Mapping[str, Any]


def tell(to: Console, answer: Form, *, explain: bool) -> None:
    """Answer a person; ``explain`` what was passed over, if they want to know."""
    if "connections" not in answer:
        reason = f": {answer['from']} cannot reach {answer['to']} at all: {answer['reason']}."
        line(to, Text.assemble(("No", "bold red"), reason))
        return
    found, service = answer["connections"], answer["service"]["text"]
    if len({repr(_said(one)) for one in found}) == 1:
        _tell_alike(to, found, service, explain=explain)
        return
    versions = [f"IPv{one['version']}" for one in found if one["allowed"]]
    if len(versions) == 1:
        line(to, Text.assemble(("Yes", "bold yellow"), f", but over {versions[0]} only:"))
    else:
        line(to, f"{'Yes' if versions else 'No'}, over IPv4 and IPv6 by different rules:")
    for one in found:
        _tell_alike(to, [one], service, explain=explain)


def _said(one: Form) -> object:
    """All that is said of a connection but the addresses."""
    return one["droppedFor"], [_judged(of[side]) for of in (one, one["staged"]) for side in ("egress", "ingress")]


def _judged(side: Form | None) -> object:
    return side and [side[field] for field in _JUDGED]


def _tell_alike(to: Console, found: Sequence[Form], service: str, *, explain: bool) -> None:
    """Tell several connections that differ in nothing but addresses."""
    one = found[0]
    source, destination = (
        _end(one[end], [each[end]["address"] for each in found]) for end in ("source", "destination")
    )
    opens = f"open {service} to {destination}"
    if one["droppedFor"] is None and one["verdict"] == Action.ACCEPT:
        answer = Text.assemble(("Yes", "bold green"), f": {source} can {opens}.")
    elif one["allowed"]:
        but = f": {source} can {opens}, but only because what is denied is not dropped in observe mode."
        answer = Text.assemble(("Yes", "bold yellow"), but)
    else:
        answer = Text.assemble(("No", "bold red"), f": {source} cannot {opens}.")
    line(to, answer)
    if one["droppedFor"]:
        why = Reason[one["droppedFor"].upper()].description
        line(to, f"  The gate of {source} drops it before any policy is asked: {why}.")
    for verb, name, end, side in (
        ("Leaving", source, "source", "egress"),
        ("Entering", destination, "destination", "ingress"),
    ):
        line(to, f"  {verb} {name}: {_side(one[end], one[side])}")
        if explain:
            tell_accounts(to, [(each["version"], each[side]) for each in found if each[side]])
    for where, side in (("leaving", "egress"), ("entering", "ingress")):
        then = one["staged"][side]
        if then and _judged(then) != _judged(one[side]):
            line(to, f"  With the staged policies in force, {where}: {_decision(then)}", style="yellow")
            if explain:
                tell_accounts(to, [(each["version"], each["staged"][side]) for each in found])
    _tell_near_misses(to, found)


def _tell_near_misses(to: Console, found: Sequence[Form]) -> None:
    hints: dict[str, list[str]] = {}
    for one in found:
        for direction, misses in one["nearest"].items():
            for miss in misses:
                but = f"this peer on {', '.join(miss['ports'])}" if miss["ports"] else "other peers"
                hints.setdefault(f"{direction}: {miss['rule']} accepts {but}", []).append(f"IPv{one['version']}")
    for hint, versions in hints.items():
        only = "" if len(versions) == len(found) else f" over {versions[0]}"
        line(to, f"  Nearest rule{only} for {hint}.", style="dim")


def _end(end: Form, addresses: Iterable[str]) -> str:
    listed = ", ".join(dict.fromkeys(addresses))
    if end["vm"] is None:
        return listed
    return f"{end['vm']}{'/' + end['vnic'] if end['several'] else ''} ({listed})"


def _side(end: Form, side: Form | None) -> str:
    if side is None:
        return "no VM, so there is nothing to judge here."
    observed = side["action"] == Action.DENY and end["mode"] == Mode.OBSERVE
    return _decision(side) + (" The VM is in observe mode: the packets pass." if observed else "")


def _decision(side: Form) -> str:
    accepted, rule = side["action"] == Action.ACCEPT, side["rule"]
    verb = "accepted" if accepted else "denied"
    passed = f", after Pass by {' and '.join(side['passed'])}" if side["passed"] else ""
    if side["level"] is not None:
        where = f"{side['tier']} tier, level {side['level']}"
        return f"{verb} by the rule {rule} ({where}){passed}."
    if rule in _ISOLATED:
        names = "names" if accepted else "does not name"
        return f"{verb}: the VM is isolated, and the site's quarantine {names} the other end ({rule})."
    if side["tier"] == Tier.TENANT:
        direction = "egress" if rule == RuleRef.unmatched(Direction.EGRESS).text else "ingress"
        return f"{verb}: Tenant policies govern its {direction} and no rule matches ({rule}){passed}."
    return f"{verb}: no policy decides, so the site's default counts ({rule}){passed}."
