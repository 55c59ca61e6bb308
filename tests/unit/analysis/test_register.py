"""Who is who: many at a time, and after changes as if it were read anew."""

from __future__ import annotations

import dataclasses
import itertools
from ipaddress import IPv4Address, ip_address

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.analysis.register import Register, endpoint_number
from serai.model.address import pack
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.tenancy import Mode, Scope

NETWORKS = [
    Network(name="front", scope=Scope(f"/{tenant}"), routing_domain=domain, subnets=())
    for tenant, domain in (("a", "one"), ("b", "one"), ("c", "three"))
]


def vm(name: str, network: int, address: int, *, labels: int = 0, cards: int = 1) -> VirtualMachine:
    net = NETWORKS[network]
    return VirtualMachine(
        name=name, scope=net.scope, labels={"app": f"x{labels}"}, mode=Mode.ENFORCE,
        vnics=tuple(
            Vnic(id=vnic_id(net.scope, name, f"nic{card}"), name=f"nic{card}", network=net, mac=Mac(f"52:54:00:00:{address:02x}:{card:02x}"), addresses=(IPv4Address(f"10.{card}.0.{address}"),))
            for card in range(cards)
        ),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, VirtualMachine]:
    found: dict[str, VirtualMachine] = {}
    for address in draw(st.sets(st.integers(1, 12))):
        made = vm(
            draw(st.sampled_from("pqrstu")),
            draw(st.integers(0, 2)),
            address,
            labels=draw(st.integers(0, 2)),
            cards=draw(st.integers(1, 2)),
        )
        found[made.path] = made
    return found


def check(register: Register, world: dict[str, VirtualMachine]) -> None:
    """Compare what a register finds with a plain look at everybody."""
    vnics = [vnic_id(net.scope, name, f"nic{card}") for net in NETWORKS for name in "pqrstu" for card in (0, 1)]
    asked = [(vnic, ip_address(f"10.{card}.0.{number}")) for vnic in vnics for card in (0, 1) for number in range(13)]
    found = register.find(
        np.array([vnic for vnic, _ in asked], "<u8"),
        np.frombuffer(b"".join(pack(a) for _, a in asked), "u1").reshape(-1, 16),
    )
    for at, (vnic, address) in enumerate(asked):
        near = next(((each, card) for each in world.values() for card in each.vnics if card.id == vnic), None)
        if near is None:
            assert (
                found.vm[at],
                found.peer[at],
                found.tenants[found.tenant[at]],
                found.networks[found.network[at]],
            ) == (0, 0, "", "")
            continue
        far = next(
            (
                each
                for each in world.values()
                for card in each.vnics
                if card.network.routing_domain == near[1].network.routing_domain and address in card.held
            ),
            None,
        )
        assert found.vm[at] == endpoint_number(near[0].path, near[0].labels)
        assert found.peer[at] == (endpoint_number(far.path, far.labels) if far else 0)
        assert found.tenants[found.tenant[at]] == near[0].scope.tenant
        assert found.networks[found.network[at]] == near[1].network.path
        assert found.abroad[at] == (far is not None and far.scope.tenant != near[0].scope.tenant)


@settings(max_examples=25, deadline=None)
@given(st.lists(worlds(), min_size=1, max_size=6))
def test_a_register_that_was_changed_is_like_one_made_anew(history: list[dict[str, VirtualMachine]]) -> None:
    register = Register.of(history[0])
    check(register, history[0])
    for before, after in itertools.pairwise(history):
        changes = {
            path: after.get(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        register = register.changed(after, changes)
        check(register, after)


def test_small_changes_are_laid_over_and_become_one_in_the_end() -> None:
    world = {each.path: each for each in (vm(f"v{number}", 0, number) for number in range(200))}
    register = Register.of(world)
    for turn in range(60):
        changed = vm(f"v{turn}", 0, turn, labels=turn + 1)
        world = world | {changed.path: changed}
        register = register.changed(world, {changed.path: changed})
    check(register, world)
    numbers = [endpoint_number(each.path, each.labels) for each in world.values()]
    assert {each.path for each in register.describe(numbers)} == world.keys()
    assert register.describe([7]) == []
    assert register.cards("/a:v3") == {vnic_id(Scope("/a"), "v3", "nic0"): "/a:v3/nic0"}
    assert register.cards("/a:nobody") == {}


def test_a_vm_with_other_labels_is_another_endpoint_of_the_same_name() -> None:
    one = vm("p", 0, 1)
    other = dataclasses.replace(one, labels={"app": "y"})
    register = Register.of({one.path: one})
    later = register.changed({one.path: other}, {one.path: other})
    ids = np.array([one.vnics[0].id], "<u8")
    nothing = np.zeros((1, 16), "u1")
    before, after = register.find(ids, nothing).vm[0], later.find(ids, nothing).vm[0]
    assert before != after
    assert [(each.path, each.labels) for each in later.describe([int(before), int(after)])] == [
        (one.path, one.labels),
        (one.path, other.labels),
    ]
