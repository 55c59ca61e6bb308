"""Agents without a kernel: they hold what real ones would, and little memory."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from serai.agent.refused import RefusedError
from serai.lab.simulated import Pool, SimulatedHost
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, VnicId, vnic_id
from serai.model.policy import Action, Direction
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.wire.remote import Sight

SCOPE = Scope("/acme/shop")
NETWORK = Network(
    name="front", scope=Scope("/acme"), routing_domain="acme", subnets=(IPv4Network("10.0.0.0/24"),)
)  # fmt: skip


def vm(number: int, host: str) -> VirtualMachine:
    vnic = Vnic(
        id=vnic_id(SCOPE, f"vm{number}", "eth0"), name="eth0", network=NETWORK, mac=mac(number),
        addresses=(IPv4Address("10.0.0.0") + number,),
    )  # fmt: skip
    return VirtualMachine(name=f"vm{number}", scope=SCOPE, labels={}, mode=Mode.ENFORCE, vnics=(vnic,), host=host)


def mac(number: int) -> Mac:
    return Mac(f"52:54:00:00:00:{number:02x}")


def compiled(host: str, *numbers: int, last_word: Action = Action.DENY) -> HostRuleset:
    vms = {machine.path: machine for machine in (vm(number, "a" if number < 10 else "b") for number in range(1, 20))}
    world = World(
        networks={NETWORK.path: NETWORK}, vms=vms, last_word=dict.fromkeys(Direction, last_word)
    )  # fmt: skip
    return compile_host(world, host, [vm(number, host).path for number in numbers])


def guests(*numbers: int) -> dict[VnicId, Mac]:
    return {vm(number, "a").vnics[0].id: mac(number) for number in numbers}


def test_it_holds_what_it_is_sent_and_binds_its_guests() -> None:
    host = SimulatedHost("a", guests(1, 2), Pool())
    first = compiled("a", 1, 2)
    assert host.enforce(first.encode()) == bytes.fromhex(first.digest) == host.held()[0]
    assert {vnic.path for vnic in host.bindings().values() if vnic} == {f"/acme/shop:vm{n}/eth0" for n in (1, 2)}
    assert host.sight() == Sight(macs=[mac(1), mac(2)], vnics=sorted(guests(1, 2)))
    second = compiled("a", 1, 2, 3)
    assert host.change(Delta.between(first, second).encode()).hex() == second.digest
    assert host.ruleset is not None
    assert host.ruleset.encode() == second.encode()
    (third,) = guests(3)
    host.start(third, mac(3))
    assert host.bindings()[mac(3)] is not None
    host.stop(third)
    assert mac(3) not in host.bindings()
    assert host.applied == 2


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    host = SimulatedHost("a", guests(1), Pool())
    first, second = compiled("a", 1), compiled("a", 1, 2)
    delta = Delta.between(first, second).encode()
    with pytest.raises(RefusedError, match="there is none yet"):
        host.change(delta)
    host.enforce(first.encode())
    for refused, why in (
        (lambda: host.enforce(compiled("b", 11).encode()), "for host b"),
        (lambda: host.enforce(b"x"), "not a ruleset"),
        (lambda: host.change(b"x"), "not a change"),
        (lambda: host.change(Delta.between(second, first).encode()), "this change is for"),
    ):
        with pytest.raises(RefusedError, match=why):
            refused()
        assert host.held()[0] == bytes.fromhex(first.digest)
    assert host.applied == 1


def test_equal_parts_are_kept_once() -> None:
    pool = Pool()
    hosts = [SimulatedHost("a", guests(1), pool) for _ in range(3)]
    for host in hosts:
        host.enforce(compiled("a", 1).encode())
    parts = [host.ruleset.parts for host in hosts if host.ruleset]
    assert len(pool) == len(parts[0])
    assert all(parts[0][digest] is parts[2][digest] for digest in parts[0])
    assert {"tables", "_read"}.isdisjoint(vars(hosts[0].ruleset)), "what a host would have for itself is not kept"
    read = [host.ruleset.known.parts for host in hosts if host.ruleset and host.ruleset.known]
    assert len(read) == 3
    assert all(read[0][digest] is read[2][digest] for digest in read[0])  # nothing else that was read is kept
    hosts[0].enforce(compiled("a", 1, last_word=Action.ACCEPT).encode())
    before = len(pool)
    for host in hosts[1:]:
        host.enforce(compiled("a", 1, last_word=Action.ACCEPT).encode())
    pool.keep_only(host.ruleset for host in hosts if host.ruleset)
    assert len(pool) == len(parts[0]) < before
