"""How complete an answer is."""

from __future__ import annotations

from serai.analysis.traffic.coverage import Gap, Told, coverage
from serai.analysis.traffic.window import Window

NOW = 1_000_000.0 // 3600 * 3600 + 7200


def told(host: str, since: float, until: float, *, records: int = 10, lost: int = 0) -> Told:
    return Told(host=host, t=int(since), minutes=0, records=records, lost=lost, first=since, last=until)


def steady(host: str, since: float, until: float) -> list[Told]:
    return [told(host, at, at + 10) for at in range(int(since), int(until), 10)]


def test_whoever_tells_all_the_time_leaves_no_gap() -> None:
    window = Window(since=int(NOW - 300), until=int(NOW))
    found = coverage(window, steady("a", NOW - 400, NOW), {"a": NOW - 9999}, NOW)
    assert (found.gaps, found.percent, found.hosts, found.latest) == ([], 100.0, 1, NOW)


def test_silences_are_told_longest_first_with_their_ends() -> None:
    window = Window(since=int(NOW - 600), until=int(NOW))
    rows = [*steady("a", NOW - 600, NOW - 400), *steady("a", NOW - 340, NOW - 200), *steady("a", NOW - 160, NOW)]
    found = coverage(window, rows, {"a": 0.0, "b": 0.0}, NOW)
    assert list(found.gaps) == [
        Gap(host="b", since=NOW - 600, until=NOW - 30),
        Gap(host="a", since=NOW - 400, until=NOW - 340),
        Gap(host="a", since=NOW - 200, until=NOW - 160),
    ]


def test_a_host_that_came_later_was_not_silent_before() -> None:
    window = Window(since=int(NOW - 600), until=int(NOW))
    assert coverage(window, steady("a", NOW - 100, NOW), {"a": NOW - 100}, NOW).gaps == []
    assert coverage(window, steady("a", NOW - 100, NOW), {}, NOW).gaps == []


def test_of_the_last_moments_nobody_can_have_told() -> None:
    window = Window(since=int(NOW - 600), until=int(NOW + 3600))
    assert coverage(window, steady("a", NOW - 600, NOW - 20), {"a": 0.0}, NOW).gaps == []
    assert [gap.host for gap in coverage(window, steady("a", NOW - 600, NOW - 70), {"a": 0.0}, NOW).gaps] == ["a"]


def test_what_is_lost_counts() -> None:
    window = Window(since=int(NOW - 60), until=int(NOW))
    found = coverage(window, [told("a", NOW - 60, NOW, records=97, lost=3)], {}, NOW)
    assert (found.records, found.lost, found.percent) == (97, 3, 97.0)
    assert coverage(window, [], {}, NOW).percent == 100.0


def test_of_long_ago_minutes_are_known() -> None:
    hour = int(NOW - 7200)
    all_but_two = ((1 << 60) - 1) & ~(0b11 << 20)
    row = Told(host="a", t=hour, minutes=all_but_two, records=1, lost=0, first=float(hour), last=hour + 3600.0)
    found = coverage(Window(since=hour, until=hour + 3600), [row], {"a": 0.0}, NOW)
    assert [(gap.since - hour, gap.until - hour) for gap in found.gaps] == [(1200, 1310)]
    whole = Told(host="a", t=hour, minutes=(1 << 60) - 1, records=1, lost=0, first=float(hour), last=hour + 3600.0)
    assert coverage(Window(since=hour, until=hour + 3600), [whole], {"a": 0.0}, NOW).gaps == []
