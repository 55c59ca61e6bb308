"""``serai migrate`` and ``serai moves``, over real HTTP; and a real controller whose receipts are proven, or not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fake_service import FakeService
from moving import Scene, scene
from serai.cli.proof import judged
from serai.cli.witness import Witness
from serai.controller.api.doorkeeper import Limits
from serai.model.checkpoint import Checkpoint
from serai.model.migration import Facts
from serai.wire import moveapi
from serai.wire.profile import find
from served import Stand, served
from typed import data, serai, sign_in

WEB = "/acme/shop:web"


@pytest.fixture(scope="module")
def stand() -> Iterator[tuple[Stand, str]]:
    made = Stand()
    with served(made, limits=Limits(burst=10_000, strangers_burst=10_000)) as at:
        yield made, at


@pytest.fixture
def service(stand: tuple[Stand, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    made = FakeService()
    stand[0].service = made
    sign_in(monkeypatch, tmp_path / "home", stand[1])
    return made


@pytest.mark.usefixtures("service")
def test_a_move_is_followed_step_by_step() -> None:
    told = serai("migrate", WEB, "b").stdout
    assert f"Move 1: {WEB} to host b." in told
    steps = [line.split(" s  ")[1].partition(":")[0] for line in told.splitlines() if " s  " in line]
    assert steps == ["planned", "prepared", "copied", "switched", "live", "carried", "done"]
    for said in ("1000 before the guest was stopped, 17 after; 0 not taken", "over TLS", "312.0 ms", "ab" * 32):
        assert said in told
    assert data("migrate", WEB, "b")["state"] == "done"


@pytest.mark.usefixtures("service")
def test_one_that_is_aborted_says_why_and_has_status_1() -> None:
    told = serai("migrate", WEB, "trouble", status=1).stdout
    assert "aborted: host trouble: the stream is malformed" in told
    assert data("migrate", WEB, "trouble", status=1)["why"] == "host trouble: the stream is malformed"


@pytest.mark.usefixtures("service")
def test_what_cannot_be_moved_is_an_error() -> None:
    assert "runs at host a already" in serai("migrate", WEB, "a", status=2).stderr
    assert "there is no VM 'web': name it by its path" in serai("migrate", "web", "b", status=2).stderr


@pytest.mark.usefixtures("service")
def test_nobody_need_wait() -> None:
    told = serai("migrate", WEB, "b", "--no-wait").stdout
    assert "planned: the destination is sent its rules; see `serai moves show 1`" in told
    assert [each["state"] for each in data("moves", "--open")["moves"]] == ["planned"]
    assert "it is aborted" not in serai("moves", "abort", "1", "-m", "no").stdout
    assert "admin has aborted it" in serai("moves", "show", "1").stdout
    assert "move 1 is over" in serai("moves", "abort", "1", status=2).stderr


@pytest.mark.usefixtures("service")
def test_moves_are_listed_and_shown() -> None:
    assert "There are no such moves." in serai("moves").stdout
    for vm, to in ((WEB, "b"), ("/acme/shop:app", "c"), (WEB, "trouble")):
        serai("migrate", vm, to, status=int(to == "trouble"))
    head, *rows = serai("moves").stdout.splitlines()
    assert head.split() == ["MOVE", "ASKED", "BY", "VM", "FROM", "TO", "STATE", "NOTE"]
    assert [row.split()[0] for row in rows] == ["3", "2", "1"]
    assert "3.5 s, gap 312 ms" in rows[2]
    assert [each["number"] for each in data("moves", "--vm", WEB, "-n", "1")["moves"]] == [3]
    assert [each["number"] for each in data("moves", "--host", "c")["moves"]] == [2]
    assert data("moves", "--open")["moves"] == []
    shown = serai("moves", "show", "3").stdout
    assert "Move 3: /acme/shop:web from a to trouble." in shown
    assert "not reached" in shown
    assert data("moves", "show", data("moves", "show", "1")["id"])["number"] == 1
    assert "there is no move 9" in serai("moves", "show", "9", status=2).stderr


def test_what_nobody_has_told_is_not_called_nothing(service: FakeService) -> None:
    serai("migrate", WEB, "b")
    [made] = service.made_moves.values()
    assert made.receipt
    receipt = msgspec.structs.replace(made.receipt, facts=Facts(digest="ab" * 32), unheard=["a", "b"])
    service.made_moves[made.id] = msgspec.structs.replace(made, receipt=receipt, facts=receipt.facts)
    shown = [" ".join(line.split()) for line in serai("moves", "show", "1").stdout.splitlines()]
    for said in (
        "unprotected packets at least 0", "guest's memory went unknown how", "guest was stopped for unknown", "not told by a, b",
    ):  # fmt: skip
        assert said in shown
    assert "a and b did not tell" in serai("moves").stdout


# Proofs


def test_a_receipt_is_proven_and_the_log_is_remembered(service: FakeService) -> None:
    serai("migrate", WEB, "b")
    assert (
        "Proven: the receipt of move 1 is record 2 of the audit log (3 records" in serai("moves", "verify", "1").stdout
    )
    service.trail.append(b"more")
    told = serai("moves", "verify", "1").stdout
    assert "(4 records" in told
    assert "which continues what this machine has seen" in told
    assert data("moves", "verify", "1")["continues"] is True
    service.trail.pop()
    assert "Not proven" in serai("moves", "verify", "1", status=1).stdout


@pytest.mark.usefixtures("service")
def test_without_a_receipt_there_is_nothing_to_prove() -> None:
    serai("migrate", WEB, "b", "--no-wait")
    assert "move 1 is not over" in serai("moves", "verify", "1", status=2).stderr


def _proof_of(service: FakeService) -> tuple[moveapi.Move, moveapi.MoveProof, Witness]:
    [move] = service.made_moves.values()
    proof = asyncio.run(service.move_proof(service.callers["admin-token"], move.id, since=2))
    return move, proof, Witness(key=base64.b64encode(service.public).decode())


LIES: dict[str, tuple[Callable[[moveapi.MoveProof], moveapi.MoveProof], str]] = {
    "another record": (lambda p: msgspec.structs.replace(p, record=p.record.replace("1000", "1001")), "is not in the log"),
    "another place": (lambda p: msgspec.structs.replace(p, seq=1), "is not in the log"),
    "another way": (lambda p: msgspec.structs.replace(p, inclusion=["00" * 32]), "is not in the log"),
    "no way": (lambda p: msgspec.structs.replace(p, consistency=[]), "the log is not what it was at 2 records"),
    "another note": (lambda p: msgspec.structs.replace(p, note=p.note.replace("\n3\n", "\n4\n")), "not signed"),
    "another key": (lambda p: msgspec.structs.replace(p, key=base64.b64encode(bytes(32)).decode()), "signed with another key"),
    "no note": (lambda p: msgspec.structs.replace(p, note="nonsense"), "this is no proof"),
    "no hashes": (lambda p: msgspec.structs.replace(p, inclusion=["zz"]), "this is no proof"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_no_proof(service: FakeService, lie: str) -> None:
    serai("migrate", WEB, "b")
    move, proof, seen = _proof_of(service)
    before = Checkpoint(origin="serai/fake", size=2, root=_root(service, 2))
    assert judged(move, proof, seen, before).ok
    bend, why = LIES[lie]
    verdict = judged(move, bend(proof), seen, before)
    assert not verdict.ok
    assert any(why in fault for fault in verdict.faults), verdict.faults


def test_another_receipt_than_the_logs_is_not_proven(service: FakeService) -> None:
    serai("migrate", WEB, "b")
    move, proof, seen = _proof_of(service)
    assert move.receipt
    bent = msgspec.structs.replace(move.receipt, facts=Facts(unprotected=0, flows_first=1))
    verdict = judged(msgspec.structs.replace(move, receipt=bent), proof, seen, None)
    assert list(verdict.faults) == ["record 2 has another receipt than the one that is shown"]
    verdict = judged(msgspec.structs.replace(move, id="f" * 32), proof, seen, None)
    assert list(verdict.faults) == ["record 2 is not that of move 1"]


def _root(service: FakeService, size: int) -> bytes:
    from serai.model.merkle import leaf_hash, root_of  # noqa: PLC0415

    return root_of([leaf_hash(each) for each in service.trail[:size]])


def test_a_real_controller_moves_and_proves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def playing() -> None:
        async with asyncio.timeout(60), scene(tmp_path) as at:
            await asyncio.to_thread(_moved_and_proven, at)

    def _moved_and_proven(at: Scene) -> None:
        profile = find({"XDG_CONFIG_HOME": str(tmp_path / "nowhere")}, at.config.client)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setenv("SERAI_URL", at.config.url)
        monkeypatch.setenv("SERAI_TOKEN", profile.token or "")
        monkeypatch.setenv("SERAI_CA", str(profile.ca))
        assert "done: it is done" in serai("migrate", "/acme:web", "b").stdout
        assert "Whole" in serai("audit", "verify").stdout
        told = serai("moves", "verify", "1").stdout
        assert "Proven" in told
        assert "which continues what this machine has seen" in told
        assert "runs at host b already" in serai("migrate", "/acme:web", "b", status=2).stderr

    asyncio.run(playing())
