"""``serai flows --follow``: every record once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from fake_traffic import AT, COMPLETE, a_record
from serai.cli.traffic import following
from serai.cli.traffic.following import Follower, follow
from serai.wire import flowapi
from serai.wire.client import Client, ClientError
from serai.wire.profile import Profile


class Records:
    """A flow store behind a transport: pages of two."""

    def __init__(self) -> None:
        self.kept: list[flowapi.Record] = []
        self.status = 200

    def client(self) -> Client:
        return Client(Profile(url="http://localhost:1"), transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.status != 200:
            problem = {
                "type": "urn:serai:problem:x",
                "title": "t",
                "status": self.status,
                "detail": f"status {self.status}",
            }
            return httpx2.Response(self.status, json=problem)
        since, until = (datetime.fromisoformat(request.url.params[name]) for name in ("since", "until"))
        begin = int(request.url.params.get("after", 0))
        found = sorted((r for r in self.kept if since <= r.at < until), key=lambda r: r.at, reverse=True)
        page = flowapi.FlowPage(
            records=found[begin : begin + 2], after=str(begin + 2) if len(found) > begin + 2 else None, completeness=COMPLETE
        )  # fmt: skip
        return httpx2.Response(200, content=msgspec.json.encode(page))


@pytest.fixture
def records() -> Records:
    return Records()


def numbers(found: Sequence[flowapi.Record]) -> list[int]:
    return [record.local_port - 50000 for record in found]


def test_no_record_is_told_twice_and_none_is_missed(records: Records) -> None:
    follower = Follower(records.client(), "", AT)
    records.kept = [a_record(n, at=AT + timedelta(seconds=n)) for n in range(5)]
    assert numbers(follower.fresh(AT + timedelta(seconds=5))) == [0, 1, 2, 3, 4]
    assert numbers(follower.fresh(AT + timedelta(seconds=8))) == []
    # A host that was slow tells of the same moment, and of an earlier one.
    records.kept += [a_record(9, at=AT + timedelta(seconds=4)), a_record(8, at=AT + timedelta(seconds=1))]
    assert numbers(follower.fresh(AT + timedelta(seconds=11))) == [8, 9]
    records.kept += [a_record(20, at=AT + timedelta(seconds=20))]
    assert numbers(follower.fresh(AT + timedelta(seconds=60))) == [20]  # nobody has asked since
    records.kept += [
        a_record(n, at=AT + timedelta(seconds=n)) for n in (21, 58)
    ]  # 21: farther back than anybody is heard
    assert numbers(follower.fresh(AT + timedelta(seconds=63))) == [58]


def test_what_is_remembered_is_bounded(records: Records) -> None:
    follower = Follower(records.client(), "", AT)
    for step in range(40):
        now = AT + timedelta(seconds=3 * step)
        records.kept.append(a_record(step, at=now))
        follower.fresh(now)
    assert len(follower._told) <= 12


def test_troubles_that_pass_are_waited_for(
    records: Records, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = iter([200, 503, 503, 200, 403])
    told: list[Any] = []

    def pause(seconds: float) -> None:
        del seconds
        records.status = next(statuses)

    pause(0)
    monkeypatch.setattr(following.time, "sleep", pause)
    with pytest.raises(ClientError, match="403"):
        follow(Follower(records.client(), "", datetime.now(UTC)), told.append)
    assert told == [[], []]
    assert capsys.readouterr().err == "status 503; it is asked again and again\nIt answers again.\n"


def test_who_does_not_answer_at_first_is_not_waited_for(records: Records) -> None:
    records.status = 503
    with pytest.raises(ClientError):
        follow(Follower(records.client(), "", AT), lambda _: None)
