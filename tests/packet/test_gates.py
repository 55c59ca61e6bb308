"""All gates of a host: rulesets that do not fit, and what is kept for as long as a gate still needs it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cases import ACCEPT, CLOSED, MAC, OUT, PATH, PEER, V4, VM, policy
from conftest import NETWORK, SIZES, GateUnderTest, machine
from frames import ARP, BROADCAST, SYN, TCP, arp, ethernet, tcp
from namespaces import isolated, mount_bpf

from serai.datapath import testrun
from serai.datapath.gates import Gates
from serai.datapath.libbpf import KernelError
from serai.datapath.object import GateObject
from serai.model.inventory import AllowedAddress, Mac, PortSecurity, VirtualMachine
from serai.model.ruleset import HostRuleset
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

ROOM = 4
"""Addresses beside those in records; vNICs: one less."""
OPEN = (policy("all", OUT, (ACCEPT, None, ())),)
VRRP_MAC, OTHER_MAC = Mac("00:00:5e:00:01:07"), Mac("00:00:5e:00:01:08")


@pytest.fixture(scope="module")
def small() -> Iterator[GateObject]:
    sizes = {"addresses": ROOM, "meters": ROOM, "slots": ROOM, "flows": ROOM, "endpoints": 8}
    loaded = GateObject.load(None, sizes={**SIZES, **sizes})
    yield loaded
    loaded.close()


@pytest.fixture
def gate(small: GateObject) -> Iterator[GateUnderTest]:
    made = GateUnderTest(small)
    yield made
    made.clear()


def allowing(*prefixes: str, mac: Mac | None = None) -> VirtualMachine:
    entries = tuple(AllowedAddress(prefix=IPv4Network(prefix), mac=mac) for prefix in prefixes)
    return machine("vm", VM, role="vm", security=PortSecurity(allowed=entries))


def compiled(*vms: VirtualMachine) -> HostRuleset:
    world = World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=OPEN)
    return compile_host(world, "host", world.vms)


def others(count: int) -> list[VirtualMachine]:
    return [machine(f"vm{number}", f"10.0.0.{number}", role="vm") for number in range(10, 10 + count)]


def load(gate: GateUnderTest, ruleset: HostRuleset) -> None:
    gate.gates.prepare(ruleset)
    (vnic,) = (vnic for vnic in ruleset.vnics if vnic.path.startswith(f"{PATH}/"))
    gate.gates.bind({testrun.LOOPBACK: vnic})


def held(gate: GateUnderTest) -> dict[str, dict[bytes, bytes]]:
    """What is loaded, by map."""
    names = ("addresses", "macs", "slots", "endpoints", "prefixes", "lists", "pages")
    dumps = {name: gate.object.maps[name].dump() for name in names}
    return {
        name: {key.tobytes(): value.tobytes() for key, value in zip(keys, values, strict=True)}
        for name, (keys, values) in dumps.items()
    }


def speaks_as(gate: GateUnderTest, address: str, mac: str = MAC) -> bool:
    return gate.send(OUT, V4.out(TCP, tcp(1, 443, SYN), source=address, mac=mac)).passed


def test_what_a_gate_still_uses_is_kept(gate: GateUnderTest) -> None:
    before, after = compiled(allowing("10.9.0.0/16")), compiled(allowing("10.8.0.0/16"))
    load(gate, before)
    assert speaks_as(gate, "10.9.0.1")
    stranger = HostRuleset.whole(host="host", vnics=(), rules=after.rules, tables=after.tables)
    assert not gate.gates.discard_others(stranger), "the gate guards a vNIC that is not in it"
    assert speaks_as(gate, "10.9.0.1")
    closed = World(networks={NETWORK.path: NETWORK}, vms={PATH: allowing()}, policies=CLOSED)
    assert not gate.gates.discard_others(compile_host(closed, "host", [PATH])), "and judges by another ruleset"
    load(gate, after)
    assert gate.gates.discard_others(after)
    assert speaks_as(gate, "10.8.0.1")
    assert not speaks_as(gate, "10.9.0.1")


def test_what_nobody_uses_goes(gate: GateUnderTest) -> None:
    vms = others(2)
    load(gate, compiled(allowing("10.9.0.0/16", mac=OTHER_MAC), *vms))
    assert len(held(gate)["slots"]) == 3
    alone = compiled(allowing())
    load(gate, alone)
    assert gate.gates.discard_others(alone)
    found = held(gate)
    assert (len(found["slots"]), len(found["addresses"]), len(found["macs"])) == (1, 0, 0)
    assert [gate.flows.table(vm.vnics[0].id) for vm in vms] == [None, None]


def test_what_was_seen_of_a_vnic_goes_with_it(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing(), *others(1)))
    gate.send(OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER)))
    assert gate.gates.sightings.counts()["vnic"].tolist() == [allowing().vnics[0].id]
    gate.gates.unbind(testrun.LOOPBACK)
    left = compiled(*others(1))
    gate.gates.prepare(left)
    assert len(gate.gates.sightings.counts()) == 1
    assert gate.gates.discard_others(left)
    assert len(gate.gates.sightings.counts()) == 0


def test_too_many_vnics_change_nothing(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing("10.9.0.0/16")))
    before = held(gate)
    with pytest.raises(KernelError, match="too many"):
        gate.gates.prepare(compiled(allowing("10.8.0.0/16"), *others(5)))
    assert held(gate) == before
    assert speaks_as(gate, "10.9.0.1")


def test_addresses_of_a_ruleset_that_does_not_fit_are_not_allowed(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing("10.9.0.0/16")))
    before = held(gate)
    many = [machine(f"peer{number}", f"10.0.0.{number}") for number in range(100, 110)]
    world = World(
        networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in (allowing("10.8.0.0/16"), *many)}, policies=OPEN
    )
    with pytest.raises(KernelError):
        gate.gates.prepare(compile_host(world, "host", [PATH]))
    assert held(gate) == before
    assert not speaks_as(gate, "10.8.0.1")
    assert speaks_as(gate, "10.9.0.1")


def test_macs_of_a_ruleset_that_does_not_fit_are_not_allowed(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing("10.9.0.0/16", mac=VRRP_MAC)))
    before = held(gate)
    many = [machine(f"peer{number}", f"10.0.0.{number}") for number in range(100, 110)]
    vms = (allowing("10.9.0.0/16", mac=OTHER_MAC), *many)
    world = World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=OPEN)
    with pytest.raises(KernelError):
        gate.gates.prepare(compile_host(world, "host", [PATH]))
    assert held(gate) == before
    assert speaks_as(gate, "10.9.0.1", VRRP_MAC)
    assert not speaks_as(gate, "10.9.0.1", OTHER_MAC)


def test_too_many_addresses_change_nothing(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing("10.9.0.0/16")))
    before = held(gate)
    with pytest.raises(KernelError):
        gate.gates.prepare(compiled(allowing("10.8.0.0/16", *(f"10.1.{number}.0/24" for number in range(8)))))
    assert held(gate) == before
    assert not speaks_as(gate, "10.8.0.1")


def test_a_mac_that_changes_is_in_force_from_the_switch_on(gate: GateUnderTest) -> None:
    load(gate, compiled(allowing("10.9.0.0/16")))
    following = compiled(allowing("10.9.0.0/16", mac=OTHER_MAC))
    gate.gates.prepare(following)
    assert speaks_as(gate, "10.9.0.1"), "nothing is judged by it yet"
    load(gate, following)
    assert speaks_as(gate, "10.9.0.1", OTHER_MAC)
    assert gate.gates.discard_others(following)
    assert not speaks_as(gate, "10.9.0.1")


@isolated
def test_other_sizes_than_those_of_pinned_maps_are_refused_in_words(tmp_path: Path) -> None:
    bpffs = mount_bpf(tmp_path / "bpf") / "serai"
    Gates.open(bpffs, sizes=SIZES).close()
    with pytest.raises(KernelError, match=r"denials was made for 1024 entries, and 2048 are asked for"):
        Gates.open(bpffs, sizes={**SIZES, "denials": 2048})
    Gates.open(bpffs, sizes=SIZES).close()
