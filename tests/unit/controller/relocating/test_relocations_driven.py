"""Relocations that a real controller carries out, over real TLS, with hosts that are played; the plans are given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from moving import ADMIN, STEPS, Scene, beside, resources, scene
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.errors import ConflictError, ForbiddenError, NotFoundError
from serai.controller.moves.config import MoveSettings
from serai.model.migration import Step
from serai.model.tenancy import ROOT
from serai.wire import api, moveapi
from serai.wire.planapi import PlannedMove, PlanReply, PlanRequest, StuckVm
from serai.wire.relocationapi import RelocationRequest, RelocationShown, StopRequest, moves_digest

VMS = ("vm0", "vm1", "vm2", "vm3")


class Given:
    """Makes the plan that it was given (``relocating.requests.Planner``)."""

    def __init__(self, *rounds: str, stuck: Sequence[StuckVm] = ()) -> None:
        split = [[text.split() for text in each.split(",")] for each in rounds]
        self.rounds = [[PlannedMove(vm=f"/acme:{vm}", source=a, to=b) for vm, a, b in each] for each in split]
        self.stuck = stuck

    async def plan(self, who: Caller, request: PlanRequest) -> PlanReply:
        del who
        return PlanReply(goal=request, revision=1, rounds=self.rounds, stuck=self.stuck, proven=True, hosts=[])


def run(directory: Path, play: Callable[[Scene], Awaitable[None]], settings: MoveSettings | None = None) -> None:
    async def playing() -> None:
        async with asyncio.timeout(60), scene(directory, settings, *VMS) as at:
            await play(at)

    asyncio.run(playing())


async def relocate(
    at: Scene, given: Given, *, together: int = 4, of_a_host: int = 4, expect: str | None = None
) -> RelocationShown:
    at.service._relocations._planner = given
    asked = RelocationRequest(evacuate=["a"], together=together, of_a_host=of_a_host, expect=expect)
    made: RelocationShown = await at.service.relocate(ADMIN, asked)
    return made


async def follow(at: Scene, name: str, until: Callable[[RelocationShown], bool]) -> list[RelocationShown]:
    """Return all that is told of a relocation until something holds, or it is over."""
    told = [await at.service.relocation(ADMIN, name, seen=None, seconds=0)]
    while not until(told[-1]) and told[-1].relocation.ended is None:
        found = await at.service.relocation(ADMIN, name, seen=told[-1].relocation.version, seconds=20)
        assert found.relocation.version > told[-1].relocation.version, "it waits for a change"
        told.append(found)
    return told


async def over(at: Scene, name: str = "1") -> RelocationShown:
    return (await follow(at, name, lambda _: False))[-1]


def places(at: Scene) -> str:
    """Say where guests are: ``bbac``."""
    return "".join(at.guests[vm].host.name for vm in VMS)


def test_a_plan_is_carried_out_to_its_end(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        given = Given("vm0 a b,vm1 a c", "vm2 a b,vm0 b c", stuck=[StuckVm(vm="/acme:vm3", host="a", why=["no room"])])
        made = await relocate(at, given)
        assert made.plan
        assert list(made.plan.stuck) == given.stuck
        found = made.relocation
        assert (found.number, found.state, found.by, found.evacuate, found.moves, found.waiting) == (
            1,
            "running",
            "ada",
            ["a"],
            4,
            4,
        )
        told = await follow(at, made.relocation.id, lambda _: False)
        for each in told:
            relocation = each.relocation
            assert relocation.done + relocation.under_way + relocation.waiting + relocation.aborted == 4
            assert len(each.begun) == 4 - relocation.waiting
            if relocation.waiting < 2:
                assert [move.ended is not None for move in each.begun[:2]] == [True, True], "round by round"
        assert told[0].plan == made.plan
        assert all(each.plan is None for each in told[1:])
        last = told[-1].relocation
        assert (last.state, last.why, last.done, last.stuck) == ("done", "", 4, 1)
        assert places(at) == "ccba"
        moves = (await at.service.moves(ADMIN, vm=None, host=None, still_open=False, before=None, limit=9)).moves
        assert [(each.state, each.by) for each in moves] == [("done", "ada")] * 4
        assert all(each.receipt and each.receipt.made for each in moves)
        page = await at.service.audit(ADMIN, after=None, limit=99, scope=None, verb=None, by=None)
        ours = [each for each in page.records if each.detail.get("relocation") == last.id]
        assert [(each.who, each.verb) for each in ours] == [
            ("ada", "relocate"), *[("ada", "move")] * 4, ("serai", "end a relocation"),
        ]  # fmt: skip
        assert ours[0].detail["plan"] == moves_digest(made.plan)
        assert (await at.service.audit_verify(ADMIN, [])).ok
        # Another may follow.
        again = await relocate(at, Given("vm0 c a"))
        assert (await over(at, "2")).relocation.state == "done"
        listed = await at.service.relocations(ADMIN, before=None, limit=9)
        assert [(each.number, each.done) for each in listed.relocations] == [(2, 1), (1, 4)]
        assert again.relocation.number == 2

    run(tmp_path, play)


def test_no_more_are_on_than_its_limits_let(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        await relocate(at, Given("vm0 a b,vm1 a b,vm2 a c,vm3 a c"), together=3, of_a_host=2)
        told = await follow(at, "1", lambda _: False)
        assert max(each.relocation.under_way for each in told) == 2
        assert told[-1].relocation.done == 4

    run(tmp_path, play, MoveSettings(at_once=8))


def test_a_failure_ends_it_when_the_others_are_over(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.hosts["c"].refuses = "no port is free"
        at.held_at = Step.LIVE
        await relocate(at, Given("vm0 a b,vm1 a c,vm2 a b,vm3 a b"), together=2)
        told = (await follow(at, "1", lambda each: each.relocation.aborted == 1))[-1]
        assert (told.relocation.state, told.relocation.under_way) == ("running", 1)
        at.held_at = None
        last = (await over(at)).relocation
        assert (last.state, last.done, last.aborted, last.waiting) == ("failed", 1, 1, 2)
        assert last.why == "/acme:vm1: host c: no port is free"
        assert places(at) == "baaa"
        # Who calls again gets a plan from where VMs are now.
        await relocate(at, Given("vm1 a b,vm2 a b,vm3 a b"))
        assert (await over(at, "2")).relocation.state == "done"
        assert places(at) == "bbbb"

    run(tmp_path, play)


def test_rules_that_change_meanwhile_end_it(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.LIVE
        await relocate(at, Given("vm0 a b,vm1 a b"), together=1)
        await follow(at, "1", lambda each: each.relocation.under_way == 1)
        apart = (
            "apiVersion: serai.dev/v1\nkind: PlacementRule\nmetadata: {name: two}\nspec: {keepApart: {scope: /acme}}\n"
        )
        await at.service.apply(ADMIN, api.ChangeRequest(files={"all.yaml": resources(*VMS), "two.yaml": apart}))
        at.held_at = None
        last = (await over(at)).relocation
        assert (last.state, last.done) == ("failed", 1)
        assert "may not run at host b" in last.why
        assert "two" in last.why

    run(tmp_path, play)


def test_it_is_stopped(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.LIVE
        made = await relocate(at, Given("vm0 a b,vm1 a b,vm2 a b"), together=1)
        await follow(at, "1", lambda each: each.relocation.under_way == 1)
        found = await at.service.stop_relocation(ADMIN, "1", StopRequest(why="not today"))
        assert (found.relocation.state, found.relocation.stop) == ("running", "ada")
        assert found.relocation.version > made.relocation.version
        at.held_at = None
        last = (await over(at)).relocation
        assert (last.state, last.why, last.done, last.waiting) == ("stopped", "ada has stopped it", 1, 2)
        with pytest.raises(ConflictError, match="is over"):
            await at.service.stop_relocation(ADMIN, "1", StopRequest())

    run(tmp_path, play)


def test_what_makes_no_sense_is_refused_with_its_reason(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        given = Given("vm0 a b")
        with pytest.raises(ConflictError, match="another one by now"):
            await relocate(at, given, expect="d" * 64)
        for asking in (
            at.service.relocation(ADMIN, "1", seen=None, seconds=0),
            at.service.stop_relocation(ADMIN, "1", StopRequest()),
        ):
            with pytest.raises(NotFoundError, match="there is no relocation 1"):
                await asking
        at.held_at = Step.LIVE
        made = await relocate(at, given, expect=moves_digest(await given.plan(ADMIN, PlanRequest(evacuate=["a"]))))
        with pytest.raises(ConflictError, match="relocation 1, which ada asked for, is not over"):
            await relocate(at, given)
        for caller in (Caller(name="eve", grants=(Grant(Role.VIEWER, ROOT),)),):
            with pytest.raises(ForbiddenError, match="may not move in /"):
                await at.service.relocate(caller, RelocationRequest(evacuate=["a"]))
            with pytest.raises(ForbiddenError, match="may not move in /"):
                await at.service.stop_relocation(caller, "1", StopRequest())
            seen = await at.service.relocation(caller, "1", seen=None, seconds=0)
            assert seen.relocation.id == made.relocation.id
        at.held_at = None
        assert (await over(at)).relocation.state == "done"

    run(tmp_path, play)


def test_a_vm_that_somebody_else_moves_fails_it(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.COPIED
        await at.service.move_vm(ADMIN, moveapi.MoveRequest(vm="/acme:vm0", to="c"))
        await relocate(at, Given("vm0 a b"))
        last = (await over(at)).relocation
        assert last.state == "failed"
        assert "/acme:vm0 is being moved to host c already: that is move 1" in last.why
        at.held_at = None

    run(tmp_path, play)


# Somebody dies


@pytest.mark.parametrize("state", ["planned", "switched", "carried"])
def test_another_controller_goes_on(tmp_path: Path, state: str) -> None:
    """The one that leads is ended while the first move is held at a step."""

    async def play(at: Scene) -> None:
        at.held_at = STEPS[("planned", "prepared", "copied", "switched", "live", "carried").index(state)]
        await relocate(at, Given("vm0 a b,vm1 a c", "vm2 a b,vm0 b c"), together=1)
        await follow(at, "1", lambda each: any(move.state == state for move in each.begun))
        await at.restart()
        at.held_at = None
        last = (await over(at)).relocation
        assert (last.state, last.done) == ("done", 4)
        assert places(at) == "ccba"
        page = await at.service.audit(ADMIN, after=None, limit=99, scope=None, verb="move", by=None)
        assert len(page.records) == 4, "nothing was begun twice"
        assert at.two_gates == []

    run(tmp_path, play)


def test_what_ended_while_nobody_led_counts(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.LIVE
        await relocate(at, Given("vm0 a b,vm1 a c", "vm2 a b"), together=2)
        await follow(at, "1", lambda each: sum(move.state == "switched" for move in each.begun) == 2)
        await at.end()
        at.held_at = None
        await at.until(lambda: places(at) == "bcaa", "hosts finish what they have begun")
        await at.begin()
        last = (await over(at)).relocation
        assert (last.state, last.done) == ("done", 3)

    run(tmp_path, play)


def test_a_controller_that_does_not_lead_is_asked(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        async with beside(at) as other:
            at.held_at = Step.LIVE
            await relocate(other, Given("vm0 a b,vm1 a b"), together=1)
            await follow(other, "1", lambda each: each.relocation.under_way == 1)
            await other.service.stop_relocation(ADMIN, "1", StopRequest())
            at.held_at = None
            assert (await over(other)).relocation.state == "stopped"

    run(tmp_path, play)


def test_a_plan_that_nobody_understands_ends(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        assert at.made
        at.service._relocations._planner = Given("vm0 a b")
        at.held_at = Step.LIVE
        await relocate(at, Given("vm0 a b"))
        await follow(at, "1", lambda each: each.relocation.under_way == 1)
        await at.end()
        import sqlite3  # noqa: PLC0415

        with sqlite3.connect(at.directory / "serai.db") as database:
            database.execute("UPDATE relocations SET plan = ?", (msgspec.json.encode({"later": 1}).decode(),))
        at.held_at = None
        await at.begin()
        await at.until(lambda: places(at) == "baaa", "the move is made")
        found = None
        while found is None or found.ended is None:
            found = (await at.service.relocations(ADMIN, before=None, limit=1)).relocations[0]
            await asyncio.sleep(0.05)
        assert found.state == "failed"
        assert "another version has written its plan down" in found.why

    run(tmp_path, play)
