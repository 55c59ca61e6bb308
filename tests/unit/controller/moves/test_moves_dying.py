"""A move, and something dies at each of its steps: the controller, the source, the destination, or the way to them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_moves_driven import ask, follow, over, records, run

from moving import ADMIN, STEPS, Scene, beside
from serai.controller.errors import ConflictError
from serai.controller.moves.config import MoveSettings
from serai.model.migration import Step
from serai.wire import moveapi

HASTY = MoveSettings(ticket_seconds=15, copy_seconds=15, switch_seconds=1, finish_seconds=1.5, abort_seconds=1)
AT = ("planned", "prepared", "copied", "switched", "live", "carried")
"""Where a move stands when it is held at each of ``STEPS``."""


async def held(at: Scene, state: str) -> moveapi.Move:
    """Bring a move to a state, and hold it there."""
    at.held_at = STEPS[AT.index(state)]
    made = await ask(at)
    return (await follow(at, made, state))[-1]


def in_one_place(at: Scene, host: str) -> None:
    guest = at.guests["web"]
    assert guest.host.name == host
    assert not guest.stopped
    assert [each.name for each in at.hosts.values() if "web" in each.gates] == [host]


def kept_its_rules(at: Scene) -> None:
    """From the first ruleset on that had them, the destination has had the VM's rules."""
    vnic, ever = at.guests["web"].vnic, at.hosts["b"].ever
    first = next(n for n, has in enumerate(ever) if vnic in has)
    assert all(vnic in has for has in ever[first:])


@pytest.mark.parametrize("state", AT)
def test_the_controller_dies(tmp_path: Path, state: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, state)
        await at.restart()
        at.held_at = None
        ended = await over(at, made)
        assert ended.state == "done"
        assert ended.receipt
        assert (ended.receipt.unheard, ended.receipt.reached, ended.receipt.facts.flows_later) == ([], Step.FENCED, 1)
        in_one_place(at, "b")
        kept_its_rules(at)
        assert [each.verb for each in await records(at)] == ["move", "end a move"]
        assert (await at.service.audit_verify(ADMIN, [])).ok

    run(tmp_path, play)


@pytest.mark.parametrize("state", AT[1:])
def test_the_controller_dies_and_the_hosts_finish_it_without(tmp_path: Path, state: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, state)
        await at.end()
        at.held_at = None
        await at.until(lambda: at.hosts["a"].parts[made.id].step is Step.FENCED, "the source has finished")
        in_one_place(at, "b")
        await at.begin()
        ended = await over(at, made)
        assert ended.state == "done"
        assert ended.receipt
        assert ended.receipt.unheard == []
        assert ended.receipt.facts.gap_us == 250_000
        kept_its_rules(at)
        await at.until(lambda: not at.hosts["a"].parts and not at.hosts["b"].parts, "both are told that it is over")

    run(tmp_path, play)


SOURCE_DIES = {
    "planned": ("done", "b", []), "prepared": ("done", "b", []), "copied": ("done", "b", []),
    "switched": ("aborted", "a", ["a"]), "live": ("done", "b", ["a", "b"]), "carried": ("done", "b", ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("state", AT)
def test_the_agent_of_the_source_is_killed(tmp_path: Path, state: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, state)
        source = at.hosts["a"]
        await source.stop()
        source.start()
        await at.until(lambda: at.settled("a"), "it is back")
        at.held_at = None
        ended = await over(at, made)
        expected, where, silent = SOURCE_DIES[state]
        assert (ended.state, ended.receipt and ended.receipt.unheard) == (expected, silent)
        in_one_place(at, where)

    run(tmp_path, play, HASTY)


DESTINATION_DIES = {
    "planned": [], "prepared": [], "copied": [], "switched": [], "live": ["b"], "carried": [],
}  # fmt: skip


@pytest.mark.parametrize("state", AT)
def test_the_agent_of_the_destination_is_killed(tmp_path: Path, state: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, state)
        destination = at.hosts["b"]
        await destination.stop()
        destination.start()
        await at.until(lambda: at.settled("b"), "it is back")
        if state in {"prepared", "copied", "switched"}:
            await at.until(lambda: made.id in destination.parts, "it is told again whom to expect")
        at.held_at = None
        ended = await over(at, made)
        assert (ended.state, ended.receipt and ended.receipt.unheard) == ("done", DESTINATION_DIES[state])
        in_one_place(at, "b")

    run(tmp_path, play, HASTY)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("state", AT)
def test_a_cable_is_out_for_a_while(tmp_path: Path, state: str, name: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, state)
        at.hosts[name].cut()
        await at.until(lambda: not at.settled(name), "it is gone")
        at.held_at = None
        await asyncio.sleep(0.2)
        at.hosts[name].mend()
        ended = await over(at, made)
        assert (ended.state, ended.receipt and ended.receipt.unheard) == ("done", [])
        in_one_place(at, "b")

    run(tmp_path, play)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_host_that_never_comes_back_ends_what_has_not_begun(tmp_path: Path, name: str) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, "planned")
        at.hosts[name].cut()
        await at.until(lambda: not at.settled(name), "it is gone")
        at.held_at = None if name == "a" else at.held_at
        ended = await over(at, made)
        assert ended.state == "aborted"
        in_one_place(at, "a")

    run(tmp_path, play, MoveSettings(ticket_seconds=1, copy_seconds=1, abort_seconds=1))


def test_a_source_that_never_comes_back_leaves_a_receipt_that_says_so(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, "live")
        at.hosts["a"].cut()
        await at.until(lambda: not at.settled("a"), "it is gone")
        ended = await over(at, made)
        assert ended.receipt
        assert (ended.state, ended.receipt.unheard, ended.receipt.facts.encrypted) == ("done", ["a", "b"], None)
        at.hosts["a"].mend()
        at.held_at = None
        await at.until(lambda: not at.hosts["a"].parts, "it is told that it is over, when it comes back")

    run(tmp_path, play, HASTY)


def test_an_abort_is_not_forgotten_when_the_controller_dies(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        made = await held(at, "copied")
        for host in at.hosts.values():
            host.cut()
        await at.until(lambda: not at.settled("a"), "they are gone")
        assert (await at.service.abort_move(ADMIN, made.id, moveapi.AbortRequest())).state == "aborting"
        await at.restart()
        for host in at.hosts.values():
            host.mend()
        ended = await over(at, made)
        assert (ended.state, ended.why) == ("aborted", "host a: told to forget it")
        in_one_place(at, "a")

    run(tmp_path, play)


def test_any_controller_is_asked_and_the_one_that_leads_does_it(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        async with beside(at) as other:
            at.held_at = Step.SWITCHED
            made = await ask(other)
            assert made.source == "a"  # it has begun
            await follow(other, made, "copied")
            for where in (other, at):
                with pytest.raises(ConflictError, match="is being moved to host b already: that is move 1"):
                    await ask(where, to="c")
            aborted = await over(other, await other.service.abort_move(ADMIN, "1", moveapi.AbortRequest()))
            assert aborted.state == "aborted"
            # What only the one that leads knows is told by the other, too.
            with pytest.raises(ConflictError, match="runs at host a already"):
                await ask(other, to="a")
            at.held_at = None
            assert (await over(other, await ask(other))).state == "done"

    run(tmp_path, play)
