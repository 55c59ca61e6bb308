"""Compiles one shape of policies: everything that a domain's tables hold, with places instead of numbers."""

from __future__ import annotations

import collections
import dataclasses
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serai.model.form import Place
from serai.model.inventory import VirtualMachine
from serai.model.policy import Clause, Direction, Group, InCidr, OnNetwork, Peer, Policy, Rule, RuleRef, Tier
from serai.model.tenancy import Mode, Scope
from serai.policy.compiler.book import EVERYBODY, Binder, Book
from serai.policy.compiler.census import Class, Kind
from serai.policy.compiler.domain import Cell, Domain
from serai.policy.compiler.pages import spelled
from serai.policy.compiler.spell import DIRECTIONS, local_to
from serai.policy.compiler.statutes import Statutes, places_of
from serai.policy.flatten import DecisionList, Stage, flatten
from serai.policy.stages import Level, levels, quarantine, stages

BUILTIN: Final = tuple(
    named(direction)
    for named in (RuleRef.builtin, RuleRef.unmatched, RuleRef.quarantine, RuleRef.isolated)
    for direction in DIRECTIONS
)
"""What decides where no rule does."""

_CONDENSED: Final = 1024
"""How many ways to group the provider's peers are remembered: most tenants leave them as they are."""

Groups = frozenset[int]
"""Which groups of peers somebody is one of, by their places."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """A shape of policies, compiled.

    Its books are filled in from a list of numbers: 0, that of each rule, those of ``BUILTIN``, and that of each identity,
    ruleset, decision list and inner page.
    """

    groups: tuple[tuple[int, ...], ...]
    """Peers that every rule treats alike, by their places in the domain."""
    identities: tuple[tuple[int, ...], ...]
    """Which groups each identity is one of; ``EVERYBODY`` comes first."""
    cells: Mapping[Cell, int]
    """The identity of each cell."""
    prefixes: NDArray[np.int64]
    """The identity of addresses that no VM holds, for each answer of the nest."""
    rulesets: tuple[bytes, ...]
    """What tells each ruleset from others of its view."""
    lists: tuple[tuple[bytes | Place, ...], ...]
    """What each decision list says."""
    inner: tuple[tuple[int, bytes], ...]
    """Pages below others: the list that each belongs to, and what tells it from others of that list."""
    books: tuple[Book, ...]
    kinds: tuple[int, ...]
    """The book of each kind of VM of the domain."""


def compile_shape(domain: Domain, statutes: Statutes) -> Template:
    """Compile ``domain``, and with it every other of its shape."""
    return _ShapeCompiler(domain, statutes).template()


class _ShapeCompiler:
    def __init__(self, domain: Domain, statutes: Statutes) -> None:
        self._domain, self._statutes = domain, statutes
        self._groups, self._group_of = _group(domain, statutes)
        self._speakers = [domain.peers[group[0]] for group in self._groups]
        """One peer of each group, which speaks for all of it."""
        # In a domain that many tenants share, all that matters to one kind of VM is found by scope, not looked for.
        self._groups_under: dict[Scope, list[tuple[Group, int]]] = collections.defaultdict(list)
        """Peers that are VMs of a scope, with the places of their groups."""
        self._groups_on: dict[str, list[int]] = collections.defaultdict(list)
        """The places of the groups of networks, by path."""
        for peer, group in self._group_of.items():
            match peer:
                case Group():
                    self._groups_under[peer.scope].append((peer, group))
                case OnNetwork():
                    self._groups_on[peer.path].append(group)
                case InCidr():
                    pass  # that goes by address, not by VM
        self._policies: dict[Scope, list[tuple[int, Policy]]] = collections.defaultdict(list)
        """By scope, with their places."""
        shared = len(statutes.peers)
        grouped = tuple([group for group in self._groups if group[0] < shared])
        provider = statutes.condensed.get(grouped)
        if provider is None:
            provider = [self._condensed(each.policy) for each in statutes.provider]
            if len(statutes.condensed) < _CONDENSED:
                statutes.condensed[grouped] = provider
        own = domain.policies[len(provider) :]
        for at, policy in enumerate((*provider, *(self._condensed(each.policy) for each in own))):
            self._policies[policy.scope].append((at, policy))
        refs = [ref for each in domain.policies for ref in each.refs]
        self._rules: dict[RuleRef, Place] = {ref: at for at, ref in enumerate((*refs, *BUILTIN), start=1)}
        self._identities: dict[Groups, int] = {frozenset(): EVERYBODY}
        self._identities_in: dict[int, list[tuple[int, Groups]]] = collections.defaultdict(list)
        """Those that are one of a group."""
        self._rulesets: dict[bytes, list[tuple[int, int]]] = {}
        """What each ruleset applies: pairs of an identity and a list."""
        self._places: dict[bytes, int] = {}
        """Those of the rulesets."""
        self._lists: dict[tuple[bytes | Place, ...], int] = {}
        self._contents: list[DecisionList] = []
        self._flattened: dict[tuple[Direction, object], int] = {}

    def template(self) -> Template:
        cells, prefixes = self._members()
        pairs: dict[tuple[int, int], int] = {}
        kinds = []
        for kind in self._domain.members.kinds:
            egress, ingress = (self._ruleset(kind, direction) for direction in DIRECTIONS)
            kinds.append(pairs.setdefault((egress, ingress), len(pairs)))
        texts = [text for each in self._domain.policies for text in each.texts]
        local = local_to(self._domain.members.root)
        names = [*map(local, texts), *(ref.text for ref in BUILTIN)]
        binder = Binder(self._rules, names, len(self._identities), list(self._rulesets.values()), self._contents)
        books = tuple(binder.book(egress, ingress) for egress, ingress in pairs)
        return Template(
            groups=self._groups,
            identities=tuple(tuple(sorted(groups)) for groups in self._identities),
            cells=cells,
            prefixes=np.array(prefixes, np.int64),
            rulesets=tuple(self._rulesets),
            lists=tuple(self._lists),
            inner=tuple(binder.inner),
            books=books,
            kinds=tuple(kinds),
        )

    def _members(self) -> tuple[dict[Cell, int], list[int]]:
        """Tell everybody apart, as far as rules do."""
        domain = self._domain
        group_of_prefix = [self._group_of[peer] for peer in domain.peers if isinstance(peer, InCidr)]
        met_by_class = [self._met(class_) for class_ in domain.members.classes]
        prefixes = [self._identity(group_of_prefix[at] for at in within) for within in domain.nest.distinct]
        cells = {
            (class_, within): self._identity((*met_by_class[class_], *(group_of_prefix[at] for at in within)))
            for class_, within in sorted(domain.met)
        }
        return cells, prefixes

    def _met(self, class_: Class) -> list[int]:
        scope, written, network = class_
        labels = json.loads(written)
        found = [*self._groups_on.get(network, ())]
        for level in scope.lineage:
            found += [group for peer, group in self._groups_under.get(level, ()) if peer.contains(scope, labels)]
        return found

    def _identity(self, groups: Iterable[int]) -> int:
        key = frozenset(groups)
        if key not in self._identities:
            identity = self._identities[key] = len(self._identities)
            for group in key:
                self._identities_in[group].append((identity, key))
        return self._identities[key]

    def _condensed(self, policy: Policy) -> Policy:
        """Let one peer of each group speak for all of it."""

        def condensed(rule: Rule) -> Rule:
            clauses = dict.fromkeys((c.peer and self._speakers[self._group_of[c.peer]], c.ports) for c in rule.clauses)
            said = tuple(Clause(peer=peer, ports=ports) for peer, ports in clauses)
            return Rule(ref=rule.ref, action=rule.action, clauses=said)

        rules = {direction: tuple(map(condensed, side)) for direction, side in policy.rules.items()}
        return dataclasses.replace(policy, rules=rules)

    def _ruleset(self, kind: Kind, direction: Direction) -> int:
        """List what the rules for VMs of a kind decide about each identity; return the ruleset's place."""
        scope, labels, isolated = kind
        if isolated:
            name = f"{direction} isolated"
            heard = {self._group_of[InCidr(prefix=prefix)] for prefix in self._statutes.quarantine}
        else:
            vm = VirtualMachine(name="", scope=scope, labels=json.loads(labels), mode=Mode.ENFORCE, vnics=())
            above = [each for level in scope.lineage for each in self._policies.get(level, ())]
            asked = levels((policy for _, policy in above), vm, direction)
            places = {id(policy): at for at, policy in above}
            name = " ".join([direction, *(str(places[id(policy)]) for level in asked for policy in level)])
            peers = (c.peer for level in asked for p in level for rule in p.rules[direction] for c in rule.clauses)
            heard = {self._group_of[peer] for peer in peers if peer}
        if (key := name.encode()) in self._places:
            return self._places[key]

        def decided(met: Groups) -> int:
            peers = frozenset([self._speakers[group] for group in met])
            if isolated:
                return self._list(direction, ("isolated", bool(met)), lambda: [quarantine(direction, peers)])
            return self._list(direction, _outline(asked, direction, peers), lambda: stages(asked, direction, peers))

        everybody = decided(frozenset())
        rows = [(EVERYBODY, everybody)]
        known: dict[Groups, int] = {}
        # To all others the rules do not listen: they are everybody.
        for identity, groups in sorted(
            {each for group in heard for each in self._identities_in.get(group, ())}, key=operator.itemgetter(0)
        ):
            met = groups & heard
            if met not in known:
                known[met] = decided(met)
            if known[met] != everybody:
                rows.append((identity, known[met]))
        self._rulesets[key] = rows
        return self._places.setdefault(key, len(self._places))

    def _list(self, direction: Direction, outline: object, asked: Callable[[], Sequence[Stage]]) -> int:
        """Return the place of the list of what is ``asked``; ``outline`` tells whether that was asked before."""
        place = self._flattened.get((direction, outline))
        if place is None:
            decisions = flatten(asked(), direction, self._statutes.last_word[direction])
            place = self._lists.setdefault(spelled(decisions, self._rules.__getitem__), len(self._lists))
            if place == len(self._contents):
                self._contents.append(decisions)
            self._flattened[direction, outline] = place
        return place


