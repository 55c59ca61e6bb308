"""The third opinion on random policies and packets: the kernel's gate, against the evaluator.

The compiled tables are the second: tests/unit/policy/test_agreement.py.
"""

from __future__ import annotations

import random
import struct
from ipaddress import IPv6Address

from conftest import GateUnderTest
from frames import IPV4, IPV6, SYN, ethernet, icmp, ipv4, tcp, udp
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from worlds import ICMP, ICMPV6, SCTP, TCP, UDP, Question, questions, worlds

from serai.datapath.object import GateObject
from serai.model.address import Address
from serai.model.policy import Action, Direction
from serai.model.reasons import Reason
from serai.model.world import World
from serai.policy.evaluate import judge_side

NEIGHBOUR = "52:54:00:00:00:fe"
INIT = 1
"""The SCTP chunk that opens an association (RFC 9260, 3.3.2)."""


def body(protocol: int, source: int, port: int) -> bytes:
    """A payload that opens a connection."""
    if protocol == SCTP:
        chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, 1, 65536, 1, 1, 1)
        return struct.pack("!HHII", source, port, 0, 0) + chunk
    known = {
        TCP: tcp(source, port, SYN), UDP: udp(source, port), ICMP: icmp(8, identifier=source),
        ICMPV6: icmp(128, identifier=source),
    }  # fmt: skip
    return known.get(protocol, b"payload!")


def packet(source: Address, target: Address, protocol: int, payload: bytes) -> tuple[int, bytes]:
    """Ethertype and packet, of the version that the addresses have."""
    if isinstance(source, IPv6Address):
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return IPV6, head + source.packed + target.packed + payload
    return IPV4, ipv4(str(source), str(target), protocol, payload)


def frame(question: Question, source: int) -> bytes:
    """A packet that opens the connection asked about."""
    vnic = question.vm.vnics[0]
    mine = mine_facing(question)
    assert mine
    payload = body(question.protocol, source, question.port)
    if question.direction is Direction.EGRESS:
        return ethernet(vnic.mac, NEIGHBOUR, *packet(mine, question.remote, question.protocol, payload))
    return ethernet(NEIGHBOUR, vnic.mac, *packet(question.remote, mine, question.protocol, payload))


def mine_facing(question: Question) -> Address | None:
    """The address that the VM uses towards the remote end; None where it has none of its version."""
    return next((a for a in question.vm.vnics[0].held if a.version == question.remote.version), None)


def carried(question: Question) -> bool:
    """Can there be such a packet, and is it policy's business?"""
    of_the_other_version = {4: ICMPV6, 6: ICMP}[question.remote.version]
    return mine_facing(question) is not None and question.protocol != of_the_other_version


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), st.randoms(use_true_random=False))
def test_evaluator_and_kernel_agree(loaded_gate: GateObject, world: World, choice: random.Random) -> None:
    gate = GateUnderTest(loaded_gate)
    try:
        asked = list(filter(carried, questions(world)))
        for vm in choice.sample(sorted(world.vms.values(), key=lambda vm: vm.path), 2):
            gate.guard(world, vm.path)
            mine = [question for question in asked if question.vm is vm]
            for source, question in enumerate(choice.sample(mine, 12), start=1000):
                decision, staged = (
                    judge_side(world, vm, vm.vnics[0], *question.asked, staged=staged) for staged in (False, True)
                )
                gate.forget_flows()
                fate = gate.send(question.direction, frame(question, source))
                accepted = decision.action is Action.ACCEPT
                event(f"{decision.action} IPv{question.remote.version} {vm.mode}")
                assert (fate.passed, fate.reason) == (accepted, Reason.NONE if accepted else Reason.DENIED)
                rows = gate.rows() if accepted else gate.denials()
                seen = {r.rule: r for r in rows if (r.direction, r.remote, r.protocol, r.port) == question.asked}
                assert decision.ref.id in seen
                if accepted:
                    assert (seen[decision.ref.id].staged == "accepted") == (staged.action is Action.ACCEPT)
    finally:
        gate.clear()
