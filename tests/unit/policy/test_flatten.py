"""Decision lists: every port has one answer, no more intervals than it takes, and pages say the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.model.form import Place
from serai.model.policy import ANY_PROTOCOL, Action, Direction, PortRange, RuleRef
from serai.model.ruleset import INTERVALS, PAGE, Step
from serai.model.tenancy import ContentId, content_id
from serai.policy.compiler.pages import Sheet, lay_out, spelled
from serai.policy.flatten import DecisionList, Interval, Line, Said, Stage, flatten

IN = Direction.INGRESS
LAST = RuleRef.builtin(IN)
UNMATCHED = RuleRef.unmatched(IN)
TCP, UDP = 6, 17
ACCEPT, DENY, PASS = Action.ACCEPT, Action.DENY, Action.PASS
MAX_DEPTH = 6
"""Pages that the gate goes through at the most (bpf/maps.h)."""


def line(name: str, action: Action, *ports: PortRange, staged: bool = False) -> Line:
    return Line(RuleRef(name), action, ports, staged)


def tcp(first: int, last: int | None = None) -> PortRange:
    return PortRange(protocol=TCP, first=first, last=first if last is None else last)


def short(decisions: DecisionList) -> dict[int, list[tuple[int, str]]]:
    """Where each interval starts and which rule decides there; both verdicts where they differ."""

    def word(interval: Interval) -> str:
        said, staged = interval.said.ref.text, interval.staged.ref.text
        return said if interval.said == interval.staged else f"{said}|{staged}"

    return {protocol: [(i.first, word(i)) for i in intervals] for protocol, intervals in decisions.items()}


CASES = {
    "nothing is said": ([], {256: [(0, "builtin/ingress")]}),
    "everything is accepted": ([Stage((line("a", ACCEPT),))], {256: [(0, "a")]}),
    "one port": (
        [Stage((line("a", ACCEPT, tcp(80)),))],
        {6: [(0, "builtin/ingress"), (80, "a"), (81, "builtin/ingress")], 256: [(0, "builtin/ingress")]},
    ),
    "the first and the last port": (
        [Stage((line("a", ACCEPT, tcp(0), tcp(65535)),))],
        {6: [(0, "a"), (1, "builtin/ingress"), (65535, "a")], 256: [(0, "builtin/ingress")]},
    ),
    "the first line wins": (
        [Stage((line("a", DENY, tcp(80, 90)), line("b", ACCEPT, tcp(85, 95))))],
        {
            6: [(0, "builtin/ingress"), (80, "a"), (91, "b"), (96, "builtin/ingress")],
            256: [(0, "builtin/ingress")],
        },
    ),
    "neighbouring ranges of one rule are one": (
        [Stage((line("a", ACCEPT, tcp(80, 89), tcp(90, 99)),))],
        {6: [(0, "builtin/ingress"), (80, "a"), (100, "builtin/ingress")], 256: [(0, "builtin/ingress")]},
    ),
    "ranges hidden behind an earlier rule leave no trace": (
        [Stage((line("a", ACCEPT), line("b", DENY, tcp(80))))],
        {256: [(0, "a")]},
    ),
    "a protocol whose every port says what all say": (
        [Stage((line("a", ACCEPT, tcp(0, 65535)), line("a", ACCEPT)))],
        {256: [(0, "a")]},
    ),
    "Pass goes on at the next level": (
        [Stage((line("a", PASS, tcp(80)), line("b", DENY))), Stage((line("c", ACCEPT),))],
        {6: [(0, "b"), (80, "c"), (81, "b")], 256: [(0, "b")]},
    ),
    "the Tenant tier closes": (
        [Stage((line("a", ACCEPT, tcp(80)),), UNMATCHED), Stage((line("b", ACCEPT),))],
        {6: [(0, "unmatched/ingress"), (80, "a"), (81, "unmatched/ingress")], 256: [(0, "unmatched/ingress")]},
    ),
    "a staged rule is spoken of, and does nothing": (
        [Stage((line("s", DENY, tcp(80), staged=True), line("a", ACCEPT)))],
        {6: [(0, "a"), (80, "a|s"), (81, "a")], 256: [(0, "a")]},
    ),
    "only staged policies select the VM": (
        [Stage((line("s", ACCEPT, tcp(80), staged=True),), UNMATCHED, closes_staged=True)],
        {
            6: [(0, "builtin/ingress|unmatched/ingress"), (80, "builtin/ingress|s"), (81, "builtin/ingress|unmatched/ingress")],
            256: [(0, "builtin/ingress|unmatched/ingress")],
        },
    ),
    "a range of any protocol cuts every protocol": (
        [Stage((line("a", DENY, tcp(80)), line("b", ACCEPT, PortRange(protocol=ANY_PROTOCOL, first=50, last=99))))],
        {
            6: [(0, "builtin/ingress"), (50, "b"), (80, "a"), (81, "b"), (100, "builtin/ingress")],
            256: [(0, "builtin/ingress"), (50, "b"), (100, "builtin/ingress")],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    stages, expected = CASES[case]
    assert short(flatten(stages, IN, DENY)) == expected


@pytest.mark.parametrize(("word", "step"), [(ACCEPT, Step.ACCEPT), (DENY, Step.DENY)])
@pytest.mark.parametrize("direction", Direction)
def test_the_last_word(word: Action, step: Step, direction: Direction) -> None:
    said = Said(step, RuleRef.builtin(direction))
    assert flatten([], direction, word) == {ANY_PROTOCOL: (Interval(0, said, said),)}


edges = st.one_of(st.integers(0, 65535), st.integers(0, 40), st.sampled_from((0, 65534, 65535)))
ranges = st.builds(
    lambda protocol, ends: PortRange(protocol=protocol, first=min(ends), last=max(ends)),
    st.sampled_from((TCP, UDP, ANY_PROTOCOL)),
    st.tuples(edges, edges),
)
lines = st.builds(
    Line, st.sampled_from("abcdef").map(RuleRef), st.sampled_from(Action), st.lists(ranges, max_size=12).map(tuple),
    st.booleans(),
)  # fmt: skip
stages_ = st.lists(
    st.builds(Stage, st.lists(lines, max_size=5).map(tuple), st.sampled_from((None, UNMATCHED)), st.booleans()),
    max_size=4,
)


def plainly(stages: list[Stage], protocol: int, port: int, *, staged: bool) -> tuple[Step, str]:
    """The verdict, worked out line by line."""
    for stage in stages:
        asked = [each for each in stage.lines if staged or not each.staged]
        matching = [
            each for each in asked if not each.ports or any(r.contains(protocol, port) for r in each.ports)
        ]  # fmt: skip
        if matching and matching[0].action is not PASS:
            return Step.ACCEPT if matching[0].action is ACCEPT else Step.DENY, matching[0].ref.text
        if not matching and stage.closes and (staged or not stage.closes_staged):
            return Step.DENY, stage.closes.text
    return Step.DENY, LAST.text


def found(decisions: DecisionList, protocol: int, port: int) -> Interval:
    intervals = decisions.get(protocol, decisions[ANY_PROTOCOL])
    return [i for i in intervals if i.first <= port][-1]


@given(stages_)
def test_every_port_is_covered_and_equal_neighbours_are_merged(stages: list[Stage]) -> None:
    decisions = flatten(stages, IN, DENY)
    assert ANY_PROTOCOL in decisions
    for protocol, intervals in decisions.items():
        starts = [i.first for i in intervals]
        assert starts[0] == 0
        assert starts == sorted(set(starts))
        assert starts[-1] <= 65535
        for one, other in itertools.pairwise(intervals):
            assert (one.said, one.staged) != (other.said, other.staged)
        assert protocol == ANY_PROTOCOL or intervals != decisions[ANY_PROTOCOL], "said already for every protocol"


@given(stages_, st.sampled_from((TCP, UDP, 47)), edges)
def test_intervals_say_what_the_lines_do(stages: list[Stage], protocol: int, port: int) -> None:
    decisions = flatten(stages, IN, DENY)
    of_ranges = [r for s in stages for each in s.lines for r in each.ports]
    for at in {port, *(r.first for r in of_ranges), *(min(r.last + 1, 65535) for r in of_ranges)}:
        interval = found(decisions, protocol, at)
        for said, staged in ((interval.said, False), (interval.staged, True)):
            assert (said.step, said.ref.text) == plainly(stages, protocol, at, staged=staged)


# Pages


def step_of(
    number: int, records: dict[tuple[int, int], np.void], protocol: int, port: int
) -> tuple[int, int, int, int]:
    """Look a port up as the gate does."""
    for _ in range(MAX_DEPTH):
        page = records.get((number, protocol))
        if page is None:
            page = records[number, ANY_PROTOCOL]
        starts = [0, *page["first"][: int(page["count"]) - 1].tolist()]
        decision = page["decisions"][max(at for at, start in enumerate(starts) if start <= port)]
        if decision["step"] != Step.DESCEND:
            return tuple(decision[name].item() for name in ("step", "rule", "staged_step", "staged_rule"))
        number = int(decision["rule"])
    raise AssertionError("deeper than the gate goes")


def pages(decisions: DecisionList) -> tuple[ContentId, set[bytes]]:
    """Lay one decision list out by itself; return the number that names it and the records of ``PAGE``."""
    refs = list(dict.fromkeys(said.ref for found in decisions.values() for i in found for said in (i.said, i.staged)))
    numbers = [0, *(int(ref.id) for ref in refs)]

    def place_of(ref: RuleRef) -> Place:
        return refs.index(ref) + 1

    parts = spelled(decisions, place_of)
    number = content_id(
        "list", b"".join(p if isinstance(p, bytes) else numbers[p].to_bytes(8, "little") for p in parts)
    )
    numbers.append(number)

    def inner(what: bytes) -> Place:
        numbers.append(content_id("page", number.to_bytes(8, "little") + what))
        return len(numbers) - 1

    sheet = Sheet()
    sheet.write(lay_out(decisions, len(refs) + 1, place_of, inner))
    raw = sheet.form().filled(np.array([numbers], np.uint64))
    return number, {raw[at : at + PAGE.itemsize] for at in range(0, len(raw), PAGE.itemsize)}


def laid_out(decisions: DecisionList) -> tuple[int, dict[tuple[int, int], np.void]]:
    number, raw = pages(decisions)
    records = [np.frombuffer(record, PAGE)[0] for record in raw]
    indexed = {(int(r["list"]), int(r["protocol"])): r for r in records}
    assert len(indexed) == len(records), "two pages under one key"
    assert all(1 <= r["count"] <= INTERVALS for r in records)
    return number, indexed


@given(stages_, st.sampled_from((TCP, UDP, 47)), edges)
def test_pages_say_what_intervals_do(stages: list[Stage], protocol: int, port: int) -> None:
    decisions = flatten(stages, IN, DENY)
    number, records = laid_out(decisions)
    starts = {i.first for i in decisions.get(protocol, decisions[ANY_PROTOCOL])}
    for at in {port, *starts, *(max(s - 1, 0) for s in starts)}:
        interval = found(decisions, protocol, at)
        expected = (interval.said.step, interval.said.ref.id, interval.staged.step, interval.staged.ref.id)
        assert step_of(number, records, protocol, at) == expected


@pytest.mark.parametrize("protocol", [TCP, ANY_PROTOCOL])
@pytest.mark.parametrize("count", [INTERVALS - 1, INTERVALS, INTERVALS + 1, INTERVALS**2, INTERVALS**2 + 1, 600])
def test_deep_lists(count: int, protocol: int) -> None:
    said = [Said(Step.ACCEPT if at % 2 else Step.DENY, RuleRef(f"r{at}")) for at in range(count)]
    one = Said(Step.DENY, LAST)
    decisions = {
        ANY_PROTOCOL: (Interval(0, one, one),),
        protocol: tuple(Interval(at * 100, s, s) for at, s in enumerate(said)),
    }
    number, records = laid_out(decisions)
    for at, expected in enumerate(said):
        for port in (at * 100, at * 100 + 99):
            assert step_of(number, records, TCP, port)[:2] == (expected.step, expected.ref.id)


def test_the_deepest_list_there_can_be_is_not_too_deep() -> None:
    """A verdict of its own for every port."""
    one, other = Said(Step.ACCEPT, RuleRef("even")), Said(Step.DENY, RuleRef("odd"))
    decisions = {ANY_PROTOCOL: tuple(Interval(p, *((other, other) if p % 2 else (one, one))) for p in range(65536))}
    number, records = laid_out(decisions)
    for port in (0, 1, 511, 512, 4095, 4096, 32767, 32768, 65534, 65535):
        assert step_of(number, records, TCP, port)[0] == (Step.DENY if port % 2 else Step.ACCEPT)


@given(stages_, stages_)
def test_lists_have_one_name_if_and_only_if_they_are_equal(one: list[Stage], other: list[Stage]) -> None:
    first, second = (flatten(stages, IN, DENY) for stages in (one, other))
    assert (pages(first) == pages(second)) == (first == second)
    assert (pages(first)[0] == pages(second)[0]) == (first == second)
