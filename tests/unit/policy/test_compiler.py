"""However it came about: what the compiler keeps is what compiling everything anew gives, byte for byte."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections.abc import Mapping

from histories import History, histories
from hypothesis import event, given, settings
from hypothesis import strategies as st
from questions import questions, seeds
from tenants import HOSTS
from updates import commute, split
from worlds import worlds

from serai.model.columns import Columns
from serai.model.policy import Action
from serai.model.records import Step
from serai.model.ruleset_delta import Delta
from serai.model.tenancy import Mode
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.fit import ROOM, FitError
from serai.policy.evaluate import judge_side
from serai.policy.lookup import Lookup


def placed(world: World, choice: random.Random) -> dict[str, tuple[str, ...]]:
    """Places for all VMs: some run nowhere, some are on their way."""
    return {path: tuple(choice.sample(HOSTS, choice.choice((0, 1, 1, 2)))) for path in sorted(world.vms)}


def declared(world: World) -> dict[str, tuple[str, ...]]:
    return {path: (vm.host,) if vm.host else () for path, vm in world.vms.items()}


def compiler_of(world: World, places: Mapping[str, tuple[str, ...]]) -> Compiler:
    columns = Columns.of(world.vms.values())
    return Compiler.of(world.policies, columns, places, last_word=world.last_word, quarantine=world.quarantine)


def change(old: World, new: World) -> Update:
    """The way from one world to another, VMs and all."""
    gone = dict.fromkeys(old.vms.keys() - new.vms.keys(), ())
    return Update.between(old, new).then(Update(places={**gone, **declared(new)}))


def require_as_new(compiler: Compiler, world: World, places: Mapping[str, tuple[str, ...]]) -> None:
    for host in HOSTS:
        mine = [path for path, hosts in places.items() if host in hosts and path in world.vms]
        assert compiler.ruleset(host).encode() == compile_host(world, host, mine).encode()


@settings(max_examples=40, deadline=None)
@given(st.lists(worlds(), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_one_world_after_another(several: list[World], choice: random.Random) -> None:
    world = several[0]
    places = placed(world, choice)
    compiler = compiler_of(world, places)
    require_as_new(compiler, world, places)
    for following in several[1:]:
        held = {host: compiler.ruleset(host) for host in HOSTS}
        moved = placed(following, choice)
        gone = dict.fromkeys(places.keys() - moved.keys(), ())
        deltas = compiler.update(Update.between(world, following).then(Update(places=moved | gone)))
        world, places = following, moved
        require_as_new(compiler, world, places)
        for host in HOSTS:
            if host in deltas:
                delta = Delta.decode(deltas[host].encode())
                assert delta.apply(held[host]).encode() == compiler.ruleset(host).encode()
            else:
                assert held[host].digest == compiler.ruleset(host).digest


@settings(max_examples=60, deadline=None)
@given(histories())
def test_step_by_step(history: History) -> None:
    compiler = compiler_of(history.world, declared(history.world))
    for before, after in itertools.pairwise(history.worlds):
        compiler.update(change(before, after))
        require_as_new(compiler, after, declared(after))


@settings(max_examples=40, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_whatever_way_it_comes(history: History, choice: random.Random) -> None:
    """Split, with neighbours that have nothing to do with each other swapped, squashed here and there, and some said twice."""
    steps = list(split(history.updates))
    for at in range(len(steps) - 1):
        if commute(steps[at], steps[at + 1]) and choice.random() < 0.5:
            steps[at : at + 2] = reversed(steps[at : at + 2])
    worlds_on_the_way = History(history.world, tuple(steps)).worlds
    compiler = compiler_of(history.world, declared(history.world))
    pending, now = Update(), history.world
    for world in worlds_on_the_way[1:]:
        pending, now = pending.then(change(now, world)), world
        if choice.random() < 0.5:
            compiler.update(pending)
            assert compiler.update(pending) == {}, "what is so already changes nothing"
            pending = Update()
    compiler.update(pending)
    require_as_new(compiler, now, declared(now))


@settings(max_examples=40, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_an_update_that_does_not_fit_changes_nothing(history: History, choice: random.Random) -> None:
    """And says which rules cost most; what comes later is compiled as if it had never been tried."""
    places = declared(history.world)
    compiler = compiler_of(history.world, places)
    held = {host: compiler.ruleset(host).encode() for host in HOSTS}
    table = choice.choice(("endpoints", "prefixes", "lists", "pages", "vnics"))
    compiler._room = {**ROOM, table: 0}
    try:
        compiler.update(change(history.world, history.last))
    except FitError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert re.search(rf"^host \w+ would have to hold up to \d+ {table}, and has room for 0: ", refusal)
        assert {host: compiler.ruleset(host).encode() for host in HOSTS} == held
        event(f"{table} did not fit")
        compiler._room = ROOM
        compiler.update(change(history.world, history.last))
    require_as_new(compiler, history.last, declared(history.last))


@settings(max_examples=60, deadline=None)
@given(histories(), seeds)
def test_while_gates_switch_old_ones_know_everybody(history: History, seed: int) -> None:
    """Endpoints change in place, before gates switch: until then an old gate must find whoever is somebody else by now.

    What it decides then is what the VM as it was would decide about the others as they are.
    """
    compiler = compiler_of(history.world, declared(history.world))
    for before, after in itertools.pairwise(history.worlds):
        held = {host: compiler.ruleset(host) for host in HOSTS}
        for host, delta in compiler.update(change(before, after)).items():
            bridge = delta.bridged(held[host], delta.apply(held[host]))
            lookup = Lookup(bridge)
            views = {int(view) for view in bridge.tables["endpoints"]["view"]}
            lasting = {vnic.id: vnic for vnic in held[host].vnics if vnic.view in views}
            for question in questions(before, seed, 40, lambda q, lasting=lasting: q.vnic.id in lasting):
                # Who leaves quarantine is held to it until its gate switches, whatever has become of others.
                if question.vm.path not in after.vms or question.vm.mode is Mode.ISOLATE:
                    continue
                hybrid = dataclasses.replace(after, vms={**after.vms, question.vm.path: question.vm})
                said = judge_side(hybrid, question.vm, question.vnic, *question.asked)
                found = lookup.decide(lasting[question.vnic.id], *question.asked)
                assert found
                assert (found.step == Step.ACCEPT, found.rule) == (said.action is Action.ACCEPT, said.ref.text)
                changed = question.vm != after.vms[question.vm.path]
                event("of a VM that changes" if changed else "of one that stays")
