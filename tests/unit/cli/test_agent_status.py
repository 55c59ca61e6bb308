"""What ``serai agent status`` says of the link to the controllers."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from serai.cli.status import show_status, status_fields
from serai.wire import local

UNTIL = datetime(2026, 3, 1, 12, tzinfo=UTC)


def reply(link: local.LinkStatus | None) -> local.StatusReply:
    return local.StatusReply(
        pid=1, uptime_seconds=2.0, digest=None, gates=[], drops=[], flows=0, forgotten_flows=0, link=link
    )  # fmt: skip


def link(*, connected: bool = False, fenced: bool = False, trouble: str = "") -> local.LinkStatus:
    return local.LinkStatus(
        connected=connected, url="wss://c1:8744", epoch=3, term=4, fenced=fenced, trouble=trouble, certificate_until=UNTIL
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (link(connected=True), "Linked to wss://c1:8744 (epoch 3, term 4)."),
        (link(connected=True, trouble="the clock"), "Linked to wss://c1:8744 (epoch 3, term 4): the clock."),
        (link(trouble="nobody answers"), "Not linked to a controller: nobody answers."),
        (link(fenced=True, trouble="a newer agent has come"), "Fenced: a newer agent has come."),
    ],
)
def test_the_link_is_told(told: local.LinkStatus, says: str) -> None:
    out = io.StringIO()
    show_status(Console(file=out, width=200), reply(told))
    assert says in out.getvalue().splitlines()


def test_who_has_joined_no_site_hears_nothing_of_it() -> None:
    out = io.StringIO()
    show_status(Console(file=out, width=200), reply(None))
    assert "ink" not in out.getvalue()
    assert status_fields(reply(None))["link"] is None


def test_moves_are_told() -> None:
    moving = local.MoveStatus(move="0" * 32, vm="/acme:web", source="a", to="b", phase="copied")
    told = msgspec.structs.replace(reply(None), moves=[moving])
    out = io.StringIO()
    show_status(Console(file=out, width=200), told)
    assert "Move of /acme:web from a to b: copied here." in out.getvalue().splitlines()
    assert status_fields(told)["moves"] == [
        {"move": "0" * 32, "vm": "/acme:web", "from": "a", "to": "b", "phase": "copied"}
    ]


def test_programs_hear_all_of_it() -> None:
    assert status_fields(reply(link(trouble="t")))["link"] == {
        "connected": False, "url": "wss://c1:8744", "epoch": 3, "term": 4, "fenced": False, "trouble": "t",
        "certificateUntil": "2026-03-01T12:00:00+00:00", "clockSkewSeconds": None,
    }  # fmt: skip


def recorded(*, lost: int = 0, trouble: str = "") -> local.StatusReply:
    records = local.RecordsStatus(
        batches=2, records=50, bytes=8192, sent=1000, removed=lost, lost=lost, trouble=trouble
    )  # fmt: skip
    return msgspec.structs.replace(reply(None), records=records)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (recorded(), "50 records of traffic wait on disk (0.0 MB), 1000 sent."),
        (recorded(lost=3), "50 records of traffic wait on disk (0.0 MB), 1000 sent, 3 lost."),
        (
            recorded(trouble="the disk is full"),
            "50 records of traffic wait on disk (0.0 MB), 1000 sent: the disk is full.",
        ),
    ],
)
def test_what_is_recorded_of_traffic_is_told(told: local.StatusReply, says: str) -> None:
    out = io.StringIO()
    show_status(Console(file=out, width=200), told)
    assert says in out.getvalue().splitlines()


def test_programs_hear_of_records_too() -> None:
    assert status_fields(reply(None))["records"] is None
    assert status_fields(recorded(lost=1))["records"] == {
        "batches": 2, "records": 50, "bytes": 8192, "sent": 1000, "removed": 1, "lost": 1, "trouble": "",
    }  # fmt: skip
