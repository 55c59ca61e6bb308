"""Selectors for given VMs: nobody is left out, and nobody else is picked who can be told apart by labels."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.model.inventory import VirtualMachine
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.traffic.roster import Roster, bits, mask_of
from serai.policy.traffic.selection import MOST_PARTS, Selection, Selector

ANYHOW = settings(max_examples=150, deadline=None)


def picked(selection: Selection, roster: Roster) -> int:
    """Whom the selector means, VM by VM."""
    return mask_of(
        number
        for number, vm in enumerate(roster.vms)
        if selection.scope.contains(vm.scope) and all(e.matches(vm.labels) for e in selection.expressions)
    )


def indistinct(wanted: int, roster: Roster) -> int:
    """The wanted, and all that no selector tells from one of them: same labels, in the same scope or below it."""
    chosen = [roster.vms[number] for number in bits(wanted)]
    return mask_of(
        number
        for number, vm in enumerate(roster.vms)
        if any(one.labels == vm.labels and one.scope.contains(vm.scope) for one in chosen)
    )


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_few_selectors_pick_just_the_wanted(world: World, choice: random.Random) -> None:
    roster = Roster(world)
    wanted = mask_of(number for number in range(len(roster.vms)) if choice.random() < 0.5)
    if not wanted:
        return
    parts = Selector(roster).cover(wanted)
    chosen = 0
    for part in parts:
        assert part.chosen == picked(part, roster)
        assert part.scope != "/"
        assert all(e.key in {key for vm in roster.vms for key in vm.labels} for e in part.expressions)
        chosen |= part.chosen
    assert wanted & ~chosen == 0
    assert len(parts) <= 2 * MOST_PARTS
    assert chosen == indistinct(wanted, roster)


def vms(*several: tuple[str, str, dict[str, str]]) -> World:
    made = (
        VirtualMachine(name=name, scope=Scope(scope), labels=labels, mode=Mode.ENFORCE, vnics=())
        for name, scope, labels in several
    )
    return World(vms={vm.path: vm for vm in made})


def written(world: World, *names: str) -> list[tuple[str, list[tuple[str, str, list[str]]]]]:
    roster = Roster(world)
    wanted = mask_of(number for number, vm in enumerate(roster.vms) if vm.name in names)
    return [
        (part.scope, [(e.key, e.operator.value, sorted(e.values)) for e in part.expressions])
        for part in Selector(roster).cover(wanted)
    ]


SHOP = vms(
    *((f"web-{n:02}", "/acme/shop", {"role": "web", "instance": f"web-{n:02}"}) for n in range(12)),
    ("db", "/acme/shop", {"role": "db", "instance": "db"}),
    ("jump", "/acme/tools", {"role": "jump"}),
    ("crm", "/globex/crm", {"role": "web"}),
)


def test_all_of_a_scope_need_no_labels() -> None:
    assert written(SHOP, "jump") == [("/acme/tools", [])]
    everybody = [vm.name for vm in SHOP.vms.values()]
    assert written(SHOP, *everybody) == [("/acme", []), ("/globex/crm", [])]


def test_what_vms_do_goes_before_who_they_are() -> None:
    webs = [f"web-{n:02}" for n in range(12)]
    assert written(SHOP, *webs) == [("/acme/shop", [("role", "In", ["web"])])]
    assert written(SHOP, "db") == [("/acme/shop", [("role", "In", ["db"])])]
    assert written(SHOP, "db", "jump") == [("/acme", [("role", "In", ["db", "jump"])])]


def test_who_they_are_where_that_alone_tells() -> None:
    assert written(SHOP, "web-03") == [("/acme/shop", [("instance", "In", ["web-03"])])]
    most = [f"web-{n:02}" for n in range(11)]
    assert written(SHOP, *most) == [("/acme/shop", [("role", "In", ["web"]), ("instance", "NotIn", ["web-11"])])]


def test_a_label_that_is_not_there_tells_too() -> None:
    world = vms(("a", "/acme", {"role": "web"}), ("b", "/acme", {"role": "web", "canary": "1"}), ("c", "/acme", {}))
    assert written(world, "a") == [("/acme", [("role", "In", ["web"]), ("canary", "DoesNotExist", [])])]
    assert written(world, "c") == [("/acme", [("role", "DoesNotExist", [])])]


def test_twins_are_picked_together() -> None:
    world = vms(("a", "/acme", {"role": "web"}), ("b", "/acme", {"role": "web"}), ("c", "/acme", {"role": "db"}))
    roster = Roster(world)
    [part] = Selector(roster).cover(mask_of([roster.number["/acme:a"]]))
    assert part.chosen.bit_count() == 2


def test_the_order_of_vms_is_nothing() -> None:
    turned = dataclasses.replace(SHOP, vms=dict(reversed(SHOP.vms.items())))
    assert written(turned, "db", "jump", "web-01") == written(SHOP, "db", "jump", "web-01")
