import contextlib
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.analysis.when import FORMS, WhenError, Window, check_window, parse_when, parse_window

VIENNA = ZoneInfo("Europe/Vienna")
NOW = datetime(2026, 11, 25, 10, 30, tzinfo=VIENNA)
"""A Wednesday."""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-11-25 09:30:00"),
        ("90s", "2026-11-25 09:28:30"),
        ("5m", "2026-11-25 09:25:00"),
        ("2h ago", "2026-11-25 07:30:00"),
        ("2hago", "2026-11-25 07:30:00"),
        ("7d", "2026-11-18 09:30:00"),
        ("2w", "2026-11-11 09:30:00"),
        ("1d12h", "2026-11-23 21:30:00"),
        ("1d 12h ago", "2026-11-23 21:30:00"),
        ("0s", "2026-11-25 09:30:00"),
        ("10:30", "2026-11-25 09:30:00"),
        ("9:15", "2026-11-25 08:15:00"),
        ("09:15:07", "2026-11-25 08:15:07"),
        ("14:00", "2026-11-24 13:00:00"),  # today's is still to come
        ("today", "2026-11-24 23:00:00"),
        ("today 14:00", "2026-11-25 13:00:00"),
        ("yesterday", "2026-11-23 23:00:00"),
        ("Yesterday  14:00", "2026-11-24 13:00:00"),
        ("monday", "2026-11-22 23:00:00"),
        ("wednesday", "2026-11-24 23:00:00"),
        ("wednesday 14:00", "2026-11-18 13:00:00"),
        ("thursday", "2026-11-18 23:00:00"),
        ("last week", "2026-11-15 23:00:00"),
        ("2026-11-24", "2026-11-23 23:00:00"),
        ("2026-11-24 14:00", "2026-11-24 13:00:00"),
        ("2026-11-24 14:00:05", "2026-11-24 13:00:05"),
        ("2026-11-24T14:00", "2026-11-24 13:00:00"),
        ("2026-11-24T14:00:00Z", "2026-11-24 14:00:00"),
        ("2026-11-24 14:00:00+02:00", "2026-11-24 12:00:00"),
        ("2026-11-24 14:00 -0530", "2026-11-24 19:30:00"),
        ("2026-07-01", "2026-06-30 22:00:00"),
    ],
)
def test_times_as_people_write_them(text: str, meant: str) -> None:
    found = parse_when(text, NOW)
    assert found.tzinfo is UTC
    assert str(found) == f"{meant}+00:00"


@pytest.mark.parametrize(
    "text",
    ["", " ", "7", "d", "7 days", "-7d", "7d from now", "25:00", "14:60", "14", "2026-02-30", "2026-13-01", "26-11-24", "2026-11-24T",
     "0000-01-01", "tomorrow", "monday 25:00", "last year", "9" * 9 + "w", "1" * 100, "ago", "now ago", "2026-11-24 14:00 +99:00",
     "٣d", "today today", "0001-01-01"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_may_be_written(text: str) -> None:
    with pytest.raises(WhenError, match="is no time: write one such as now, 90s, 2h ago"):
        parse_when(text, NOW)


@pytest.mark.parametrize("text", FORMS)
def test_the_examples_are_times(text: str) -> None:
    assert parse_when(text, NOW) <= NOW


def test_spans_are_counted_on_no_clock() -> None:
    """In the night of 2026-10-25 the clock of Vienna showed two o'clock twice."""
    after = datetime(2026, 10, 25, 12, 0, tzinfo=VIENNA)
    assert parse_when("1d", after) == datetime(2026, 10, 24, 11, 0, tzinfo=UTC)
    assert parse_when("yesterday 12:00", after) == datetime(2026, 10, 24, 10, 0, tzinfo=UTC)


def test_what_the_clock_showed_twice_is_the_first() -> None:
    after = datetime(2026, 10, 25, 12, 0, tzinfo=VIENNA)
    assert parse_when("2:30", after) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert parse_when("2026-10-25 2:30", after) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_what_the_clock_skipped_is_as_if_it_had_not_been_put_forward() -> None:
    after = datetime(2026, 3, 29, 12, 0, tzinfo=VIENNA)
    assert parse_when("2:30", after) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert parse_when("today", after) == datetime(2026, 3, 28, 23, 0, tzinfo=UTC)


def test_in_the_hour_that_comes_twice_a_time_may_be_the_first_or_the_second() -> None:
    second = datetime(2026, 10, 25, 2, 10, tzinfo=VIENNA, fold=1)
    assert parse_when("2:30", second) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert parse_when("now", second) == datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert parse_when("2h", second) == datetime(2026, 10, 24, 23, 10, tzinfo=UTC)


@given(text=st.text(max_size=70) | st.text(alphabet="0123456789:-+tz dhmsw", max_size=25))
def test_every_text_is_a_time_or_refused(text: str) -> None:
    for zone in (VIENNA, UTC, timezone(timedelta(hours=-11))):
        with contextlib.suppress(WhenError):
            assert parse_when(text, NOW.astimezone(zone)).tzinfo is UTC


@given(
    moment=st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001 - of any zone
    text=st.from_regex(r"(([01][0-9]|2[0-3]):[0-5][0-9])|monday|(sunday 0[0-9]:30)", fullmatch=True),
)
def test_what_comes_round_is_the_latest_that_is_over(moment: datetime, text: str) -> None:
    now = moment.replace(tzinfo=VIENNA)
    found, period = parse_when(text, now), timedelta(days=1 if text[0].isdigit() else 7)
    assert now.astimezone(UTC) - period - timedelta(hours=1) <= found <= now.astimezone(UTC)


def test_windows() -> None:
    window = parse_window("7d", "now", NOW)
    assert window.until - window.since == timedelta(days=7)
    check_window(Window(since=NOW, until=NOW + timedelta(minutes=1)), NOW)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("1h", "2h", r"nothing lies between: since \(2026-11-25 08:30:00 UTC\) is not before until \(2026-11-25 07:30:00 UTC\)"),
        ("1h", "1h", "nothing lies between"),
        ("1h", "today 11:00", "until is in the future: 2026-11-25 10:00:00 UTC"),
        ("today 11:00", "now", "since is in the future"),
        ("yore", "now", "'yore' is no time"),
    ],
)  # fmt: skip
def test_windows_that_are_none(since: str, until: str, said: str) -> None:
    with pytest.raises(WhenError, match=said):
        parse_window(since, until, NOW)
