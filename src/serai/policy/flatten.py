"""Flattens ordered tiers of rules into one decision per protocol and port: what a decision list holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from serai.model.policy import ANY_PROTOCOL, Action, Direction, PortRange, RuleRef
from serai.model.records import DECISION, INTERVALS, PAGE, Step
from serai.model.tenancy import ContentId, content_id

_LAST_PORT = 65535


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A rule that applies to some peer, boiled down to ports and action."""

    ref: RuleRef
    action: Action
    ports: tuple[PortRange, ...]
    """Empty: every protocol and port."""
    staged: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One level of one tier: its lines in the order in which they are asked."""

    lines: tuple[Line, ...]
    closes: RuleRef | None = None
    """Deny in this name what no line matches (the Tenant tier's word on the VMs that it selects)."""
    closes_staged: bool = False
    """Only staged policies select the VM: the closing word is theirs."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Said:
    """One verdict and the rule that gives it."""

    step: Step
    ref: RuleRef


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Interval:
    """From ``first`` up to the next interval: the verdict in force and the one with staged policies."""

    first: int
    said: Said
    staged: Said


_Entry = tuple[int, tuple[int, int, int, int]]
"""Where an interval of a page starts; its rule, staged rule, step and staged step."""

DecisionList = Mapping[int, tuple[Interval, ...]]
"""By protocol (``ANY_PROTOCOL`` for those not named), intervals that cover ports 0 to 65535."""


def flatten(stages: Sequence[Stage], direction: Direction, last_word: Action) -> DecisionList:
    """Work out the decision for every protocol and port."""
    protocols = {r.protocol for stage in stages for line in stage.lines for r in line.ports}
    last = Said(_step(last_word), RuleRef.builtin(direction))
    lists = {}
    for protocol in sorted(protocols | {ANY_PROTOCOL}):
        intervals: list[Interval] = []
        for first in _boundaries(stages, protocol):
            said, staged = (_first_match(stages, protocol, first, last, staged=s) for s in (False, True))
            if not intervals or (intervals[-1].said, intervals[-1].staged) != (said, staged):
                intervals.append(Interval(first, said, staged))
        lists[protocol] = tuple(intervals)
    common = lists[ANY_PROTOCOL]
    return {p: found for p, found in lists.items() if p == ANY_PROTOCOL or found != common}


def pages(decisions: DecisionList) -> tuple[ContentId, set[bytes]]:
    """Lay a decision list out in pages; return the number that names it and the records of ``PAGE``."""
    name = content_id("list", *(_spell(p, intervals) for p, intervals in sorted(decisions.items())))
    records: set[bytes] = set()
    for protocol, intervals in decisions.items():
        records |= _pages(name, protocol, intervals)
    return name, records


def _step(action: Action) -> Step:
    return Step.ACCEPT if action is Action.ACCEPT else Step.DENY


def _boundaries(stages: Sequence[Stage], protocol: int) -> list[int]:
    """Where a verdict may change: the starts of ranges and the ports behind their ends."""
    ranges = [r for s in stages for line in s.lines for r in line.ports if r.protocol in (protocol, ANY_PROTOCOL)]
    edges = {0} | {r.first for r in ranges} | {r.last + 1 for r in ranges}
    return sorted(edge for edge in edges if edge <= _LAST_PORT)


def _first_match(stages: Sequence[Stage], protocol: int, port: int, last: Said, *, staged: bool) -> Said:
    for stage in stages:
        for line in stage.lines:
            if line.staged and not staged:
                continue
            if line.ports and not any(r.contains(protocol, port) for r in line.ports):
                continue
            if line.action is Action.PASS:
                break
            return Said(_step(line.action), line.ref)
        else:
            if stage.closes and (staged or not stage.closes_staged):
                return Said(Step.DENY, stage.closes)
    return last


def _spell(protocol: int, intervals: Iterable[Interval]) -> str:
    words = (f"{i.first}:{i.said.step:d}:{i.said.ref.text}:{i.staged.step:d}:{i.staged.ref.text}" for i in intervals)
    return f"{protocol}|" + "|".join(words)


def _pages(name: int, protocol: int, intervals: Sequence[Interval]) -> set[bytes]:
    """One page where they fit, else a page of pages, as deep as it takes."""
    entries: list[_Entry] = [(i.first, (i.said.ref.id, i.staged.ref.id, i.said.step, i.staged.step)) for i in intervals]
    below: set[bytes] = set()
    level = 0
    while len(entries) > INTERVALS:
        level += 1
        groups = [entries[at : at + INTERVALS] for at in range(0, len(entries), INTERVALS)]
        parents: list[_Entry] = []
        for at, group in enumerate(groups):
            child = content_id("page", str(name), str(protocol), str(level), str(at))
            below.add(_page(child, protocol, group))
            parents.append((group[0][0], (child, 0, Step.DESCEND, Step.DESCEND)))
        entries = parents
    return below | {_page(name, protocol, entries)}


def _page(name: int, protocol: int, entries: Sequence[_Entry]) -> bytes:
    page = np.zeros(1, PAGE)
    page["list"], page["protocol"], page["count"] = name, protocol, len(entries)
    page["first"] = _LAST_PORT  # where nothing starts: the gate counts on it
    for at, (first, decision) in enumerate(entries):
        if at:
            page["first"][0, at - 1] = first
        page["decisions"][0, at] = np.array((*decision, [0] * 6), DECISION)
    return page.tobytes()
