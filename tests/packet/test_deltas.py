"""A change of a ruleset goes into the kernel record by record, and packets are judged all the while.

After every single record packets ask every question again: at each moment each gate answers as before, or as after. The case is
made so that a mixture would show: a rule goes from one port to another, and at the same time its peers become others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from ipaddress import ip_network

import numpy as np
import pytest
from cases import ACCEPT, IN, MAC, OUT, PEER, PEER_MAC, V4, VM, policy, port, role
from conftest import NETWORK, GateUnderTest, machine
from frames import SYN, TCP, tcp
from namespaces import Tap, isolated

from serai.datapath import testrun
from serai.datapath.maps import Array, Map
from serai.model.columns import Columns
from serai.model.policy import Direction, InCidr, Policy
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.datacenter import Compiler

pytestmark = pytest.mark.kernel

OLD_PORT, NEW_PORT = 1, 2
OTHER_PEER, OTHER_VM, OTHER_VM_MAC = "10.0.0.3", "10.0.0.5", "52:54:00:00:00:05"
OLD_USER, NEW_USER = "198.51.100.9", "203.0.113.9"
REMOTES, PORTS = (PEER, OTHER_PEER, OLD_USER, NEW_USER, "192.0.2.1"), (OLD_PORT, NEW_PORT, 3)

Question = tuple[str, Direction, str, int]
"""Which VM, in which direction, with whom, to which port."""
Verdicts = Mapping[Question, bool]
VMS = {VM: MAC, OTHER_VM: OTHER_VM_MAC}
QUESTIONS: tuple[Question, ...] = tuple(itertools.product(VMS, (IN, OUT), REMOTES, PORTS))


def world(*, number: int, users: str, peers: str) -> World:
    """Peers and users may talk with the VMs on one port, both ways; the address of the one that has the role is ``peers``."""
    vms = [
        machine("vm", VM, role="vm"), machine("other", OTHER_VM, role="vm"),
        *(machine(f"p{at}", a, role="peer" if a == peers else "none") for at, a in enumerate((PEER, OTHER_PEER))),
    ]  # fmt: skip
    where = (port(TCP, number),)
    policies: tuple[Policy, ...] = tuple(
        policy(name, side, (ACCEPT, role("peer"), where), (ACCEPT, InCidr(prefix=ip_network(users)), where))
        for name, side in (("in", IN), ("out", OUT))
    )
    return World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=policies)


BEFORE = world(number=OLD_PORT, users="198.51.100.0/24", peers=PEER)
AFTER = world(number=NEW_PORT, users="203.0.113.0/24", peers=OTHER_PEER)
RELABELLED = world(number=OLD_PORT, users="198.51.100.0/24", peers=OTHER_PEER)
GONE = dataclasses.replace(BEFORE, vms={path: vm for path, vm in BEFORE.vms.items() if vm.name != "p0"})


def expected(number: int, *remotes: str) -> Verdicts:
    return {(vm, side, remote, at): at == number and remote in remotes for vm, side, remote, at in QUESTIONS}


class Watched:
    """Two gates, asked everything after each record that is written or removed."""

    def __init__(self, gate: GateUnderTest, other: Tap, *, flows_last: bool) -> None:
        self.gate, self._flows_last = gate, flows_last
        self.taps = {VM: testrun.LOOPBACK, OTHER_VM: other.ifindex}
        self.seen: list[Verdicts] = []
        self._asking = False

    def bindings(self, ruleset: HostRuleset) -> dict[int, GuardedVnic]:
        return {self.taps[str(vnic.addresses[0])]: vnic for vnic in ruleset.vnics}

    def ask(self) -> Verdicts:
        """Ask all questions; with ``flows_last`` what was accepted is a connection from then on, else each is a new one."""
        verdicts = {}
        for vm, side, remote, number in QUESTIONS:
            macs = {IN: (PEER_MAC, VMS[vm]), OUT: (VMS[vm], PEER_MAC)}[side]
            ends = {IN: (remote, vm), OUT: (vm, remote)}[side]
            packet = V4.packet(*ends, TCP, tcp(1000, number, SYN))
            frame = V4.frame(packet, source=macs[0], target=macs[1])
            verdicts[vm, side, remote, number] = self.gate.send(side, frame, ifindex=self.taps[vm]).passed
        if not self._flows_last:
            self.gate.forget_flows()
        return verdicts

    def look(self) -> None:
        if not self._asking:
            self._asking = True
            self.seen.append(self.ask())
            self._asking = False


def one_by_one(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every map be written in single steps, and look after each of them."""
    update, delete = Map.update, Map.delete

    def updating(self: Map, keys: Array, values: Array) -> None:
        if not len(keys):
            return
        rows = np.ascontiguousarray(values).reshape(len(keys), -1)
        for at in range(len(keys)):
            update(self, keys[at : at + 1], rows[at : at + 1])
            watched.look()

    def deleting(self: Map, keys: Array) -> None:
        for at in range(len(keys)):
            delete(self, keys[at : at + 1])
            watched.look()

    monkeypatch.setattr(Map, "update", updating)
    monkeypatch.setattr(Map, "delete", deleting)


