"""Random tenancies and histories are what they are meant to be: sound worlds, shapes that recur, updates that fit."""

from __future__ import annotations

import collections
import random

import pytest
from histories import KINDS, History, histories
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from questions import seeds
from renaming import Renaming
from resources import written
from tenants import HOSTS, tenants
from updates import ROOT, Update, apply, commute, placement, scopes_of, split
from worlds import worlds

from serai.model.decode import decode
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.compiler.spell import SpelledPolicy

SOUND = settings(max_examples=60, deadline=None)
OFTEN = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
EITHER = st.one_of(histories(), histories(worlds()))


def read_back(world: World) -> World:
    return decode(written(world))


# What is drawn can be written down: it is a world that files can describe


@SOUND
@given(worlds())
def test_worlds_are_what_files_can_say(world: World) -> None:
    assert read_back(world) == world


@SOUND
@given(tenants())
def test_tenancies_are_what_files_can_say(world: World) -> None:
    assert read_back(world) == world


@SOUND
@given(EITHER)
def test_every_update_leaves_a_world_that_files_can_say(history: History) -> None:
    for world in history.worlds:
        assert read_back(world) == world


# Tenancies


def shape_of(world: World, tenant: str) -> frozenset[str]:
    """The text of a tenant's policies with its own names in general terms; prefixes and ports stay."""
    scopes = [scope for scope in scopes_of(world) if scope.tenant == tenant]
    general = {scope: f"/t/{at}" if at else "/t" for at, scope in enumerate(scopes)}
    renaming = Renaming(scopes=general)
    return frozenset(SpelledPolicy(renaming.policy(p)).text for p in world.policies if p.scope.tenant == tenant)


def test_most_tenants_have_the_shape_of_another_and_some_do_not() -> None:
    seen: collections.Counter[str] = collections.Counter()

    @OFTEN
    @given(tenants())
    def look(world: World) -> None:
        names = sorted({vm.scope.tenant for vm in world.vms.values()})
        counts = [len([p for p in world.policies if p.scope.tenant == name]) for name in names]
        shapes = collections.Counter(shape_of(world, name) for name in names)
        seen["worlds"] += 1
        seen[f"{len(names)} tenants"] += 1
        seen["exactly the same but for names"] += max(shapes.values()) > 1
        seen["not exactly the same"] += len(shapes) > 1
        seen["as many policies each"] += len(set(counts)) == 1
        seen["one more or less"] += len(set(counts)) > 1
        seen["policies of the provider"] += any(p.scope == ROOT for p in world.policies)
        domains = collections.defaultdict(set)
        for vm, vnic in world.vnics():
            domains[vnic.network.routing_domain].add(vm.scope.tenant)
        seen["several tenants on the shared network"] += len(domains["provider"]) > 1
        subnets = collections.Counter(n.subnets[0] for n in world.networks.values())
        seen["one subnet of two tenants"] += max(subnets.values()) > 1

    look()
    drawn = seen.pop("worlds")
    expected = {f"{count} tenants": 0.02 for count in range(2, 7)} | {
        "exactly the same but for names": 0.2, "not exactly the same": 0.3, "as many policies each": 0.3,
        "one more or less": 0.1, "policies of the provider": 0.4, "several tenants on the shared network": 0.2,
        "one subnet of two tenants": 0.3,
    }  # fmt: skip
    assert not {what: seen[what] / drawn for what, least in expected.items() if seen[what] < least * drawn}, seen


# Histories


def test_every_kind_of_update_comes_up_and_changes_something() -> None:
    changed: collections.Counter[str] = collections.Counter()
    about: collections.Counter[str] = collections.Counter()

    @OFTEN
    @given(histories())
    def look(history: History) -> None:
        for before, after, update in zip(history.worlds, history.worlds[1:], history.updates, strict=False):
            changed[update.kind] += before != after
            if update.subject[0] == "policy":
                about["provider" if update.about.startswith("/:") else "tenant"] += before != after
            about[update.about] += before != after

    look()
    assert not {kind: changed[kind] for kind in KINDS if changed[kind] < 3}, changed
    assert all(about[what] >= 3 for what in ("provider", "tenant")), about


@SOUND
@given(EITHER, seeds)
def test_updates_that_have_nothing_in_common_come_in_any_order(history: History, seed: int) -> None:
    choice, order = random.Random(seed), list(history.updates)
    for _ in range(4 * len(order)):
        at = choice.randrange(len(order))
        if at + 1 < len(order) and commute(order[at], order[at + 1]):
            order[at], order[at + 1] = order[at + 1], order[at]
    event("in another order" if order != list(history.updates) else "in the same order")
    assert apply(history.world, order) == history.last


@SOUND
@given(EITHER)
def test_a_history_in_smaller_steps_ends_alike(history: History) -> None:
    steps = split(history.updates)
    event(f"{len(steps) - len(history.updates)} steps more")
    assert apply(history.world, steps) == history.last


@SOUND
@given(EITHER)
def test_everything_happens_once_when_it_happens_twice(history: History) -> None:
    """What is put there is put there: the second time changes nothing."""
    for before, update in zip(history.worlds, history.updates, strict=False):
        once = update(before)
        assert update(once) == once


@SOUND
@given(EITHER)
def test_every_vm_is_placed_on_one_host(history: History) -> None:
    for world in history.worlds:
        places = placement(world)
        assert sorted(path for paths in places.values() for path in paths) == sorted(world.vms)
        assert set(places) == set(HOSTS)


def test_updates_about_one_thing_do_not_commute() -> None:
    def about(kind: str, what: str) -> Update:
        return Update(kind, what, lambda world: world)

    vm, other = about("relabel VM", "/acme/shop:web"), about("move VM", "/globex:web")
    assert commute(vm, other)
    assert not commute(vm, about("remove VM", "/acme/shop:web"))
    gone = about("remove tenant", "acme")
    assert not commute(gone, vm)
    assert commute(gone, other)
    assert not commute(gone, about("edit policy", "/:rules")), "it may speak of the tenant"
    assert not commute(gone, about("add tenant", "globex")), "one may be made like the other"
    assert commute(gone, about("change quarantine", "site"))


@pytest.mark.parametrize("path", ["/acme/shop:web", "/:rules"])
def test_a_policy_keeps_its_path_where_only_others_are_renamed(path: str) -> None:
    renaming = Renaming(scopes={Scope("/globex"): "/north"})
    assert renaming.path(path) == path
