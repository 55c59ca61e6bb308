"""From a world to one host's ruleset: identities, decision lists, tables of numbers.

Everything is named by its content. A *view* is a routing domain under one set of policies; in a view,
endpoints that no peer of those policies can tell apart share one *identity*. VMs that the same rules apply
to share one *ruleset* a direction, and equal decision lists are stored once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network

import numpy as np

from serai.model.address import MAPPED, Prefix, contains
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Direction, Group, InCidr, OnNetwork, Peer, Policy
from serai.model.records import LIST, TABLES, endpoint, prefix, table
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Mode, Scope, content_id
from serai.model.world import World
from serai.policy.flatten import DecisionList, Stage, flatten, pages
from serai.policy.spell import spell_peer, spell_policy
from serai.policy.stages import levels, quarantine, stages

_EVERYBODY = 0
"""The identity of addresses that no peer of any rule tells from others."""


def compile_host(world: World, host: str, vms: Collection[str]) -> HostRuleset:
    """Compile what ``host`` needs to guard the VMs at the paths ``vms``, and no more.

    The result depends on nothing but ``world``, ``host`` and the set of ``vms``.

    Raises:
        KeyError: the world has no VM at one of the paths.
        ValueError: two different things would have the same number (see ``content_id``).
    """
    return _HostCompiler(world, host).compile(sorted(set(vms)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What the vNICs of one routing domain can see, and be told apart by."""

    id: int
    members: int
    """Names who is who at the moment."""
    identities: Mapping[int, frozenset[Peer]]
    """Which peers each identity is one of."""
    policies: tuple[Policy, ...]
    """Those that may apply there."""


