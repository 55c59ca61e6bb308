"""Flattens ordered tiers of rules into one decision per protocol and port: what a decision list holds."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from serai.model.policy import ANY_PROTOCOL, Action, Direction, PortRange, RuleRef
from serai.model.records import Step

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


DecisionList = Mapping[int, tuple[Interval, ...]]
"""By protocol (``ANY_PROTOCOL`` for those not named), intervals that cover ports 0 to 65535."""

_Colours = tuple[list[int], list[Said]]
"""Where each interval starts, the first one at 0, and what is said there."""


def flatten(stages: Sequence[Stage], direction: Direction, last_word: Action) -> DecisionList:
    """Work out the decision for every protocol and port."""
    last: _Colours = [0], [Said(step_of(last_word), RuleRef.builtin(direction))]
    layers = [_layer(stage) for stage in reversed(stages)]
    differ = any(stage.closes_staged or any(line.staged for line in stage.lines) for stage in stages)
    lists: dict[int, tuple[Interval, ...]] = {}
    for protocol in sorted(
        {ANY_PROTOCOL, *(r.protocol for stage in stages for line in stage.lines for r in line.ports)}
    ):
        now = _paint(layers, protocol, last, staged=False)
        then = _paint(layers, protocol, last, staged=True) if differ else now
        lists[protocol] = tuple(_intervals(now, then))
    common = lists[ANY_PROTOCOL]
    return {p: found for p, found in lists.items() if p == ANY_PROTOCOL or found != common}


def said_at(decisions: DecisionList, protocol: int, port: int) -> Said:
    """Return what a decision list in force says of one protocol and port."""
    intervals = decisions.get(protocol, decisions[ANY_PROTOCOL])
    return intervals[bisect.bisect_right(intervals, port, key=lambda interval: interval.first) - 1].said


def step_of(action: Action) -> Step:
    """Return how the gate calls Accept or Deny."""
    return Step.ACCEPT if action is Action.ACCEPT else Step.DENY


_Layer = tuple[_Colours | None, bool, list[tuple[Line, _Colours | None]]]
"""A stage from behind: what closes it, whether that is staged, and each line with its colours (None: it passes)."""


def _layer(stage: Stage) -> _Layer:
    lines = [
        (line, None if line.action is Action.PASS else ([0], [Said(step_of(line.action), line.ref)]))
        for line in reversed(stage.lines)
    ]
    return ([0], [Said(Step.DENY, stage.closes)]) if stage.closes else None, stage.closes_staged, lines


def _paint(layers: Sequence[_Layer], protocol: int, last: _Colours, *, staged: bool) -> _Colours:
    """Paint the ports of a protocol from the last word to the first, each over those that it overrules."""
    painted = last
    for closes, closes_staged, lines in layers:
        beyond = painted
        if closes and (staged or not closes_staged):
            painted = closes
        for line, colours in lines:
            if line.staged and not staged:
                continue
            over = colours or beyond
            if not line.ports:
                painted = over
                continue
            for ports in line.ports:
                if ports.protocol in (protocol, ANY_PROTOCOL):
                    painted = _over(painted, over, ports.first, ports.last)
    return painted


def _over(painted: _Colours, over: _Colours, first: int, last: int) -> _Colours:
    """Paint ``over`` on the ports from ``first`` to ``last``."""
    before, after = bisect.bisect_left(painted[0], first), bisect.bisect_right(painted[0], last + 1)
    begin, end = bisect.bisect_right(over[0], first), bisect.bisect_right(over[0], last)
    starts = [*painted[0][:before], first, *over[0][begin:end]]
    said = [*painted[1][:before], over[1][begin - 1], *over[1][begin:end]]
    if last < _LAST_PORT:
        starts.append(last + 1)
        said.append(painted[1][after - 1])
    return [*starts, *painted[0][after:]], [*said, *painted[1][after:]]


def _intervals(now: _Colours, then: _Colours) -> Iterator[Interval]:
    """Lay both verdicts side by side, and join neighbours that say the same."""
    if then is now:
        both = [(first, said, said) for first, said in zip(*now, strict=True)]
    else:
        both = [(first, _at(now, first), _at(then, first)) for first in sorted({*now[0], *then[0]})]
    before: tuple[Said, Said] | None = None
    for first, said, staged in both:
        if before is None or before != (said, staged):
            yield Interval(first, said, staged)
        before = said, staged


def _at(painted: _Colours, port: int) -> Said:
    return painted[1][bisect.bisect_right(painted[0], port) - 1]