def _outline(asked: Sequence[Level], direction: Direction, met: frozenset[Peer]) -> tuple[object, ...]:
    """Tell what is asked about a peer: which clauses of which rules, and where the Tenant tier closes. Equal ones are one list."""
    outline: list[object] = []
    for level in asked:
        for policy in level:
            for rule in policy.rules[direction]:
                spoken = [at for at, c in enumerate(rule.clauses) if c.peer is None or c.peer in met]
                if spoken:
                    outline.append((id(rule), *spoken))
        tenants = level[0].tier is Tier.TENANT
        outline.append((tenants, tenants and all(policy.staged for policy in level)))
    return tuple(outline)


def _group(domain: Domain, statutes: Statutes) -> tuple[tuple[tuple[int, ...], ...], Mapping[Peer, int]]:
    """Put peers together that stand in the same rules, on the same ports: nothing can tell who is one from who is the other."""
    everywhere, here = statutes.places, places_of(domain.policies[len(statutes.provider) :])
    groups: dict[object, list[int]] = {}
    for at, peer in enumerate(domain.peers):
        known, more = everywhere.get(peer), here.get(peer)
        groups.setdefault(known | more if known and more else known or more, []).append(at)
    group_of = {domain.peers[at]: number for number, members in enumerate(groups.values()) for at in members}
    return tuple(map(tuple, groups.values())), group_of