def changed(old: World, new: World) -> tuple[HostRuleset, HostRuleset]:
    """The ruleset of a host before a change, and what its delta makes of it."""
    places = {path: ("host",) for path in old.vms if path.endswith((":vm", ":other"))}
    compiler = Compiler.of(old.policies, Columns.of(old.vms.values()), places)
    held = compiler.ruleset("host")
    delta = Delta.decode(compiler.update(Update.between(old, new))["host"].encode())
    return held, delta.apply(held)


@pytest.fixture(params=[False, True], ids=["new connections", "connections that last"])
def flows_last(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def with_gates(
    gate: GateUnderTest, monkeypatch: pytest.MonkeyPatch, old: World, new: World, *, flows_last: bool
) -> tuple[Watched, HostRuleset, HostRuleset, Callable[[], None]]:
    """Two gates under the old ruleset, watched from now on."""
    gate.world = old
    held, following = changed(old, new)
    other = Tap("tap1")
    watched = Watched(gate, other, flows_last=flows_last)
    gate.gates.prepare(held)
    gate.gates.bind(watched.bindings(held))
    gate.gates.discard_others(held)
    watched.look()
    one_by_one(watched, monkeypatch)

    def end() -> None:
        monkeypatch.undo()
        gate.gates.unbind(other.ifindex)
        other.delete()

    return watched, held, following, end


def of_vm(verdicts: Verdicts, vm: str) -> dict[Question, bool]:
    return {question: passed for question, passed in verdicts.items() if question[0] == vm}


@isolated
def test_each_gate_judges_as_before_or_as_after(
    gate: GateUnderTest, monkeypatch: pytest.MonkeyPatch, *, flows_last: bool
) -> None:
    watched, held, following, end = with_gates(gate, monkeypatch, BEFORE, AFTER, flows_last=flows_last)
    old, new = expected(OLD_PORT, PEER, OLD_USER), expected(NEW_PORT, OTHER_PEER, NEW_USER)
    try:
        assert watched.seen.pop() == old
        gate.gates.prepare(following)
        assert len(watched.seen) > 10
        assert all(verdicts == old for verdicts in watched.seen), "nothing is judged by it yet"
        watched.seen.clear()

        for vm, ifindex in watched.taps.items():  # one gate after the other, and what is old must stay for the second
            gate.gates.bind({ifindex: watched.bindings(following)[ifindex]})
            assert of_vm(watched.seen[0], vm) == of_vm(old, vm), "its record is written, and nothing points at it"
            assert of_vm(watched.seen[-1], vm) == of_vm(new, vm)
        assert watched.seen[-1] == new
        for vm in VMS:
            told = [of_vm(verdicts, vm) for verdicts in watched.seen]
            after = told.index(of_vm(new, vm))
            assert all(each == of_vm(old, vm) for each in told[:after])
            assert all(each == of_vm(new, vm) for each in told[after:]), "there is no way back"
        assert any(len({verdicts[vm, *rest] for vm in VMS}) == 2 for verdicts in watched.seen for _, *rest in QUESTIONS)
        watched.seen.clear()

        assert gate.gates.discard_others(following)
        assert len(watched.seen) > 10
        assert all(verdicts == new for verdicts in watched.seen)
        assert {v.view for v in held.vnics}.isdisjoint(v.view for v in following.vnics)
    finally:
        end()


@pytest.mark.parametrize(
    ("after", "remotes"),
    [(RELABELLED, (OTHER_PEER, OLD_USER)), (GONE, (OLD_USER,))],
    ids=["another VM is in it", "the VM is gone"],
)
@isolated
def test_who_is_in_a_group_changes_in_place(
    gate: GateUnderTest, monkeypatch: pytest.MonkeyPatch, after: World, remotes: tuple[str, ...], *, flows_last: bool
) -> None:
    """The policies stay: each address is judged as before or as after, and goes one way."""
    watched, held, following, end = with_gates(gate, monkeypatch, BEFORE, after, flows_last=flows_last)
    old, new = expected(OLD_PORT, PEER, OLD_USER), expected(OLD_PORT, *remotes)
    try:
        assert watched.seen == [old]
        gate.gates.prepare(following)
        gate.gates.bind(watched.bindings(following))
        assert watched.seen[-1] == new
        assert gate.gates.discard_others(following)
        watched.look()
        assert watched.seen[-1] == new
        for question in QUESTIONS:
            told = [verdicts[question] for verdicts in watched.seen]
            turns = [then for now, then in itertools.pairwise(told) if now != then]
            assert turns == ([new[question]] if old[question] != new[question] else []), question
        if after is RELABELLED:
            assert [v.view for v in held.vnics] == [v.view for v in following.vnics]
        assert not {v.members for v in held.vnics} & {v.members for v in following.vnics}
    finally:
        end()


@isolated
def test_a_change_that_does_not_fit_changes_no_verdict(gate: GateUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the kernel hears of it: on another ruleset, and damaged."""
    watched, held, following, end = with_gates(gate, monkeypatch, BEFORE, AFTER, flows_last=False)
    try:
        delta = Delta.between(held, following)
        for bad, onto in (
            (delta, following), (dataclasses.replace(delta, add=delta.add[1:]), held), (Delta.between(following, held), held),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="change"):
                gate.gates.prepare(bad.apply(onto))
        watched.look()
        assert watched.seen == [expected(OLD_PORT, PEER, OLD_USER)] * 2
    finally:
        end()
