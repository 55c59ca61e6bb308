"""VMs that hypervisors move by themselves: a real controller, over real TLS, with hosts that are played."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from test_moves_driven import ask, over, records, run

from moving import ADMIN, Scene
from serai.controller.moves.config import MoveSettings
from serai.controller.placing.entering import EntrySettings
from serai.migration.entry import Demand
from serai.migration.states import State
from serai.model.migration import Facts, Step
from serai.wire import moveapi, remote

ESCORTS = "serai.controller.moves.escorts.READY_SECONDS"


async def moves(at: Scene) -> list[moveapi.Move]:
    """All there are, the first first."""
    told = await at.service.moves(ADMIN, vm=None, host=None, still_open=False, before=None, limit=100)
    return list(reversed(told.moves))


async def stands(at: Scene, *states: State) -> list[moveapi.Move]:
    """Wait until all moves stand so."""
    async with asyncio.timeout(20):
        while True:
            found = await moves(at)
            if [each.state for each in found] == list(states):
                return found
            await asyncio.sleep(0.02)


async def arrived(at: Scene, host: str) -> moveapi.Move:
    """Wait until the last move is over and the guest is at a host."""
    last = await over(at, (await moves(at))[-1])
    assert at.guests["web"].host is at.hosts[host]
    return last


def test_who_comes_without_a_ticket_gets_one_and_the_hypervisor_waits_until_its_rules_are_there(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        a, b = at.hosts["a"], at.hosts["b"]
        entry = await b.enter(at.guests["web"], encrypted=True)
        assert (entry.vm, entry.objections, entry.warnings) == ("/acme:web", [], [])
        assert b.holds("web"), "rules first"
        [open_] = await moves(at)
        assert open_.state in {State.PREPARED, State.COPIED}
        assert b.parts[open_.id].step is Step.PREPARED
        b.taps.add("web")
        b.look()
        ended = await arrived(at, "b")
        [leave] = [each for each in a.heard if isinstance(each, remote.Depart)]
        assert not leave.migrate
        assert (ended.state, ended.by, ended.source, ended.to) == (State.DONE, "hypervisor of host b", "a", "b")
        assert ended.receipt
        assert ended.receipt.by == "hypervisor of host b"
        assert ended.receipt.facts == Facts(
            digest=ended.facts.digest, flows_first=3, flows_later=1, encrypted=True, gap_us=250_000
        )
        assert [(each.who, each.verb) for each in await records(at)] == [
            ("hypervisor of host b", "move"), ("serai", "end a move"),
        ]  # fmt: skip

    run(tmp_path, play)


def test_to_and_fro_at_once(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        for number, to in enumerate("babab", 1):
            assert not (await at.virsh_migrate("web", to)).objections
            await at.until(lambda to=to: at.guests["web"].host is at.hosts[to], "it comes")  # type: ignore[misc]
            assert len(await moves(at)) == number
        ended = await stands(at, *5 * [State.DONE])
        assert [(each.source, each.to, each.epoch) for each in ended] == [
            ("a", "b", 1), ("b", "a", 2), ("a", "b", 3), ("b", "a", 4), ("a", "b", 5),
        ]  # fmt: skip

    run(tmp_path, play)


def test_who_goes_on_before_the_move_before_is_over_waits_for_that(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.FENCED
        await at.virsh_migrate("web", "b")
        await stands(at, State.CARRIED)
        next_ = asyncio.create_task(at.virsh_migrate("web", "c"))
        await asyncio.sleep(0.2)
        assert not next_.done()
        at.held_at = None
        assert not (await next_).objections
        assert (await arrived(at, "c")).state is State.DONE

    run(tmp_path, play)


def test_who_waits_too_long_for_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ESCORTS, 0.3)

    async def play(at: Scene) -> None:
        at.held_at = Step.FENCED
        await at.virsh_migrate("web", "b")
        await stands(at, State.CARRIED)
        entry = await at.virsh_migrate("web", "c")
        assert entry.objections == ["move 1 of it, to host b, is not over yet: try again in a moment"]
        at.held_at = None
        await arrived(at, "b")

    run(tmp_path, play)


def test_a_host_that_is_not_ready_in_time_takes_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ESCORTS, 0.3)

    async def play(at: Scene) -> None:
        at.held_at = Step.PREPARED
        entry = await at.virsh_migrate("web", "b")
        assert entry.objections == [
            "host b holds the VM's rules, and has not said in time that it is ready: it stays where it is; try again"
        ]
        [ended] = await stands(at, State.ABORTED)
        assert ended.why == "hypervisor of host b has aborted it"
        at.held_at = None
        assert not (await at.virsh_migrate("web", "b")).objections
        await arrived(at, "b")

    run(tmp_path, play)


def test_a_host_that_cannot_be_ready_says_why(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.hosts["b"].refuses = "it takes no flows"
        entry = await at.virsh_migrate("web", "b")
        assert entry.objections == ["it cannot be taken along: host b: it takes no flows"]
        assert (await stands(at, State.ABORTED))[0].receipt

    run(tmp_path, play)


@pytest.mark.parametrize("tickets", [Demand.WARN, Demand.OFF])
def test_where_the_source_is_not_there_connections_stay_behind(tmp_path: Path, tickets: Demand) -> None:
    async def play(at: Scene) -> None:
        at.config = msgspec.structs.replace(at.config, entry=EntrySettings(tickets=tickets))
        await at.restart()
        await at.until(lambda: all(map(at.settled, "abc")), "they are there again")
        await at.hosts["a"].stop()
        await at.until(lambda: not at.settled("a"), "it is away")
        entry = await at.hosts["b"].enter(at.guests["web"])
        assert not entry.objections
        told = [each for each in entry.warnings if "connections stay behind" in each]
        assert [("host a, where /acme:web runs, is not connected" in each) for each in told] == (
            [True] if tickets is Demand.WARN else []
        )
        assert await moves(at) == []

    run(tmp_path, play)


def test_where_a_ticket_is_asked_for_nobody_gets_one_at_the_door(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.config = msgspec.structs.replace(at.config, entry=EntrySettings(tickets=Demand.REQUIRE))
        await at.restart()
        await at.until(lambda: all(map(at.settled, "abc")), "they are there again")
        [why] = (await at.virsh_migrate("web", "b")).objections
        assert why.startswith("it comes without a ticket: move it with `serai migrate /acme:web b`")
        assert await moves(at) == []

    run(tmp_path, play)


def test_a_move_that_somebody_wanted_is_that_move_and_bars_others(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.COPIED
        made = await ask(at)
        assert not (await at.hosts["b"].enter(at.guests["web"])).objections
        assert (await at.hosts["c"].enter(at.guests["web"])).objections == [
            "it is being moved to host b: that is move 1"
        ]
        at.held_at = None
        assert (await over(at, made)).by == "ada"
        assert len(await moves(at)) == 1

    run(tmp_path, play)


def test_a_move_that_waits_is_not_overtaken(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.COPIED
        first = await ask(at, "/acme:app")
        waiting = asyncio.create_task(ask(at))
        await stands(at, State.PREPARED, State.WAITING)
        assert (await at.hosts["b"].enter(at.guests["web"])).objections == [
            "move 2 of it, to host b, waits for its turn: let it, or abort it with `serai moves abort 2`"
        ]
        at.held_at = None
        await over(at, first)
        await over(at, await waiting)

    run(tmp_path, play, MoveSettings(at_once=1), "app", "web")


def test_who_goes_elsewhere_has_given_up_the_move_that_it_had_begun(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        assert not (await at.hosts["b"].enter(at.guests["web"])).objections
        await stands(at, State.COPIED)
        assert not (await at.virsh_migrate("web", "c")).objections
        assert (await arrived(at, "c")).state is State.DONE
        given_up, _ = await moves(at)
        assert (given_up.state, given_up.to) == (State.ABORTED, "b")
        assert given_up.receipt

    run(tmp_path, play)


def test_who_tries_again_goes_on_with_the_same_move(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        assert not (await at.hosts["b"].enter(at.guests["web"])).objections
        assert not (await at.virsh_migrate("web", "b")).objections
        assert (await arrived(at, "b")).number == 1

    run(tmp_path, play)


def test_a_hypervisor_that_gives_up_leaves_the_vm_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.controller.moves.core.GONE", timedelta(seconds=0.2))

    async def play(at: Scene) -> None:
        at.held_at = Step.SWITCHED
        b = at.hosts["b"]
        await at.virsh_migrate("web", "b")
        await stands(at, State.COPIED)
        await asyncio.sleep(1.2)
        assert (await moves(at))[0].state is State.COPIED, "guests may take their time"
        b.taps.discard("web")
        b.look()
        [ended] = await stands(at, State.ABORTED)
        assert ended.receipt
        assert not ended.receipt.made
        assert at.hosts["a"].gates == {"web"}
        await at.until(lambda: not b.holds("web"), "its rules are gone from there")

    run(tmp_path, play)


def test_a_controller_that_dies_while_a_hypervisor_waits_leaves_a_move_that_ends(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.PREPARED
        waiting = asyncio.create_task(at.hosts["b"].enter(at.guests["web"]))
        await stands(at, State.PLANNED)
        await at.restart()
        waiting.cancel()  # the agent has told the hypervisor that nobody answers
        at.held_at = None
        [ended] = await stands(at, State.ABORTED)
        assert ended.why in {
            "host a: told to forget it", "host b holds the VM's rules, and has not said in time that it is ready",
            "the hypervisor has not begun to move it to host b, or has given up",
        }  # fmt: skip
        await at.until(lambda: all(map(at.settled, "abc")), "they are there again")
        assert not (await at.virsh_migrate("web", "b")).objections
        await arrived(at, "b")

    run(tmp_path, play, MoveSettings(ticket_seconds=2, abort_seconds=5))
