"""Steps a and b: what observing shows, and what enforcing does."""

from __future__ import annotations

from collections.abc import Sequence

from serai.analysis.naming import NamedRow
from serai.lab.tour.findings import Probes
from serai.lab.tour.matrix import Tried, grid, on_record, try_all
from serai.lab.tour.stage import Stage, since
from serai.model.tenancy import Mode


async def observe(stage: Stage) -> Probes:
    """Try everything while the gates only observe."""
    stage.narrator.chapter(
        "Before enforcement",
        "The gates sit at every vNIC and judge every connection, but let everything pass (mode: observe).",
    )
    tried, rows = await _matrix(stage, Mode.OBSERVE, "Every guest tries every service of every other guest")
    reached = sum(t.reached for t in tried)
    stage.narrator.found(
        f"{reached} of {len(tried)} connections came through: everything talks to everything.",
        good=reached == len(tried),
    )
    denied = [t for t in tried if not t.accepted]
    stage.narrator.say(
        f"Enforcing would deny {len(denied)} of them. By rule ('unmatched': a Tenant policy governs the VM and none of "
        "its rules matches):"
    )
    _tell_rules(stage, denied)
    return _count(stage, tried, rows)


async def enforce(stage: Stage) -> Probes:
    """Try everything again with the gates enforcing."""
    stage.narrator.chapter(
        "Enforcement on",
        "One word changes in the Site resource (mode: enforce). Each connection is tried for real again.",
    )
    tried, rows = await _matrix(stage, Mode.ENFORCE, "The same connections again")
    stage.narrator.say("Who reaches whom now, over which services:")
    for network in sorted({stage.network_of(t.probe.target).name for t in tried}):
        mine = [t for t in tried if stage.network_of(t.probe.target).name == network]
        stage.narrator.table(*grid(mine))
    denied = [t for t in tried if not t.accepted]
    stage.narrator.say(f"{len(denied)} connections were denied. The gates have each on record, with the deciding rule:")
    _tell_rules(stage, denied)
    astray = sum(t.astray for t in tried)
    stage.narrator.found(
        f"{astray} connections were answered by a machine of the other tenant, which uses the same addresses.",
        good=astray == 0,
    )
    return _count(stage, tried, rows)


async def _matrix(stage: Stage, mode: Mode, text: str) -> tuple[list[Tried], list[NamedRow]]:
    world = await stage.set_mode(mode)
    before = await stage.rows(world)
    with stage.narrator.working(text):
        tried = await try_all(stage, world)
    return tried, since(before, await stage.rows(world))


def _tell_rules(stage: Stage, denied: Sequence[Tried]) -> None:
    by_rule: dict[str, list[Tried]] = {}
    for tried in denied:
        by_rule.setdefault(tried.decider.ref.text, []).append(tried)
    rows = []
    for rule, found in sorted(by_rule.items(), key=lambda item: -len(item[1])):
        example = found[0].probe
        rows.append([rule, str(len(found)), f"{example.source_name} -> {example.target.path} {example.service}"])
    stage.narrator.table(["RULE", "CONNECTIONS", "FOR EXAMPLE"], rows)


def _count(stage: Stage, tried: Sequence[Tried], rows: list[NamedRow]) -> Probes:
    as_expected = 0
    for each in tried:
        good = each.as_expected and (each.accepted or on_record(each, rows))
        as_expected += good
        if not good:
            stage.narrator.found(_complaint(each, rows), good=False)
    again = sum(each.tries > 1 for each in tried)
    if again:
        stage.narrator.say(f"{again} of them met silence at first, and came through when tried once more.")
    stage.narrator.found(
        f"{as_expected} of {len(tried)} connections came out exactly as the policies say.",
        good=as_expected == len(tried),
    )
    return Probes(total=len(tried), as_expected=as_expected)


def _complaint(tried: Tried, rows: list[NamedRow]) -> str:
    """What was expected, what was met, and what the gates say about it."""
    probe = tried.probe
    expected = "come through" if tried.passes else f"be denied by {tried.decider.ref.text}"
    met = f"answered by {tried.result.peer or 'it'}" if tried.result.ok else tried.result.error
    said = [
        f"{row.direction} on host {row.host}: {row.packets} packets {row.outcome} ({row.rule or row.reason.name})"
        for row in tried.rows(rows)
    ]
    return (
        f"{probe.source_name} -> {probe.target.path} {probe.service} should {expected}, but: {met}. "
        f"The gates say: {'; '.join(said) or 'nothing'}."
    )
