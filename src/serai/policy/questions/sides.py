"""What each side accepts, for all packets at once: the sets of ports that flattened decision lists accept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from serai.model.address import Address, Prefix
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, Group, InCidr, OnNetwork, Peer, Policy, RuleRef
from serai.model.records import Step
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.flatten import DecisionList, Stage, flatten, said_at
from serai.policy.questions.portset import EVERYTHING, NOTHING, PortSet, accepted
from serai.policy.stages import Level, levels, quarantine, stages


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """All that verdicts about an address depend on, as the end of a connection. Equal ones are judged alike."""

    version: int
    """Of IP."""
    egress: int | None
    """Which rules judge what leaves it; None where no VM holds the address."""
    ingress: int | None
    """Which rules judge what enters it; None where no VM holds the address."""
    met: int
    """Which peers of any policy it is one of; one bit each."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Rules:
    direction: Direction
    asked: tuple[Level, ...] | None
    """None: the VM is in quarantine, where no policy is asked."""
    peers: int
    """The peers that the rules look at; one bit each."""


class Sides:
    """Judges both sides of all connections in one world. Remembers what it has flattened."""

    def __init__(self, world: World) -> None:
        """Take the world; nothing is worked out yet."""
        self._world = world
        self._policies: dict[Scope, list[Policy]] = {}
        for policy in world.policies:
            self._policies.setdefault(policy.scope, []).append(policy)
        self._peers: list[Peer] = []
        self._bits: dict[Peer, int] = {}
        self._groups: dict[Scope, list[Group]] = {}
        self._cidrs: dict[tuple[int, int], dict[int, int]] = {}
        self._quarantine = self._bits_of(InCidr(prefix=prefix) for prefix in world.quarantine)
        for policy in world.policies:
            for direction in policy.rules:
                self._bits_of(_peers(policy, direction))
        self._rules: list[_Rules] = []
        self._numbers: dict[object, int] = {}
        self._lists: dict[tuple[int, int], DecisionList] = {}
        self._flattened: dict[tuple[int, int, int], PortSet] = {}
        self._both: dict[tuple[PortSet, PortSet], PortSet] = {}

    def of_vnic(self, vm: VirtualMachine, vnic: Vnic, address: Address) -> Seen:
        """See an address that ``vnic``, one of ``vm``'s, holds."""
        met = self._met_by(vm) | self._met_at(address, address.max_prefixlen)
        met |= self._bits.get(OnNetwork(path=vnic.network.path), 0)
        egress, ingress = (self._number(vm, direction) for direction in (Direction.EGRESS, Direction.INGRESS))
        return Seen(address.version, egress, ingress, met)

    def of_outside(self, prefix: Prefix) -> Seen:
        """See addresses that no VM holds and no ``cidr`` of a policy tells apart: all of ``prefix`` or some of it."""
        return Seen(prefix.version, None, None, self._met_at(prefix.network_address, prefix.prefixlen))

    def cuts(self, seen: Iterable[Seen]) -> set[Prefix]:
        """Return the prefixes by which the rules of those ends tell addresses apart."""
        numbers = {number for one in seen for number in (one.egress, one.ingress) if number is not None}
        met = 0
        for number in numbers:
            met |= self._rules[number].peers
        return {peer.prefix for peer in self._named(met) if isinstance(peer, InCidr)}

    def accepts(self, source: Seen, target: Seen) -> PortSet:
        """Return what ``source`` can open to ``target``.

        Nothing between two versions, and nothing where neither end is a VM: there is no gate that could say so.
        """
        if source.version != target.version or (source.egress is None and target.ingress is None):
            return NOTHING
        out = EVERYTHING if source.egress is None else self._says(source.egress, target)
        into = EVERYTHING if target.ingress is None else self._says(target.ingress, source)
        found = self._both.get((out, into))
        if found is None:
            found = self._both[out, into] = out & into
        return found

    def decision(
        self, own: Seen, direction: Direction, remote: Seen, protocol: int, port: int
    ) -> tuple[Action, RuleRef]:
        """Return what one side of a connection says, and what decides.

        Raises:
            ValueError: no VM holds ``own``, so it has no side.
        """
        number = own.egress if direction is Direction.EGRESS else own.ingress
        if number is None:
            message = "an end that is no VM has no side"
            raise ValueError(message)
        key = number, remote.met & self._rules[number].peers
        if key not in self._lists:
            self._lists[key] = self._flat(*key)
        said = said_at(self._lists[key], protocol, port)
        return Action.ACCEPT if said.step is Step.ACCEPT else Action.DENY, said.ref

    def _says(self, number: int, remote: Seen) -> PortSet:
        met = remote.met & self._rules[number].peers
        key = number, met, remote.version
        if key not in self._flattened:
            self._flattened[key] = accepted(self._flat(number, met), remote.version)
        return self._flattened[key]

    def _flat(self, number: int, met: int) -> DecisionList:
        rules = self._rules[number]
        return flatten(self._stages(rules, met), rules.direction, self._world.last_word[rules.direction])

    def _stages(self, rules: _Rules, met: int) -> list[Stage]:
        named = frozenset(self._named(met))
        return (
            [quarantine(rules.direction, named)] if rules.asked is None else stages(rules.asked, rules.direction, named)
        )

    def _number(self, vm: VirtualMachine, direction: Direction) -> int:
        """Number the rules that apply to a VM: equal rules have one number."""
        isolated = vm.mode is Mode.ISOLATE
        about: object = (direction, None) if isolated else (direction, vm.scope, frozenset(vm.labels.items()))
        if about not in self._numbers:
            self._numbers[about] = self._new(vm, direction, isolated=isolated)
        return self._numbers[about]

    def _new(self, vm: VirtualMachine, direction: Direction, *, isolated: bool) -> int:
        if isolated:
            asked, named, peers = None, None, self._quarantine
        else:
            policies = [policy for scope in vm.scope.lineage for policy in self._policies.get(scope, ())]
            asked = levels(policies, vm, direction)
            named = tuple(tuple((policy.scope, policy.name) for policy in level) for level in asked)
            peers = self._bits_of(peer for level in asked for policy in level for peer in _peers(policy, direction))
        key = "rules", direction, named
        if key not in self._numbers:
            self._numbers[key] = len(self._rules)
            self._rules.append(_Rules(direction, asked, peers))
        return self._numbers[key]

    def _bits_of(self, peers: Iterable[Peer]) -> int:
        bits = 0
        for peer in peers:
            bit = self._bits.get(peer)
            if bit is None:
                bit = self._bits[peer] = 1 << len(self._peers)
                self._peers.append(peer)
                self._index(peer, bit)
            bits |= bit
        return bits

    def _index(self, peer: Peer, bit: int) -> None:
        if isinstance(peer, Group):
            self._groups.setdefault(peer.scope, []).append(peer)
        elif isinstance(peer, InCidr):
            kind = peer.prefix.version, peer.prefix.prefixlen
            self._cidrs.setdefault(kind, {})[_leading(peer.prefix.network_address, peer.prefix.prefixlen)] = bit

    def _named(self, bits: int) -> Iterable[Peer]:
        while bits:
            lowest = bits & -bits
            yield self._peers[lowest.bit_length() - 1]
            bits ^= lowest

    def _met_by(self, vm: VirtualMachine) -> int:
        key = "met", vm.scope, frozenset(vm.labels.items())
        if key not in self._numbers:
            groups = (group for scope in vm.scope.lineage for group in self._groups.get(scope, ()))
            self._numbers[key] = self._bits_of(group for group in groups if group.contains(vm.scope, vm.labels))
        return self._numbers[key]

    def _met_at(self, address: Address, length: int) -> int:
        """Look up the prefixes that contain the first ``length`` bits of an address."""
        bits = 0
        for (version, prefix_length), known in self._cidrs.items():
            if version == address.version and prefix_length <= length:
                bits |= known.get(_leading(address, prefix_length), 0)
        return bits


def _leading(address: Address, length: int) -> int:
    return int(address) >> (address.max_prefixlen - length)


def _peers(policy: Policy, direction: Direction) -> Iterable[Peer]:
    return (c.peer for rule in policy.rules[direction] for c in rule.clauses if c.peer is not None)
