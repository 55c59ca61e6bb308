"""What plans are made of: whom it counts where, who takes nobody, who does not move; in tables, and against what judges VMs at the door."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from placed_worlds import placed_worlds
from planned_sites import FACTS, HOSTS, known, resources, state
from serai.controller.planning.config import PlanningSettings
from serai.controller.planning.drawing import draw
from serai.controller.planning.known import Known
from serai.controller.planning.survey import survey
from serai.controller.whereabouts import Sign
from serai.migration.placement import Placement
from serai.migration.plan.asked import Rebalance
from serai.model.inventory import Mac
from serai.model.placement import NO_NEEDS, NO_TAGS, KeepApart, Needs
from serai.model.world import World
from serai.store.records import HostState
from serai.wire.planapi import HostLoad, PlanReply, PlanRequest

_T = TypeVar("_T")
LEAVE = PlanRequest(evacuate=["a"])
WEST = "kind: Pool\nmetadata: {name: west}\nspec: {hosts: [a, b], profile: strict}"
APART = "kind: PlacementRule\nmetadata: {name: spread}\nspec: {keepApart: {scope: /acme}}"


def moves(reply: PlanReply) -> dict[str, str]:
    return {move.vm: move.to for each in reply.rounds for move in each}


def why(reply: PlanReply) -> list[str]:
    [stuck] = reply.stuck
    return stuck.why


def two(**what: Any) -> Known:
    """A VM that is to leave host a; of b and c, c is away unless something else is said."""
    what.setdefault("states", {"a": state("a"), "b": state("b"), "c": state("c", connected=False)})
    return known(resources({"web": "memory: 1000", "other": "memory: 3000"}), {"web": "a", "other": "b"}, **what)


def test_a_host_is_emptied_and_what_hosts_have_is_told() -> None:
    reply = draw(two(), LEAVE)
    assert moves(reply) == {"/acme:web": "b"}
    assert (reply.stuck, reply.proven, reply.revision, reply.goal) == ([], True, 7, LEAVE)
    a, b = reply.hosts
    assert (a.host, a.memory, a.headroom, a.before, a.after) == (
        "a", 9000, 1000, HostLoad(vms=1, memory=1000, vnics=1), HostLoad(vms=0, memory=0, vnics=0),
    )  # fmt: skip
    assert (b.host, b.before, b.after) == (
        "b", HostLoad(vms=1, memory=3000, vnics=1), HostLoad(vms=2, memory=4000, vnics=2),
    )  # fmt: skip


def with_b(**what: Any) -> dict[str, HostState]:
    return {"a": state("a"), "b": state("b", **what), "c": state("c", connected=False)}


STRANGER = Mac("52:54:00:99:99:99")
CLOSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "away": ({"states": with_b(connected=False)}, "it is not connected: see `serai status b`"),
    "never joined": ({"states": {"a": state("a"), "c": state("c", connected=False)}}, "it has not joined, or is revoked"),
    "refuses": ({"states": with_b(trouble="no room")}, "it refuses the rules that it is sent: no room"),
    "old agent": ({"states": with_b(agent="0.0.9")}, "its agent 0.0.9 is older than this controller (0.1.0)"),
    "never told": ({"facts": {"a": FACTS, "c": FACTS}}, "it has never told what it is made of"),
    "a stranger runs there": ({"signs": {"b": frozenset({STRANGER})}}, "it runs VMs that are not declared (MAC 52:54:00:99:99:99)"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CLOSED))
def test_a_host_that_nobody_knows_enough_of_takes_nobody(case: str) -> None:
    what, said = CLOSED[case]
    full = two()
    given = {**what, "signs": {**full.signs, **what.get("signs", {})}}
    reply = draw(two(**given), LEAVE)
    assert moves(reply) == {}
    assert said in " ".join(why(reply))
    assert "host b takes nobody" in " ".join(why(reply)) or "hosts b, c take nobody" in " ".join(why(reply))


ROOTED: Mapping[str, tuple[str, str, dict[str, Any], str]] = {
    "no memory": ("", "a", {}, "how much memory it needs is not declared"),
    "told twice": ("memory: 1000", "a b", {}, "hosts a and b tell of it at once"),
    "its host is away": ("memory: 1000", "a", {"states": {**{h: state(h) for h in "bc"}, "a": state("a", connected=False)}}, "host a, where it is, is not connected"),
    "expected where nobody hears": ("memory: 1000, host: a", "", {"states": {**{h: state(h) for h in "bc"}, "a": state("a", connected=False)}}, "host a, where it is, is not connected"),
    "it comes": ("memory: 1000", "b", {"moves": {"/acme:web": "a"}}, "it is being moved to a already"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(ROOTED))
def test_a_vm_that_does_not_move_says_why(case: str) -> None:
    spec, at, what, said = ROOTED[case]
    leave = PlanRequest(evacuate=["a", "b"]) if case == "told twice" else LEAVE
    reply = draw(known(resources({"web": spec}), {"web": at}, **what), leave)
    assert moves(reply) == {}
    [reason] = why(reply)
    assert said in reason


def test_a_vm_that_runs_nowhere_is_nobody() -> None:
    reply = draw(known(resources({"web": "memory: 1000, host: a"}), {}), LEAVE)
    assert (reply.rounds, reply.stuck) == ([], [])


def test_a_vm_on_its_way_counts_at_both_ends_and_leaves_the_host_by_itself() -> None:
    text = resources({"web": "memory: 6000", "big": "memory: 4000"})
    for where in ("a", "b", "a b"):
        amid = known(text, {"web": where, "big": "c"}, moves={"/acme:web": "b"})
        reply = draw(amid, PlanRequest(evacuate=["c"]))
        assert moves(reply) == ({"/acme:big": "a"} if where == "b" else {})
        if where != "b":
            assert why(reply)[0].startswith("hosts a, b: needs 4000 MiB of memory; no more than 3000 are free")
    leaves = draw(known(text, {"web": "a", "big": "c"}, moves={"/acme:web": "b"}), LEAVE)
    assert (leaves.rounds, leaves.stuck) == ([], [])
    [a] = [host for host in leaves.hosts if host.host == "a"]
    assert (a.before.memory, a.after.memory) == (6000, 0)


def test_a_host_with_a_vm_of_unknown_memory_takes_nobody_also_while_it_comes() -> None:
    text = resources({"web": "memory: 1000", "dark": ""})
    for where, going in (("b", {}), ("a", {"/acme:dark": "b"})):
        amid = known(text, {"web": "c", "dark": where}, moves=going)
        seen = survey(amid, PlanRequest(evacuate=["c"]))
        assert "the memory of /acme:dark is not declared" in seen.closed["b"]
        assert "b" in seen.blind
        assert seen.unknown["b"] == 1


def test_what_tags_networks_rules_and_pools_say_is_told_of_every_host() -> None:
    hosts = {"a": "tags: [pci]", "b": "tags: [pci]", "c": "", "d": "tags: [ssd]", "e": ""}
    more = [
        "kind: Pool\nmetadata: {name: west}\nspec: {hosts: [a, b, c, d]}",
        "kind: PlacementRule\nmetadata: {name: only-ssd}\nspec: {exclusive: ssd}", APART,
    ]  # fmt: skip
    text = resources(
        {"web": "memory: 1000, tags: [pci]", "other": "memory: 1000, tags: [pci]", "free": "memory: 1000"}, more, hosts
    )
    reply = draw(known(text, {"web": "a", "other": "b", "free": "a"}), LEAVE)
    assert moves(reply) == {"/acme:free": "c"}
    assert why(reply) == [
        "host b: kept apart by spread from /acme:other",
        "hosts c, d are without the tag pci",
        "host e is not in the pool west, where it runs: VMs move within one",
    ]
    nowhere = resources({"web": "plain|memory: 1000, tags: [pci]"}, more, hosts)
    assert why(draw(known(nowhere, {"web": "a"}), LEAVE)) == [
        "the network /acme:plain of its vNIC eth0 does not carry the tag pci: tag the network, or let the VM be without the tag"
    ]
    exclusive = resources({"web": "memory: 1000"}, more[1:2], {"a": "", "d": "tags: [ssd]"})
    assert why(draw(known(exclusive, {"web": "a"}), LEAVE)) == [
        "host d is only for VMs with the tag ssd (PlacementRule only-ssd)"
    ]
    every = draw(known(resources({"web": "memory: 1000"}), {"web": "a"}), PlanRequest(evacuate=[*HOSTS]))
    assert why(every) == ["the hosts that it may run on are all to become empty: a, b, c"]


def test_gates_keep_room_for_the_rules_of_vms_that_are_expected() -> None:
    seen = survey(known(resources({"web": "host: b"}), {}), LEAVE)
    assert seen.hosts["b"].vnics == seen.hosts["c"].vnics - 1


def test_a_pool_is_levelled_among_the_hosts_of_which_is_known_how_full_they_are() -> None:
    vms = {f"v{at}": "memory: 1000" for at in range(6)} | {"dark": ""}
    pool = "kind: Pool\nmetadata: {name: west}\nspec: {hosts: [a, b, c]}"
    where = {**{f"v{at}": "a" for at in range(6)}, "dark": "c"}
    request = PlanRequest(rebalance="west")
    base = known(resources(vms, [pool]), where)
    goal = survey(base, request).goal
    assert isinstance(goal, Rebalance)
    assert goal.hosts == {"a", "b"}
    reply = draw(base, request)
    assert set(moves(reply).values()) == {"b"}
    assert len(moves(reply)) == 3
    assert [(host.host, host.after.vms, host.unknown, bool(host.closed)) for host in reply.hosts] == [
        ("a", 3, 0, False), ("b", 3, 0, False), ("c", 1, 1, True),
    ]  # fmt: skip
    few = dataclasses.replace(base, settings=PlanningSettings(most_moves=1))
    assert len(moves(draw(few, request))) == 1
    alone = dataclasses.replace(base, states={"a": state("a"), "b": state("b", connected=False), "c": state("c")})
    assert draw(alone, request).rounds == []


def test_headroom_is_what_is_set() -> None:
    base = known(resources({"web": "memory: 9500"}), {"web": "a"})
    assert moves(draw(base, LEAVE)) == {}
    none = dataclasses.replace(base, settings=PlanningSettings(headroom=0))
    assert set(moves(draw(none, LEAVE))) == {"/acme:web"}


# Against what is asked at the door


@st.composite
def knowns(draw_: Callable[[st.SearchStrategy[_T]], _T]) -> tuple[Known, PlanRequest]:
    world = draw_(placed_worlds())
    hosts = ("a", "b", "c", "d", "undeclared")
    terms = world.placement
    needs = {
        path: Needs(
            tags=terms.vms.get(path, NO_NEEDS).tags if draw_(st.integers(0, 2)) == 0 else NO_TAGS,
            memory=draw_(st.integers(1, 3)) if draw_(st.integers(0, 19)) else None,
        )
        for path in world.vms
    }
    pools = terms.pools if draw_(st.booleans()) else {}
    rules = (
        terms.rules
        if draw_(st.booleans())
        else {name: each for name, each in terms.rules.items() if isinstance(each, KeepApart)}
    )
    world = dataclasses.replace(world, placement=dataclasses.replace(terms, vms=needs, pools=pools, rules=rules))
    signs: dict[str, set[Sign]] = {host: set() for host in hosts}
    places = st.sampled_from((*("a",) * 8, *("b",) * 3, "c", "d", "undeclared", "ab", ""))
    for vm in world.vms.values():
        at = draw_(places)
        for host in [at] if at in hosts else [*at]:
            signs[host].update(vnic.id for vnic in vm.vnics)  # all of them have one MAC
    about = Known(
        world=world, revision=1, settings=PlanningSettings(headroom=0, most_moves=5), version="0.1.0",
        states={host: state(host, connected=draw_(st.integers(0, 19)) > 0) for host in hosts},
        signs={host: frozenset(some) for host, some in signs.items()},
        facts={host: msgspec.structs.replace(FACTS, memory=draw_(st.integers(3, 8))) for host in hosts},
        moves={path: draw_(st.sampled_from(hosts)) for path in world.vms if draw_(st.integers(0, 9)) == 0},
    )  # fmt: skip
    if pools and draw_(st.integers(0, 3)) == 0:
        return about, PlanRequest(rebalance=draw_(st.sampled_from(("east", "west"))))
    leave = draw_(st.sampled_from((*("a",) * 6, "b", "ab", "ac", "cd")))
    return about, PlanRequest(evacuate=[*leave])


def reported(about: Known, world: World) -> dict[str, list[str]]:
    """Where VMs are reported, looked for one by one."""
    found = {
        path: [host for host, signs in sorted(about.signs.items()) if any(vnic.id in signs for vnic in vm.vnics)]
        for path, vm in world.vms.items()
    }
    return {path: hosts for path, hosts in found.items() if hosts}


@settings(max_examples=120, deadline=None)
@given(knowns())
def test_nothing_is_planned_that_would_be_refused_at_the_door(case: tuple[Known, PlanRequest]) -> None:
    about, request = case
    world, reply = about.world, draw(about, request)
    placement, places = Placement.of(world), reported(about, world)
    running = {path: max(hosts) for path, hosts in places.items()}
    spots = {path: {*hosts, *({about.moves[path]} if path in about.moves else ())} for path, hosts in places.items()}
    memory = {path: needs.memory for path, needs in world.placement.vms.items()}
    for each in reply.rounds:
        together = {move.vm: move.to for move in each}
        for move in each:
            spots[move.vm].add(move.to)
        for move in each:
            assert running[move.vm] == move.source
            assert move.vm not in about.moves
            assert len(places[move.vm]) == 1
            going = {path: to for path, to in {**about.moves, **together}.items() if path != move.vm}
            assert placement.blocks(move.vm, move.to, running, going) == ()
            assert about.states[move.to].connected
            needed = [memory[path] for path in spots if move.to in spots[path]]
            assert None not in needed
            assert sum(filter(None, needed)) <= about.facts[move.to].memory
        for move in each:
            running[move.vm], spots[move.vm] = move.to, {move.to}
    stay = {path for path in running if about.moves.get(path, running[path]) in request.evacuate}
    assert {each.vm for each in reply.stuck} == stay
    assert all(each.why and all(each.why) for each in reply.stuck)
    event(f"{min(sum(map(len, reply.rounds)), 3)} moves, {min(len(reply.stuck), 2)} stuck")
