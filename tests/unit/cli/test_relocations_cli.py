"""``serai evacuate``, ``serai rebalance`` and ``serai relocations``, over real HTTP; and a real controller that empties a host."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from fake_relocations import APP, DB, NOW, STUCK, WEB
from fake_service import ADMIN, FakeService
from moving import Scene, scene
from serai.cli import relocationwatch
from serai.controller.api.doorkeeper import Limits
from serai.wire.profile import find
from serai.wire.relocationapi import RelocationRequest, RelocationShown
from served import Stand, served
from typed import data, serai, sign_in


@pytest.fixture(scope="module")
def stand() -> Iterator[tuple[Stand, str]]:
    made = Stand()
    with served(made, limits=Limits(burst=10_000, strangers_burst=10_000)) as at:
        yield made, at


@pytest.fixture
def service(stand: tuple[Stand, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    made = FakeService()
    stand[0].service = made
    monkeypatch.setattr(relocationwatch, "_PAUSE_SECONDS", 0.0)
    sign_in(monkeypatch, tmp_path / "home", stand[1])
    return made


@pytest.mark.usefixtures("service")
def test_a_host_is_emptied_and_each_vm_is_told() -> None:
    told = serai("evacuate", "old", "--yes").stdout
    assert "Emptying old: 2 VMs go in 2 rounds" in told  # the plan comes first
    after = told.partition("Relocation 1: emptying old.")[2].splitlines()
    moved = [" ".join(line.split()) for line in after if "✓" in line]
    assert [line.partition(" s ")[2] for line in moved] == [
        f"✓ 1/2 {WEB} old → b moved in 3.0 s",
        f"✓ 2/2 {APP} old → c moved in 3.0 s",
    ]
    assert "Done: 2 of 2 moves made in 9.0 s; a move took 3.0 s (median), at the most 3.0 s" in told
    assert "Host old: no VM is left" in told


@pytest.mark.usefixtures("service")
def test_the_plan_alone_does_nothing() -> None:
    assert "Emptying old: 2 VMs go" in serai("evacuate", "old", "--plan").stdout
    assert data("evacuate", "old", "--plan")["rounds"][0][0]["vm"] == WEB
    assert STUCK.why[0] in serai("evacuate", "tight", "--plan", status=1).stdout
    assert "There are none" in serai("relocations").stdout


@pytest.mark.usefixtures("service")
def test_where_there_is_nothing_to_do_nobody_is_asked() -> None:
    assert "Nothing to do" in serai("evacuate", "empty").stdout
    assert "no VM can go" in serai("evacuate", "shut", status=1).stdout
    assert "there is no host 'nowhere'" in serai("evacuate", "nowhere", status=2).stderr
    assert "there is no pool 'nowhere'" in serai("rebalance", "nowhere", status=2).stderr
    assert "Missing argument 'HOST...'" in serai("evacuate", status=2).stderr
    assert data("relocations")["relocations"] == []


@pytest.mark.usefixtures("service")
def test_nothing_is_done_without_a_word() -> None:
    told = serai("evacuate", "old", status=2)
    assert "there is nobody to ask: say --yes" in told.stderr
    assert data("relocations")["relocations"] == []


def test_another_plan_than_was_shown_is_not_carried_out(service: FakeService) -> None:
    service.another_plan = True
    assert "another one by now" in serai("evacuate", "old", "--yes", status=2).stderr
    assert data("relocations")["relocations"] == []


@pytest.mark.usefixtures("service")
def test_a_failure_is_told_and_how_to_go_on() -> None:
    told = serai("evacuate", "trouble", "--yes", status=1).stdout
    assert f"✗ 2/2  {APP}  trouble → c  aborted: host c: no port is free" in told
    assert "Failed: 1 of 2 moves made in 7.0 s\n" in told.replace(".\n", "\n")
    assert f"{APP}: host c: no port is free" in told
    assert "`serai evacuate trouble` makes a new plan, from where VMs are now, and goes on." in told


@pytest.mark.usefixtures("service")
def test_vms_that_stay_are_told_with_what_keeps_them() -> None:
    told = serai("evacuate", "tight", "--yes", status=1).stdout
    assert "Done: 1 of 1 move made in 5.0 s, and 1 VM stays." in told
    after = told.partition("Done:")[2]
    assert f"{DB} stays on tight:" in after
    assert all(f"  {why}\n" in after for why in STUCK.why)


@pytest.mark.usefixtures("service")
def test_a_pool_is_levelled() -> None:
    assert "Relocation 1: levelling the pool west." in serai("rebalance", "west", "--yes").stdout
    assert data("rebalance", "west", "--yes")["relocation"]["state"] == "done"


@pytest.mark.usefixtures("service")
def test_limits_are_passed_on() -> None:
    made = data("evacuate", "old", "--yes", "--together", "7", "--of-a-host", "3", "--detach")["relocation"]
    assert (made["together"], made["of_a_host"], made["state"]) == (7, 3, "running")
    assert "0 is not in the range" in serai("evacuate", "old", "--together", "0", status=2).stderr


@pytest.mark.usefixtures("service")
def test_one_that_is_not_followed_goes_on_and_can_be_looked_at() -> None:
    told = serai("evacuate", "old", "--yes", "--detach").stdout
    assert "It has begun: `serai relocations show 1 --follow`, `serai relocations stop 1`." in told
    shown = serai("relocations", "show", "1").stdout
    assert "running: 0 of 2 done, 2 waiting" in shown
    assert "at a time: 4 moves, 2 of one host" in shown
    assert "Done: 2 of 2 moves" in serai("relocations", "show", "1", "--follow").stdout
    rows = [line.split() for line in serai("relocations", "show", "1").stdout.splitlines()]
    assert ["2", APP, "old", "c", "done", "3.0", "s"] in rows
    head, row = serai("relocations").stdout.splitlines()
    assert head.split() == ["NUMBER", "ASKED", "BY", "WHAT", "STATE", "MOVES", "STUCK", "NOTE"]
    assert "emptying old  done   2 of 2 done" in row
    assert data("relocations", "show", "1")["plan"]["goal"]["evacuate"] == ["old"]
    assert "there is no relocation 9" in serai("relocations", "show", "9", status=2).stderr


@pytest.mark.usefixtures("service")
def test_one_is_stopped() -> None:
    serai("evacuate", "old", "--yes", "--detach")
    told = serai("relocations", "stop", "1", "-m", "not today").stdout
    assert "Stopped: 0 of 2 moves made" in told
    assert "admin has stopped it" in told
    assert "2 moves not begun. `serai evacuate old` makes a new plan" in told
    assert "is over" in serai("relocations", "stop", "1", status=2).stderr


@pytest.mark.usefixtures("service")
def test_who_interrupts_it_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(relocationwatch, "_watched", interrupted)
    told = serai("evacuate", "old", "--yes", status=130)
    assert "goes on: `serai relocations show 1 --follow`, `serai relocations stop 1`." in told.stderr
    assert data("relocations")["relocations"][0]["state"] == "running"


def drawn(shown: RelocationShown) -> str:
    """Return what a terminal shows below."""
    out = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    watch = relocationwatch._Watch(out, shown)
    out.print(watch.drawn())
    assert isinstance(out.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue())


def test_a_terminal_shows_the_bar_and_what_is_under_way(service: FakeService) -> None:
    async def seen(name: str, times: int) -> RelocationShown:
        made = await service.relocate(ADMIN, RelocationRequest(evacuate=[name]))
        for _ in range(times):
            now = await service.relocation(ADMIN, made.relocation.id, seen=None, seconds=0)
            await service.relocation(ADMIN, made.relocation.id, seen=now.relocation.version, seconds=0)
        return await service.relocation(ADMIN, made.relocation.id, seen=None, seconds=0)

    told = drawn(asyncio.run(seen("old", 6)))
    assert "━" in told
    assert "1 of 2 done  ·  1 under way  ·  0 waiting" in told
    assert f"{APP}  old → c" in told
    assert "copied  its flows are there, and its memory follows" in told
    assert WEB not in told
    assert max(map(len, told.splitlines())) <= 100
    told = drawn(asyncio.run(seen("trouble", 7)))
    assert "1 aborted" in told
    assert "no more begin" in told
    assert NOW.year == 2026


def test_a_real_controller_empties_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plan that it makes itself: b has room for few, and what does not fit is told."""

    async def playing() -> None:
        async with asyncio.timeout(60), scene(tmp_path, None, "web", "app") as at:
            await asyncio.to_thread(_emptied, at)
            assert {guest.host.name for guest in at.guests.values()} <= {"b", "c"}

    def _emptied(at: Scene) -> None:
        profile = find({"XDG_CONFIG_HOME": str(tmp_path / "nowhere")}, at.config.client)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setenv("SERAI_URL", at.config.url)
        monkeypatch.setenv("SERAI_TOKEN", profile.token or "")
        monkeypatch.setenv("SERAI_CA", str(profile.ca))
        told = serai("evacuate", "a", "--yes").stdout
        assert "Done: 2 of 2 moves made" in told
        assert "Whole" in serai("audit", "verify").stdout
        for number in ("1", "2"):
            assert "Proven" in serai("moves", "verify", number).stdout
        assert "Nothing to do" in serai("evacuate", "a").stdout

    asyncio.run(playing())
