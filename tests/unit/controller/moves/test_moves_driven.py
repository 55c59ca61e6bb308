"""Moves that a real controller drives, over real TLS, with hosts that are played: from being asked for to the receipt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moving import ADMIN, STEPS, Scene, resources, scene
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.errors import ConflictError, ForbiddenError, NotFoundError
from serai.controller.moves.config import MoveSettings
from serai.migration.states import State
from serai.model.checkpoint import Checkpoint
from serai.model.merkle import continues, includes, leaf_hash
from serai.model.migration import Facts, Step
from serai.model.tenancy import ROOT, Scope
from serai.wire import api, moveapi, remote


def run(
    directory: Path, play: Callable[[Scene], Awaitable[None]], settings: MoveSettings | None = None, *vms: str
) -> None:
    async def playing() -> None:
        async with asyncio.timeout(60), scene(directory, settings, *vms) as at:
            await play(at)

    asyncio.run(playing())


async def ask(at: Scene, vm: str = "/acme:web", to: str = "b") -> moveapi.Move:
    made: moveapi.Move = await at.service.move_vm(ADMIN, moveapi.MoveRequest(vm=vm, to=to))
    return made


async def follow(at: Scene, move: moveapi.Move, until: str = "") -> list[moveapi.Move]:
    """Return all that is told of a move until it stands somewhere, or is over."""
    told = [move]
    while told[-1].ended is None and told[-1].state != until:
        found = await at.service.move(ADMIN, move.id, seen=told[-1].version, seconds=20)
        assert found.version != told[-1].version, found
        told.append(found)
    return told


async def over(at: Scene, move: moveapi.Move) -> moveapi.Move:
    return (await follow(at, move))[-1]


async def records(at: Scene) -> list[api.AuditRecord]:
    page = await at.service.audit(ADMIN, after=None, limit=1000, scope=None, verb=None, by=None)
    return [each for each in page.records if "move" in each.detail]


def test_a_move_is_followed_to_its_receipt(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        before = Checkpoint.parse((await at.service.checkpoint(ADMIN)).note)
        assert not at.hosts["b"].holds("web")
        made = await ask(at)
        assert (made.state, made.source, made.to, made.by, made.epoch) == ("planned", "a", "b", "ada", 1)
        told = await follow(at, made)
        states = [each.state for each in told]
        assert states == sorted(states, key=list(State).index)  # facts may come while it stands
        assert states[-1] == "done"
        receipt = told[-1].receipt
        assert receipt
        assert receipt.facts == Facts(
            digest=told[-1].facts.digest, flows_first=3, flows_later=1, encrypted=True, gap_us=250_000
        )
        assert (receipt.reached, receipt.unheard, receipt.ticket.vm) == (Step.FENCED, [], "/acme:web")
        # What was attested had the VM's rules in it, and nothing has begun before.
        expect = next(each for each in at.hosts["b"].heard if isinstance(each, remote.Expect))
        assert expect.digest.hex() == receipt.facts.digest
        await at.until(lambda: at.hosts["b"].holds("web") and not at.hosts["a"].holds("web"), "rules follow")
        vnic = at.guests["web"].vnic
        first = next(n for n, ever in enumerate(at.hosts["b"].ever) if vnic in ever)
        assert all(vnic in ever for ever in at.hosts["b"].ever[first:])
        # Both hosts know that it is over.
        await at.until(lambda: not at.hosts["a"].parts and not at.hosts["b"].parts, "hosts have forgotten it")
        begin, end = await records(at)
        assert (begin.who, begin.verb, begin.outcome, begin.detail["to"]) == ("ada", "move", "done", "b")
        assert (end.who, end.verb, end.outcome) == ("serai", "end a move", "done")
        assert end.detail["receipt"] == msgspec.to_builtins(receipt)
        proof = await at.service.move_proof(ADMIN, "1", since=before.size)
        now = Checkpoint.parse(proof.note)
        assert json.loads(proof.record)["detail"]["receipt"] == msgspec.to_builtins(receipt)
        hashes = [bytes.fromhex(each) for each in proof.inclusion]
        assert includes(leaf_hash(proof.record.encode()), proof.seq, now.size, now.root, hashes)
        way = [bytes.fromhex(each) for each in proof.consistency]
        assert continues(before.size, before.root, now.size, now.root, way)
        assert (await at.service.audit_verify(ADMIN, [])).ok

    run(tmp_path, play)


def test_a_move_back_is_a_new_one(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        for epoch, to in enumerate(("b", "a", "b"), 1):
            ended = await over(at, await ask(at, to=to))
            assert (ended.state, ended.epoch) == ("done", epoch)
            assert ended.receipt
            assert ended.receipt.ticket.epoch == epoch
        found = await at.service.moves(ADMIN, vm=None, host=None, still_open=False, before=None, limit=2)
        assert ([each.number for each in found.moves], found.before) == ([3, 2], 2)
        narrowed = await at.service.moves(ADMIN, vm="/acme:web", host="a", still_open=True, before=None, limit=9)
        assert narrowed.moves == []

    run(tmp_path, play)


def test_what_makes_no_sense_is_refused_with_its_reason(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.COPIED
        await follow(at, await ask(at), "prepared")
        for vm, to, kind, why in (
            ("/acme:web", "c", ConflictError, "/acme:web is being moved to host b already: that is move 1"),
            ("/acme:app", "a", ConflictError, "/acme:app runs at host a already"),
            ("/acme:nobody", "b", NotFoundError, "there is no VM '/acme:nobody'"),
            ("/acme:app", "z", NotFoundError, "no host 'z' has joined"),
        ):
            with pytest.raises(kind, match=why):
                await ask(at, vm, to)
        a, _, c = at.hosts.values()
        c.taps.add("app")
        c.look()
        await at.until(
            lambda: at.made.shard.places([at.guests["app"].vnic]) != {"a"}, "c tells of it"
        ) if False else None
        await at.until(lambda: "c" in at.made.shard.places([_mac(at, "app")]), "c tells of it")  # type: ignore[union-attr]
        with pytest.raises(ConflictError, match="told of by hosts a and c at once"):
            await ask(at, "/acme:app")
        a.taps.discard("app")
        a.gates.discard("app")
        a.look()
        await at.until(lambda: at.made.shard.places([_mac(at, "app")]) == {"c"}, "c alone tells of it")  # type: ignore[union-attr]
        c.cut()
        await at.until(lambda: not at.settled("c"), "c is gone")
        with pytest.raises(ConflictError, match="host c, where /acme:app runs, is not connected"):
            await ask(at, "/acme:app")
        c.mend()
        await at.until(lambda: at.settled("c"), "c is back")
        c.taps.clear()
        c.look()
        await at.until(lambda: not at.made.shard.places([_mac(at, "app")]), "nobody tells of it")  # type: ignore[union-attr]
        with pytest.raises(ConflictError, match="no host tells that /acme:app runs there"):
            await ask(at, "/acme:app")
        at.held_at = None
        assert {each.detail["move"] for each in await records(at)} == {
            (await at.service.move(ADMIN, "1", seen=None, seconds=0)).id
        }

    run(tmp_path, play, None, "web", "app")


def _mac(at: Scene, name: str) -> Any:
    return at.guests[name].mac


def test_who_may_not_neither_moves_nor_sees(tmp_path: Path) -> None:
    def who(role: Role, scope: Scope) -> Caller:
        return Caller(name="eve", grants=(Grant(role, scope),))

    async def play(at: Scene) -> None:
        made = await ask(at)
        for caller in (
            who(Role.OPERATOR, Scope("/acme")),
            who(Role.SECURITY_ADMIN, Scope("/acme")),
            who(Role.VIEWER, ROOT),
        ):
            with pytest.raises(ForbiddenError, match="may not move in /"):
                await at.service.move_vm(caller, moveapi.MoveRequest(vm="/acme:web", to="c"))
            with pytest.raises(ForbiddenError, match="may not move in /"):
                await at.service.abort_move(caller, made.id, moveapi.AbortRequest())
        tenant = who(Role.SECURITY_ADMIN, Scope("/acme"))
        for asking in (
            at.service.moves(tenant, vm=None, host=None, still_open=False, before=None, limit=1),
            at.service.move(tenant, made.id, seen=None, seconds=0),
            at.service.move_proof(tenant, made.id, since=0),
        ):
            with pytest.raises(ForbiddenError, match="read-hosts"):
                await asking
        assert (await at.service.move(who(Role.VIEWER, ROOT), "1", seen=None, seconds=0)).id == made.id
        ended = await over(at, made)
        assert ended.state == "done"
        page = await at.service.audit(ADMIN, after=None, limit=100, scope=None, verb=None, by="eve")
        assert {(each.verb, each.outcome) for each in page.records} == {
            ("move", "refused"),
            ("abort a move", "refused"),
        }

    run(tmp_path, play)


def test_of_each_host_two_are_on_at_a_time(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.COPIED
        moves = [await ask(at, f"/acme:vm{n}") for n in range(4)]
        assert [each.state for each in moves] == ["planned", "planned", "waiting", "waiting"]
        assert moves[2].why == "others go first: host a takes part in 2 moves at a time"
        at.held_at = None
        ended = [await over(at, each) for each in moves]
        assert [each.state for each in ended] == ["done"] * 4
        order = sorted(ended, key=lambda each: each.receipt.ended if each.receipt else 0)
        assert {each.number for each in order[:2]} == {1, 2}

    run(tmp_path, play, None, "vm0", "vm1", "vm2", "vm3")


def test_rules_that_change_while_it_moves_reach_both_hosts(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.SWITCHED
        made = await ask(at)
        await follow(at, made, "copied")
        attested = (await at.service.move(ADMIN, "1", seen=None, seconds=0)).facts.digest
        await at.service.apply(ADMIN, api.ChangeRequest(files={"all.yaml": resources("web", port=443)}))
        await at.until(lambda: at.settled("a") and at.settled("b") and at.made.shard.compiled == 2, "both have it")  # type: ignore[union-attr]
        for name in "ab":
            assert at.hosts[name].holds("web")
        assert at.hosts["b"].ruleset.digest != attested  # type: ignore[union-attr]
        at.held_at = None
        ended = await over(at, made)
        assert ended.receipt
        assert (ended.state, ended.receipt.facts.digest) == ("done", attested)

    run(tmp_path, play)


@pytest.mark.parametrize("step", ["planned", "prepared", "copied"])
def test_an_abort_leaves_it_where_it_was(tmp_path: Path, step: str) -> None:
    async def play(at: Scene) -> None:
        at.held_at = STEPS[["planned", "prepared", "copied"].index(step)]
        made = await ask(at)
        await follow(at, made, step)
        aborted = await at.service.abort_move(ADMIN, "1", moveapi.AbortRequest(why="for the test"))
        assert aborted.state in {"aborting", "aborted"}
        ended = await over(at, aborted)
        assert ended.state == "aborted"
        assert "aborted it" in ended.why or "told to forget it" in ended.why
        assert ended.receipt
        assert ended.receipt.reached == step
        assert at.guests["web"].host is at.hosts["a"]
        assert at.hosts["a"].gates == {"web"}
        await at.until(lambda: at.hosts["a"].holds("web") and not at.hosts["b"].holds("web"), "rules go back")
        assert [each.verb for each in await records(at)] == ["move", "abort a move", "end a move"]
        with pytest.raises(ConflictError, match="move 1 is over: it was aborted"):
            await at.service.abort_move(ADMIN, "1", moveapi.AbortRequest())
        at.held_at = None
        assert (await over(at, await ask(at))).state == "done"  # nothing is left of it

    run(tmp_path, play)


@pytest.mark.parametrize("step", ["switched", "live", "carried"])
def test_from_the_switch_on_an_abort_is_refused(tmp_path: Path, step: str) -> None:
    async def play(at: Scene) -> None:
        at.held_at = STEPS[STEPS.index(Step(step)) + 1]
        made = await ask(at)
        await follow(at, made, step)
        with pytest.raises(ConflictError, match="cannot be aborted any more"):
            await at.service.abort_move(ADMIN, made.id, moveapi.AbortRequest())
        at.held_at = None
        assert (await over(at, made)).state == "done"

    run(tmp_path, play)


def test_a_destination_that_refuses_ends_it_with_its_reason(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.hosts["b"].refuses = "no port is free"
        ended = await over(at, await ask(at))
        assert (ended.state, ended.why) == ("aborted", "host b: no port is free")
        assert at.hosts["a"].gates == {"web"}
        assert not any(isinstance(each, remote.Depart) for each in at.hosts["a"].heard)

    run(tmp_path, play)


def test_a_source_that_fails_ends_it_with_its_reason(tmp_path: Path) -> None:
    async def play(at: Scene) -> None:
        at.held_at = Step.LIVE
        made = await ask(at)
        await follow(at, made, "switched")
        at.hosts["a"].fail("the migration job has failed: no route to host")
        ended = await over(at, made)
        assert (ended.state, ended.why) == ("aborted", "host a: the migration job has failed: no route to host")
        assert at.hosts["a"].gates == {"web"}

    run(tmp_path, play)
