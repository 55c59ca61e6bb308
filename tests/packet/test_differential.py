"""Three opinions on random policies and packets: the evaluator, the compiled tables, the kernel's gate."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import IPv4Address

from conftest import GateUnderTest
from frames import ICMP, IPV4, SYN, TCP, UDP, ethernet, icmp, ipv4, tcp, udp
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from worlds import PORTS, PROTOCOLS, REMOTES, worlds

from serai.datapath.object import GateObject
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action, Direction
from serai.model.reasons import Reason
from serai.model.ruleset import Step
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.evaluate import judge_side
from serai.policy.lookup import Lookup

ECHO = 8 << 8
STEPS = {Action.ACCEPT: Step.ACCEPT, Action.DENY: Step.DENY}


Question = tuple[VirtualMachine, Direction, IPv4Address, int, int]


def frame(question: Question, source: int) -> bytes:
    """A packet that opens the connection asked about."""
    vm, direction, remote, protocol, port = question
    body = {
        TCP: tcp(source, port, SYN), UDP: udp(source, port), ICMP: icmp(8, identifier=source),
    }.get(protocol, b"payload!")  # fmt: skip
    vnic = vm.vnics[0]
    mine, other = str(vnic.addresses[0]), str(remote)
    if direction is Direction.EGRESS:
        return ethernet(vnic.mac, "52:54:00:00:00:fe", IPV4, ipv4(mine, other, protocol, body))
    return ethernet("52:54:00:00:00:fe", vnic.mac, IPV4, ipv4(other, mine, protocol, body))


def questions(world: World) -> list[Question]:
    asked = []
    for vm in world.vms.values():
        for direction in Direction:
            for remote in REMOTES:
                if remote in vm.vnics[0].addresses:
                    continue
                for protocol in PROTOCOLS:
                    ports = PORTS if protocol in (TCP, UDP) else (ECHO,) if protocol == ICMP else (0,)
                    asked += [(vm, direction, remote, protocol, port) for port in ports]
    return asked


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_evaluator_and_tables_agree(world: World) -> None:
    ruleset = compile_host(world, "host", world.vms)
    lookup = Lookup(ruleset)
    guarded = {vnic.id: vnic for vnic in ruleset.vnics}
    for vm, direction, remote, protocol, port in questions(world):
        found = lookup.decide(guarded[vm.vnics[0].id], direction, remote, protocol, port)
        now, then = (
            judge_side(world, vm, vm.vnics[0], direction, remote, protocol, port, staged=staged)
            for staged in (False, True)
        )
        assert found is not None
        assert (found.step, found.rule) == (STEPS[now.action], now.ref.text)
        assert (found.staged_step, found.staged_rule) == (STEPS[then.action], then.ref.text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), st.randoms(use_true_random=False))
def test_evaluator_and_kernel_agree(loaded_gate: GateObject, world: World, choice: random.Random) -> None:
    gate = GateUnderTest(loaded_gate)
    try:
        asked = questions(world)
        for vm in choice.sample(sorted(world.vms.values(), key=lambda vm: vm.path), 2):
            gate.guard(world, vm.path)
            mine = [question for question in asked if question[0] is vm]
            for source, question in enumerate(choice.sample(mine, 12), start=1000):
                _, direction, remote, protocol, port = question
                decision = judge_side(world, vm, vm.vnics[0], direction, remote, protocol, port)
                staged = judge_side(world, vm, vm.vnics[0], direction, remote, protocol, port, staged=True)
                gate.forget_flows()
                fate = gate.send(direction, frame(question, source))
                accepted = decision.action is Action.ACCEPT
                event(f"{decision.action}")
                assert (fate.passed, fate.reason) == (accepted, Reason.NONE if accepted else Reason.DENIED)
                rows = gate.rows() if accepted else gate.denials()
                seen = {r.rule: r for r in rows if (r.direction, r.remote, r.protocol, r.port) == question[1:]}
                assert decision.ref.id in seen
                if accepted:
                    assert (seen[decision.ref.id].staged == "accepted") == (staged.action is Action.ACCEPT)
    finally:
        gate.clear()


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_order_of_arrival_is_nothing(world: World, choice: random.Random) -> None:
    def shuffled(items: list) -> list:
        return choice.sample(items, len(items))

    other = dataclasses.replace(
        world, vms=dict(shuffled(list(world.vms.items()))), policies=tuple(shuffled(list(world.policies)))
    )
    vms = sorted(world.vms)[:4]
    assert compile_host(world, "host", vms).encode() == compile_host(other, "host", shuffled(vms)).encode()


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_host_gets_no_more_than_its_vms_can_meet(world: World) -> None:
    acme = [path for path, vm in world.vms.items() if vm.scope.tenant == "acme"]
    alone = compile_host(world, "host", acme)
    globex = {path: vm for path, vm in world.vms.items() if path not in acme}
    without = dataclasses.replace(world, vms={p: vm for p, vm in world.vms.items() if p not in globex})
    assert alone.encode() == compile_host(without, "host", acme).encode()
