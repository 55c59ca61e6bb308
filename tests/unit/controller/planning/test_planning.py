"""Plans made by a real controller, of what hosts tell over real links."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from moving import ADMIN, FACTS, Scene, beside, resources, scene
from planned_sites import less_memory
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.errors import BusyError, ForbiddenError, InvalidError, NotFoundError, UnavailableError
from serai.controller.planning import planning as room
from serai.model.migration import Step
from serai.model.tenancy import ROOT, Scope
from serai.wire import api
from serai.wire.moveapi import MoveRequest
from serai.wire.planapi import PlanReply, PlanRequest

LEAVE = PlanRequest(evacuate=["a"])
POOL = "\n---\napiVersion: serai.dev/v1\nkind: Pool\nmetadata: {name: west}\nspec: {hosts: [a, b, c]}\n"


def played(directory: Path, test: Callable[[Scene], Awaitable[None]], *vms: str) -> None:
    async def go() -> None:
        async with scene(directory, None, *vms) as at:
            await test(at)

    asyncio.run(go())


def moves(reply: PlanReply) -> dict[str, str]:
    return {move.vm: move.to for each in reply.rounds for move in each}


async def until_taken(at: Scene, host: str, memory: int) -> None:
    """Wait until the controller has heard what a host is made of."""
    assert at.made is not None
    async with asyncio.timeout(20):
        while (await at.made.service._pools._facts.all())[host].facts.memory != memory:  # noqa: ASYNC110 (what is waited for is no event)
            await asyncio.sleep(0.01)


def test_a_host_is_emptied_and_a_pool_levelled_by_what_hosts_tell(tmp_path: Path) -> None:
    async def test(at: Scene) -> None:
        reply = await at.service.plan_moves(ADMIN, LEAVE)
        assert set(moves(reply)) == {f"/acme:{name}" for name in at.guests}
        assert set(moves(reply).values()) == {"b", "c"}
        assert (reply.stuck, reply.proven, len(reply.rounds)) == ([], True, 1)
        at.hosts["b"].describe(less_memory(FACTS, 1100))
        await until_taken(at, "b", 1100)
        assert set(moves(await at.service.plan_moves(ADMIN, LEAVE)).values()) == {"c"}
        at.hosts["c"].cut()
        assert at.made is not None
        await at.until(lambda: not at.made.shard.state("c").connected, "c is away")  # type: ignore[union-attr]
        reply = await at.service.plan_moves(ADMIN, LEAVE)
        assert (moves(reply), len(reply.stuck)) == ({}, 4)
        assert "host c takes nobody: it is not connected" in " ".join(reply.stuck[0].why)
        at.hosts["c"].mend()
        await at.until(lambda: at.settled("c"), "c is back")
        at.hosts["b"].describe(FACTS)
        await until_taken(at, "b", FACTS.memory)
        await at.service.apply(ADMIN, api.ChangeRequest(files={"all.yaml": resources(*at.guests) + POOL}))
        reply = await at.service.plan_moves(ADMIN, PlanRequest(rebalance="west"))
        assert reply.goal.rebalance == "west"
        assert 2 <= len(moves(reply)) <= 3
        assert max(host.after.vms for host in reply.hosts) == 2

    played(tmp_path, test, "web", "app", "db", "log")


def test_a_vm_on_its_way_stays_out_of_plans(tmp_path: Path) -> None:
    async def test(at: Scene) -> None:
        at.held_at = Step.COPIED
        await at.service.move_vm(ADMIN, MoveRequest(vm="/acme:web", to="b"))
        reply = await at.service.plan_moves(ADMIN, LEAVE)
        assert set(moves(reply)) == {"/acme:app"}
        assert reply.stuck == []
        [stuck] = (await at.service.plan_moves(ADMIN, PlanRequest(evacuate=["b"]))).stuck
        assert (stuck.vm, stuck.host) == ("/acme:web", "b")
        assert "it is being moved to b already" in stuck.why[0]
        at.held_at = None
        await at.until(lambda: at.guests["web"].host.name == "b", "it is there")

    played(tmp_path, test, "web", "app")


def test_who_may_ask_and_for_what(tmp_path: Path) -> None:
    async def test(at: Scene) -> None:
        operator = Caller(name="op", grants=(Grant(Role.OPERATOR, ROOT),))
        assert (await at.service.plan_moves(operator, LEAVE)).rounds
        for grant in (Grant(Role.OPERATOR, Scope("/acme")), Grant(Role.VIEWER, ROOT)):
            with pytest.raises(ForbiddenError):
                await at.service.plan_moves(Caller(name="eve", grants=(grant,)), LEAVE)
        for request in (PlanRequest(), PlanRequest(evacuate=["a"], rebalance="west")):
            with pytest.raises(InvalidError, match="one of both"):
                await at.service.plan_moves(ADMIN, request)
        with pytest.raises(NotFoundError, match="there is no host 'z': `serai host list`"):
            await at.service.plan_moves(ADMIN, PlanRequest(evacuate=["a", "z"]))
        with pytest.raises(NotFoundError, match="there is no pool 'west': `serai pool list`"):
            await at.service.plan_moves(ADMIN, PlanRequest(rebalance="west"))
        async with beside(at) as other:
            with pytest.raises(UnavailableError, match=r"does not lead.*: ask localhost"):
                await other.service.plan_moves(ADMIN, LEAVE)

    played(tmp_path, test)


def test_a_planner_that_dies_or_errs_harms_nobody_and_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(at: Scene) -> None:
        here = os.getpid()

        def dies(*_: object) -> PlanReply:
            assert os.getpid() != here
            os.abort()

        def errs(*_: object) -> PlanReply:
            raise room.UnsoundError("web goes to b: memory")

        for draw, said in (
            (dies, "no plan was made: it died of signal 6"),
            (errs, "not sound, and is shown to nobody"),
        ):
            monkeypatch.setattr(room, "draw", draw)
            with pytest.raises(UnavailableError, match=said):
                await at.service.plan_moves(ADMIN, LEAVE)
        monkeypatch.undo()
        assert (await at.service.plan_moves(ADMIN, LEAVE)).rounds

    played(tmp_path, test)


def test_one_plan_is_made_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(at: Scene) -> None:
        both = await asyncio.gather(at.service.plan_moves(ADMIN, LEAVE), at.service.plan_moves(ADMIN, LEAVE))
        assert both[0] == both[1]
        monkeypatch.setattr(room, "SECONDS", 0.01)
        planning = at.service._planning
        async with planning._one:
            with pytest.raises(BusyError):
                await planning.again(LEAVE)

    played(tmp_path, test)