class _HostCompiler:
    def __init__(self, world: World, host: str) -> None:
        self._world = world
        self._host = host
        self._records: dict[str, set[bytes]] = {name: set() for name in TABLES}
        self._rules: dict[str, int] = {}
        self._views: dict[str, _View] = {}
        self._members: dict[str, list[tuple[VirtualMachine, Vnic]]] = {}
        for vm, vnic in world.vnics():
            self._members.setdefault(vnic.network.routing_domain, []).append((vm, vnic))
        self._policies: dict[Scope, list[Policy]] = {}
        for policy in world.policies:
            self._policies.setdefault(policy.scope, []).append(policy)
        self._quarantine = frozenset(InCidr(prefix=addresses) for addresses in world.quarantine)
        self._rulesets: set[int] = set()
        self._named: dict[int, object] = {_EVERYBODY: frozenset()}

    def compile(self, paths: list[str]) -> HostRuleset:
        guarded = [self._guard(vm, vnic) for vm in map(self._world.vms.__getitem__, paths) for vnic in vm.vnics]
        return HostRuleset(
            host=self._host,
            vnics=tuple(sorted(guarded, key=lambda vnic: vnic.id)),
            rules=dict(sorted(self._rules.items())),
            tables={name: table(name, records) for name, records in self._records.items()},
        )

    def _guard(self, vm: VirtualMachine, vnic: Vnic) -> GuardedVnic:
        domain = vnic.network.routing_domain
        if domain not in self._views:
            self._views[domain] = self._view(domain)
        view = self._views[domain]
        self._name(vnic.id, (vm.path, vnic.name))
        return GuardedVnic(
            id=vnic.id,
            path=f"{vm.path}/{vnic.name}",
            mac=vnic.mac,
            addresses=vnic.held,
            security=vnic.security,
            mode=vm.mode,
            view=view.id,
            members=view.members,
            egress=self._ruleset(vm, Direction.EGRESS, view),
            ingress=self._ruleset(vm, Direction.INGRESS, view),
        )

    def _view(self, domain: str) -> _View:
        """Tell the endpoints of a routing domain apart, as far as policies that may apply there do."""
        members = self._members[domain]
        scopes = {scope for vm, _ in members for scope in vm.scope.lineage}
        policies = [policy for scope in scopes for policy in self._policies.get(scope, ())]
        clauses = [c for p in policies for rules in p.rules.values() for rule in rules for c in rule.clauses]
        peers = {clause.peer for clause in clauses if clause.peer}
        # Told apart also while nobody is isolated: to isolate a VM then changes its own rulesets, and nobody else's
        # flows are judged again, at a moment when everybody is in a hurry.
        cidrs = {peer for peer in peers if isinstance(peer, InCidr)} | self._quarantine
        # Policies are part of the name: under a view endpoints may change, what their identities mean may not.
        spelled = (*sorted(map(spell_peer, self._quarantine)), *sorted(map(spell_policy, policies)))
        number = self._name(content_id("view", domain, *spelled), ("view", domain))

        identities: dict[int, frozenset[Peer]] = {_EVERYBODY: frozenset()}
        endpoints: set[bytes] = set()
        prefixes: set[bytes] = set()
        for vm, vnic in members:
            groups = {peer for peer in peers if _selects(peer, vm, vnic)}
            for address in vnic.held:
                identity = self._identity(groups | {c for c in cidrs if address in c.prefix}, identities)
                endpoints.add(endpoint(number, address, identity))
        for told_apart in _told_apart(cidrs):
            identity = self._identity({c for c in cidrs if contains(c.prefix, told_apart)}, identities)
            prefixes.add(prefix(number, told_apart, identity))
        self._records["endpoints"] |= endpoints
        self._records["prefixes"] |= prefixes
        return _View(
            id=number,
            members=content_id(*sorted(endpoints | prefixes)),
            identities=identities,
            policies=tuple(policies),
        )

    def _identity(self, peers: Iterable[Peer], known: dict[int, frozenset[Peer]]) -> int:
        met = frozenset(peers)
        number = content_id("identity", *sorted(map(spell_peer, met))) if met else _EVERYBODY
        known[self._name(number, met)] = met
        return number

    def _ruleset(self, vm: VirtualMachine, direction: Direction, view: _View) -> int:
        """Name the rules that apply to ``vm``, and list what they decide about each identity of the view."""
        spelled, asked_about = self._asked(vm, direction, view)
        last_word = self._world.last_word[direction]
        number = self._name(
            content_id("ruleset", direction, last_word, str(view.id), *spelled), (direction, last_word, spelled)
        )
        if number not in self._rulesets:
            self._rulesets.add(number)
            everybody = flatten(asked_about(frozenset()), direction, last_word)
            for identity, met in view.identities.items():
                decisions = flatten(asked_about(met), direction, last_word)
                if identity == _EVERYBODY or decisions != everybody:
                    record = np.array([(number, identity, self._list(decisions))], LIST)
                    self._records["lists"].add(record.tobytes())
        return number

    def _asked(
        self, vm: VirtualMachine, direction: Direction, view: _View
    ) -> tuple[list[str], Callable[[frozenset[Peer]], list[Stage]]]:
        """Return the text of what is asked about ``vm``, and what is left of it for a peer that is one of each."""
        if vm.mode is Mode.ISOLATE:
            named = ["quarantine", *sorted(map(spell_peer, self._quarantine))]
            return named, lambda met: [quarantine(direction, met & self._quarantine)]
        asked = levels(view.policies, vm, direction)
        spelled = ["\n\n".join(spell_policy(policy, direction) for policy in level) for level in asked]
        return spelled, lambda met: stages(asked, direction, met)

    def _list(self, decisions: DecisionList) -> int:
        number, records = pages(decisions)
        self._records["pages"] |= records
        for intervals in decisions.values():
            for interval in intervals:
                for said in (interval.said, interval.staged):
                    self._rules[said.ref.text] = self._name(said.ref.id, said.ref)
        return self._name(number, decisions)

    def _name(self, number: int, thing: object) -> int:
        """Make sure that a number names one thing only: 64 bits do collide, once in a very long while."""
        if self._named.setdefault(number, thing) != thing:
            message = f"two things share the number {number:#x}, rename one: {thing} and {self._named[number]}"
            raise ValueError(message)
        return number


def _selects(peer: Peer, vm: VirtualMachine, vnic: Vnic) -> bool:
    match peer:
        case Group():
            return peer.contains(vm.scope, vm.labels)
        case OnNetwork():
            return peer.path == vnic.network.path
        case InCidr():
            return False  # that goes by address, not by VM


def _told_apart(cidrs: Collection[InCidr]) -> set[Prefix]:
    """The prefixes that need a record of their own."""
    found = {cidr.prefix for cidr in cidrs}
    # An IPv6 prefix never means an IPv4 address, but by its leading bits it may cover where those stand.
    covers_ipv4 = any(isinstance(addresses, IPv6Network) and MAPPED.subnet_of(addresses) for addresses in found)
    return found | {IPv4Network("0.0.0.0/0")} if covers_ipv4 else found
