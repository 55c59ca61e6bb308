"""What every rule does anywhere: which ones ever match, which ones ever decide, and without which nothing would change.

Each kind of other end that a class of VMs can meet is asked about all ports at once (``cells.py``). Nothing is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Meeting:
    """VMs about which the same is asked in a direction, and whom they can meet."""

    direction: Direction
    levels: Sequence[_Level]
    kinds: Collection[Kind]
    """As far as the levels tell them apart."""


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
        meetings = list(self._meetings())
        for meeting in meetings:
            for steps in self._ways(meeting):
                self._note_decisions(meeting.direction, steps)
        for meeting in meetings:
            for steps in self._ways(meeting):
                self._note_needs(meeting.direction, steps)
        return Survey(rules=self._records, subjects=self._subjects)

    def _meetings(self) -> Iterator[_Meeting]:
        domains: dict[str, list[tuple[VirtualMachine, Vnic]]] = {}
        for vm, vnic in self._world.vnics():
            domains.setdefault(vnic.network.routing_domain, []).append((vm, vnic))
        asked = self._classes()
        for members in domains.values():
            here = {each for vm, _ in members for each in asked[_looks(vm)]}
            numbers = self._numbers(here)
            met = kinds(members, numbers)
            for direction, named in here:
                policies = ([self._policies[name] for name in level] for level in named)
                prepared = [_Level(level, direction, self._cells, numbers) for level in policies]
                told_apart = 0
                for level in prepared:
                    told_apart |= level.told_apart
                yield _Meeting(direction, prepared, {kind & told_apart for kind in met})

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

    def _ways(self, meeting: _Meeting) -> Iterator[list[_Step]]:
        """Go through all that can be asked one after the other, with the staged policies in force or without."""
        views = (False, True) if any(level.staged for level in meeting.levels) else (False,)
        for kind in meeting.kinds:
            for staged in views:
                yield [level.step(kind, staged=staged) for level in meeting.levels]

    def _taken(self, steps: Sequence[_Step]) -> Iterator[tuple[int, int, int]]:
        """Follow all ports down the steps: the step, the line in it, and the ports for which the line is the first."""
        undecided = self._cells.everything
        for at, step in enumerate(steps):
            passed = 0
            for number, line in enumerate(step.lines):
                took = line.ports & undecided
                undecided &= ~took
                passed |= took if line.action is Action.PASS else 0
                yield at, number, took
            undecided = passed if step.closes else undecided | passed

    def _note_decisions(self, direction: Direction, steps: Sequence[_Step]) -> None:
        """Note which lines decide, and what decides before the others."""
        before: list[tuple[int | None, str, int]] = []
        for at, number, took in self._taken(steps):
            line = steps[at].lines[number]
            record = self._records[line.rule]
            record.matches = True
            if took:
                record.decides = True
                before.append((at if line.action is Action.PASS else None, line.rule, took))
            elif not record.decides:
                left = line.ports
                for level, rule, ports in before:
                    if ports & line.ports and level in {None, at}:  # a Pass ends its own level only
                        record.before.add(rule)
                        left &= ~ports
                if left:
                    record.before.add(RuleRef.unmatched(direction).text)

    def _note_needs(self, direction: Direction, steps: Sequence[_Step]) -> None:
        """Note which lines that decide something are needed for that."""
        for at, number, took in self._taken(steps):
            step, line = steps[at], steps[at].lines[number]
            record = self._records[line.rule]
            if not took or record.needed:
                continue
            behind = [_Step(step.tier, step.lines[number + 1 :], step.closes), *steps[at + 1 :]]
            # Neither with the rules that never decide, nor when somebody has taken those away.
            alive = [
                _Step(s.tier, [other for other in s.lines if self._records[other.rule].decides], s.closes)
                for s in behind
            ]
            instead = self._instead(direction, line.action, took, alive)
            if instead is None or self._instead(direction, line.action, took, behind) is None:
                record.needed = True
            else:
                record.instead |= instead

    def _instead(self, direction: Direction, action: Action, ports: int, behind: Iterable[_Step]) -> set[str] | None:
        """Return what ``behind`` a line says its ``action`` of all ``ports`` as well; None where something else is said.

        In the Admin tier only the line's own level counts: what a level wants to be sure of does not become needless
        because those below it want the same for the time being.
        """
        found: set[str] = set()
        for step in behind:
            for line in step.lines:
                if line.ports & ports:
                    if line.action is not action:
                        return None
                    found.add(line.rule)
                    ports &= ~line.ports
            if not ports:
                return found
            if step.tier is Tier.ADMIN:  # a Pass goes on at the next level, and so does what nothing matches
                return found if action is Action.PASS else None
            if step.closes:
                found.add(RuleRef.unmatched(direction).text)
                return found if action is Action.DENY else None
        found.add(RuleRef.builtin(direction).text)
        return found if action is self._world.last_word[direction] else None


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
