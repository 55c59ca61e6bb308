"""How plans of moves are asked for over real HTTP, and shown to people."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from fake_service import FakeService
from serai.cli.planshown import fullness, memory, planned, shown
from serai.wire.client import Client, ClientError
from serai.wire.planapi import HostLoad, PlannedHost, PlannedMove, PlanReply, PlanRequest, StuckVm
from serai.wire.profile import Profile
from served import served

LEAVE = PlanRequest(evacuate=["c01"])


def load(vms: int, mib: int) -> HostLoad:
    return HostLoad(vms=vms, memory=mib, vnics=vms)


def host(
    name: str, before: HostLoad, after: HostLoad, *, room: int = 10_000, closed: str = "", unknown: int = 0
) -> PlannedHost:
    return PlannedHost(
        host=name, memory=room, headroom=1000, vnics=4095, before=before, after=after, closed=closed, unknown=unknown
    )


def move(at: int, to: str = "c02") -> PlannedMove:
    return PlannedMove(vm=f"/acme/shop:w{at}", source="c01", to=to, memory=1000)


FEW = PlanReply(
    goal=LEAVE, revision=7, rounds=[[move(1)], [move(2)]], proven=True,
    stuck=[StuckVm(vm=f"/acme:db{at}", host="c01", why=["host c02 is without the tag pci", "host c03 takes nobody: it is away"]) for at in (1, 2)],
    hosts=[host("c02", load(4, 8000), load(6, 9500)), host("c01", load(4, 9000), load(2, 7000)), host("c03", load(0, 0), load(0, 0), room=0, closed="it is away")],
)  # fmt: skip
MANY = PlanReply(
    goal=LEAVE, revision=7, rounds=[[move(at, f"c{2 + at % 40:02}") for at in range(320)]], stuck=[], proven=True,
    hosts=[host("c01", load(320, 9000), load(0, 0)), *(host(f"c{2 + at:02}", load(10, 1000), load(18, 9000)) for at in range(40))],
)  # fmt: skip
LEVEL = PlanReply(
    goal=PlanRequest(rebalance="west"), revision=7, rounds=[], stuck=[], proven=True,
    hosts=[host("a", load(4, 6200), load(4, 6200)), host("b", load(4, 5800), load(4, 5800)), host("c", load(1, 0), load(1, 0), unknown=1)],
)  # fmt: skip


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def lines(reply: PlanReply, capsys: pytest.CaptureFixture[str]) -> list[str]:
    shown(reply)
    return [" ".join(each.split()) for each in capsys.readouterr().out.splitlines() if each.strip()]


def test_few_moves_are_shown_one_by_one_with_hosts_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(FEW, capsys) == [
        "Emptying c01: 2 VMs go in 2 rounds, each after the one before it, 2 cannot.",
        "No plan moves more of them: that is proven.",
        "HOST VMS BEFORE AFTER FREE THEN",
        "c01 4 → 2 ██████████▊· 90% ████████▍··· 70% 2.9 GiB to become empty",
        "c02 4 → 6 █████████▋·· 80% ███████████▍ 95% 500 MiB",
        "c03 0 ? ? ? ? - takes nobody",
        "c03 takes nobody: it is away",
        "ROUND VM FROM TO MEMORY",
        "1 /acme/shop:w1 c01 c02 1000 MiB",
        "2 /acme/shop:w2 c01 c02 1000 MiB",
        "/acme:db1 and /acme:db2 stay on c01:",
        "host c02 is without the tag pci",
        "host c03 takes nobody: it is away",
    ]


def test_many_moves_are_summed_up_by_where_they_go(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(MANY, capsys)
    assert len(told) < 60
    assert told[0] == "Emptying c01: 320 VMs go in one round, in any order."
    assert (
        "and 17 hosts more, with +136 VMs together; none of them becomes fuller than 90%. `--json` has all of them."
        in told
    )
    assert "1 c02 8 7.8 GiB c01 /acme/shop:w0" in told
    assert told[-1] == "and 128 VMs more, to 16 hosts. `--json` has all of them."


def test_a_level_pool_is_said_to_be_level(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(LEVEL, capsys)
    assert told[0] == "The pool west is level: the fullest host, a, is 62% full, the emptiest, b, 58%. Nothing to do."
    assert told[-1] == "c 1 ? ≥0% ? ≥0% -"
    levelled = msgspec.structs.replace(LEVEL, rounds=[[move(1, "b")]], proven=False)
    assert lines(levelled, capsys)[:4] == [
        "Levelling the pool west with 1 move.", "Now the fullest host, a, is 62% full, the emptiest, b, 58%.",
        "Then the fullest host, a, is 62% full, the emptiest, b, 58%.",
        "There may be a plan that levels it better, or with fewer moves: the search was ended after as much work as it is given.",
    ]  # fmt: skip
    one = msgspec.structs.replace(LEVEL, hosts=LEVEL.hosts[:1])
    assert lines(one, capsys)[0] == "The pool west is level: all its hosts are 62% full. Nothing to do."
    nobody = msgspec.structs.replace(LEVEL, hosts=LEVEL.hosts[2:])
    assert lines(nobody, capsys)[0] == "Nobody knows how full the hosts of the pool west are."


def test_what_there_is_nothing_to_do_about_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    empty = msgspec.structs.replace(FEW, rounds=[], stuck=[])
    assert lines(empty, capsys)[0] == "Emptying c01: no VM is there. Nothing to do."
    stuck = msgspec.structs.replace(FEW, rounds=[], proven=False)
    assert lines(stuck, capsys)[:2] == [
        "Emptying c01: no VM can go.",
        "There may be a plan that moves more of them: the search was ended after as much work as it is given.",
    ]
    some = [StuckVm(vm=f"/acme:v{at}", host="c01", why=[f"reason {at}"]) for at in range(20)]
    assert (
        lines(msgspec.structs.replace(FEW, stuck=some), capsys)[-1] == "and 8 VMs more stay. `--json` has all of them."
    )


def test_figures() -> None:
    assert [memory(mib) for mib in (0, 1023, 1024, 1536, 102_400, 1_638_400)] == [
        "0 MiB", "1023 MiB", "1.0 GiB", "1.5 GiB", "100 GiB", "1,600 GiB",
    ]  # fmt: skip
    assert fullness(FEW.hosts[0], 5000) == 0.5
    assert fullness(FEW.hosts[2], 0) == 1.0


def test_plans_are_asked_for_over_http(tmp_path: Path) -> None:
    with served(FakeService()) as url, Client(Profile(url=url, token="admin-token", ca=tmp_path / "none")) as client:  # noqa: S106 (the fake's)
        reply = planned(client, PlanRequest(evacuate=["a"]))
        assert [move.to for each in reply.rounds for move in each] == ["b"]
        assert planned(client, PlanRequest(rebalance="west")).stuck == []
        for request, said in ((PlanRequest(), "one of both"), (PlanRequest(evacuate=["nowhere"]), "there is no host")):
            with pytest.raises(ClientError, match=said):
                planned(client, request)
        many = PlanRequest(evacuate=[f"h{at}" for at in range(1001)])
        with pytest.raises(ClientError, match="evacuate") as refused:
            planned(client, many)
        assert refused.value.status == 400
        with Client(dataclasses.replace(client.profile, token=None)) as nobody, pytest.raises(ClientError) as refused:
            planned(nobody, LEAVE)
        assert refused.value.status == 401
