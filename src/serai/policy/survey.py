"""What every rule does anywhere: which ones ever match, which ones ever decide, and without which nothing would change.

Each kind of other end that a class of VMs can meet is asked about all ports at once (``cells.py``). Nothing is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, Peer, Policy, RuleRef, Tier
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.cells import Cells
from serai.policy.remotes import Kind, kinds
from serai.policy.stages import levels

PolicyName = tuple[Scope, str]
"""A policy's scope and name."""


@dataclasses.dataclass(slots=True)
class Record:
    """What is known of one rule."""

    matches: bool = False
    """There is an end that a VM of the policy can meet and that is one of the rule's peers."""
    decides: bool = False
    """It is the first to match somewhere, in force or with the staged policies in force."""
    needed: bool = False
    """Somewhere something else would be said without it."""
    before: set[str] = dataclasses.field(default_factory=set)
    """What decides where it matches; complete for rules that never decide."""
    instead: set[str] = dataclasses.field(default_factory=set)
    """What would decide in its place; complete for rules that are not needed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of all rules. VMs in quarantine are looked at as if they were not: it will end."""

    rules: Mapping[str, Record]
    """By the text of the rule's reference."""
    subjects: Mapping[PolicyName, int]
    """The classes of VMs that each policy selects, as a bit mask."""


def survey(world: World, cells: Cells) -> Survey:
    """Look at every rule of ``world``, whose ranges of ports have made ``cells``."""
    return _Surveyor(world, cells).survey()


_Asked = tuple[Direction, tuple[tuple[PolicyName, ...], ...]]
"""The policies that are asked about some VMs in a direction, level by level."""
_Looks = tuple[Scope, frozenset[tuple[str, str]]]
"""All of a VM that policies look at: scope and labels."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """A rule as one kind of other end meets it."""

    rule: str
    action: Action
    ports: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """One level of one tier, as one kind of other end meets it."""

    tier: Tier
    lines: Sequence[_Line]
    closes: bool
    """What matches nothing is denied here."""


class _Surveyor:
    def __init__(self, world: World, cells: Cells) -> None:
        self._world = world
        self._cells = cells
        self._records: dict[str, Record] = {}
        self._policies: dict[PolicyName, Policy] = {}
        self._by_scope: dict[Scope, list[Policy]] = {}
        for policy in world.policies:
            self._policies[policy.scope, policy.name] = policy
            self._by_scope.setdefault(policy.scope, []).append(policy)
            self._records.update((rule.ref.text, Record()) for rules in policy.rules.values() for rule in rules)
        self._subjects = dict.fromkeys(self._policies, 0)

    def survey(self) -> Survey:
        domains: dict[str, list[tuple[VirtualMachine, Vnic]]] = {}
        for vm, vnic in self._world.vnics():
            domains.setdefault(vnic.network.routing_domain, []).append((vm, vnic))
        asked = self._classes()
        for members in domains.values():
            here = {each for vm, _ in members for each in asked[_looks(vm)]}
            numbers = self._numbers(here)
            met = kinds(members, numbers)
            for direction, named in here:
                self._look(direction, [[self._policies[name] for name in level] for level in named], met, numbers)
        return Survey(rules=self._records, subjects=self._subjects)

    def _classes(self) -> dict[_Looks, list[_Asked]]:
        """Find what is asked about each class of VMs, and note which policies select it."""
        asked: dict[_Looks, list[_Asked]] = {}
        for vm in self._world.vms.values():
            looks = _looks(vm)
            if looks in asked:
                continue
            bit = 1 << len(asked)
            above = [policy for scope in vm.scope.lineage for policy in self._by_scope.get(scope, ())]
            for policy in above:
                if policy.subject.contains(vm.scope, vm.labels):
                    self._subjects[policy.scope, policy.name] |= bit
            asked[looks] = [(direction, _named(levels(above, vm, direction))) for direction in Direction]
        return asked

    def _numbers(self, asked: set[_Asked]) -> dict[Peer, int]:
        """Number the peers that are told apart in a routing domain."""
        policies = {(direction, name) for direction, named in asked for level in named for name in level}
        peers = (
            clause.peer
            for direction, name in policies
            for rule in self._policies[name].rules[direction]
            for clause in rule.clauses
        )
        return {peer: number for number, peer in enumerate(dict.fromkeys(peer for peer in peers if peer))}

    def _look(
        self, direction: Direction, asked: list[list[Policy]], met: frozenset[Kind], numbers: Mapping[Peer, int]
    ) -> None:
        """Ask the levels ``asked`` about every kind of other end that they tell apart."""
        prepared = [_Level(level, direction, self._cells, numbers) for level in asked]
        told_apart = 0
        for level in prepared:
            told_apart |= level.told_apart
        views = (False, True) if any(level.staged for level in prepared) else (False,)
        for kind in {kind & told_apart for kind in met}:
            for staged in views:
                self._walk(direction, [level.step(kind, staged=staged) for level in prepared])

    def _walk(self, direction: Direction, steps: Sequence[_Step]) -> None:
        """Follow all ports down the steps, and note what each rule does to them."""
        undecided = self._cells.everything
        final: list[tuple[str, int]] = []
        for at, step in enumerate(steps):
            passed = 0
            passes: list[tuple[str, int]] = []
            for number, line in enumerate(step.lines):
                record = self._records[line.rule]
                record.matches = True
                took = line.ports & undecided
                if not took:
                    if not record.decides:
                        record.before |= {rule for rule, ports in (*passes, *final) if ports & line.ports}
                    continue
                undecided &= ~took
                if line.action is Action.PASS:
                    passes.append((line.rule, took))
                    passed |= took
                else:
                    final.append((line.rule, took))
                record.decides = True
                if not record.needed:
                    tail = _Step(step.tier, step.lines[number + 1 :], step.closes)
                    record.needed = not self._said_anyway(
                        direction, line.action, took, [tail, *steps[at + 1 :]], record
                    )
            if step.closes and undecided:
                final.append((RuleRef.unmatched(direction).text, undecided))
                undecided = 0
            undecided |= passed

    def _said_anyway(
        self, direction: Direction, action: Action, ports: int, behind: Iterable[_Step], record: Record
    ) -> bool:
        """Say whether the steps ``behind`` a line say its ``action`` of all ``ports`` as well.

        In the Admin tier only the line's own level counts: what a level wants to be sure of does not become needless
        because those below it want the same for the time being.
        """
        for step in behind:
            for line in step.lines:
                if line.ports & ports:
                    if line.action is not action:
                        return False
                    record.instead.add(line.rule)
                    ports &= ~line.ports
            if not ports:
                return True
            if step.tier is Tier.ADMIN:  # a Pass goes on at the next level, and so does what nothing matches
                return action is Action.PASS
            if step.closes:
                record.instead.add(RuleRef.unmatched(direction).text)
                return action is Action.DENY
        record.instead.add(RuleRef.builtin(direction).text)
        return action is self._world.last_word[direction]


class _Level:
    """One level of one tier, prepared for many kinds of other ends."""

    def __init__(
        self, policies: Sequence[Policy], direction: Direction, cells: Cells, numbers: Mapping[Peer, int]
    ) -> None:
        self._tier = policies[0].tier
        self._closes_staged = all(policy.staged for policy in policies)
        self.staged = any(policy.staged for policy in policies)
        self.told_apart = 0
        self._rules: list[tuple[bool, str, Action, list[tuple[Kind, int]]]] = []
        for policy in policies:
            for rule in policy.rules[direction]:
                clauses = [(1 << numbers[c.peer] if c.peer else 0, cells.of(c.ports)) for c in rule.clauses]
                self._rules.append((policy.staged, rule.ref.text, rule.action, clauses))
                for bit, _ in clauses:
                    self.told_apart |= bit

    def step(self, kind: Kind, *, staged: bool) -> _Step:
        """Return what is left for ends of one kind, with or without the staged policies in force."""
        lines = []
        for of_staged, rule, action, clauses in self._rules:
            if of_staged and not staged:
                continue
            ports = 0
            for bit, mask in clauses:
                if not bit or bit & kind:  # no bit: anybody
                    ports |= mask
            if ports:
                lines.append(_Line(rule, action, ports))
        return _Step(self._tier, lines, self._tier is Tier.TENANT and (staged or not self._closes_staged))


def _looks(vm: VirtualMachine) -> _Looks:
    return vm.scope, frozenset(vm.labels.items())


def _named(asked: Iterable[Sequence[Policy]]) -> tuple[tuple[PolicyName, ...], ...]:
    return tuple(tuple((policy.scope, policy.name) for policy in level) for level in asked)
