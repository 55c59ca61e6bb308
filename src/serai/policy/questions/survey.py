"""What every rule does anywhere: which ones ever match, which ones ever decide, and without which nothing would change.

Each kind of other end that a class of VMs can meet is asked about all ports at once (``cells.py``). Nothing is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, Peer, Policy, RuleRef, Tier
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.questions.cells import Cells
from serai.policy.questions.ladder import Rung, Step
from serai.policy.questions.remotes import Kind, kinds
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
class _Meeting:
    """VMs about which the same is asked in a direction, and whom they can meet."""

    direction: Direction
    levels: Sequence[Rung]
    kinds: Collection[Kind]
    """As far as the levels tell them apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """What has become of all ports behind some levels."""

    undecided: int
    final: tuple[tuple[str, int], ...] = ()
    """The lines that have decided, each with what it took."""


_Note = Callable[[Direction, Step, Iterator[Step], _State], _State]


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
        for note in (self._note_decisions, self._note_needs):
            known: dict[tuple[Rung, Kind, bool], _State] = {}
            for meeting in meetings:
                for kind in meeting.kinds:
                    for staged in (False, True) if meeting.levels and meeting.levels[-1].staged else (False,):
                        self._follow(meeting, kind, known, note, staged=staged)
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
            made: dict[_Asked, Rung] = {}
            for direction, named in here:
                rungs: list[Rung] = []
                for until in range(1, len(named) + 1):
                    path = direction, named[:until]
                    if path not in made:
                        policies = [self._policies[name] for name in named[until - 1]]
                        above = rungs[-1] if rungs else None
                        made[path] = Rung(policies, direction, self._cells, numbers, above)
                    rungs.append(made[path])
                told_apart = rungs[-1].told_apart if rungs else 0
                yield _Meeting(direction, rungs, {kind & told_apart for kind in met})

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

    def _follow(
        self,
        meeting: _Meeting,
        kind: Kind,
        known: dict[tuple[Rung, Kind, bool], _State],
        note: _Note,
        *,
        staged: bool,
    ) -> None:
        """Take all ports down the levels. Many VMs ask the same first, and nothing is noted of that twice."""
        state = _State(self._cells.everything)
        for at, level in enumerate(meeting.levels):
            key = level, kind & level.told_apart, staged and level.staged
            if key not in known:
                steps = (below.step(kind, staged=staged) for below in meeting.levels[at:])
                state = note(meeting.direction, next(steps), steps, state)
                # What comes behind matters in the tiers below.
                if level.tier is Tier.ADMIN:
                    known[key] = state
            else:
                state = known[key]

    def _note_decisions(self, direction: Direction, step: Step, behind: Iterator[Step], state: _State) -> _State:
        """Note which lines of a step decide, and what decides before the others; return what is behind it."""
        del behind
        undecided, passed = state.undecided, 0
        final = list(state.final)
        passes: list[tuple[str, int]] = []
        for line in step.lines:
            record = self._records[line.rule]
            record.matches = True
            took = line.ports & undecided
            if took:
                record.decides = True
                undecided &= ~took
                (passes if line.action is Action.PASS else final).append((line.rule, took))
                passed |= took if line.action is Action.PASS else 0
            elif not record.decides:
                left = line.ports
                for rule, ports in (*passes, *final):
                    if ports & line.ports:
                        record.before.add(rule)
                        left &= ~ports
                if left:
                    record.before.add(RuleRef.unmatched(direction).text)
        return _State(passed if step.closes else undecided | passed, tuple(final))

    def _note_needs(self, direction: Direction, step: Step, behind: Iterator[Step], state: _State) -> _State:
        """Note which lines of a step are needed for what they decide; return what is behind it."""
        undecided, passed = state.undecided, 0
        below: list[Step] | None = [] if step.tier is Tier.ADMIN else None
        for number, line in enumerate(step.lines):
            took = line.ports & undecided
            undecided &= ~took
            passed |= took if line.action is Action.PASS else 0
            record = self._records[line.rule]
            if took and not record.needed:
                below = list(behind) if below is None else below
                rest = [Step(step.tier, step.lines[number + 1 :], step.closes), *below]
                # Neither with the rules that never decide, nor when somebody has taken those away.
                alive = [
                    Step(s.tier, [other for other in s.lines if self._records[other.rule].decides], s.closes)
                    for s in rest
                ]
                instead = self._instead(direction, line.action, took, alive)
                if instead is None or self._instead(direction, line.action, took, rest) is None:
                    record.needed = True
                else:
                    record.instead |= instead
        return _State(passed if step.closes else undecided | passed)

    def _instead(self, direction: Direction, action: Action, ports: int, behind: Iterable[Step]) -> set[str] | None:
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


def _looks(vm: VirtualMachine) -> _Looks:
    return vm.scope, frozenset(vm.labels.items())


def _named(asked: Iterable[Sequence[Policy]]) -> tuple[tuple[PolicyName, ...], ...]:
    return tuple(tuple((policy.scope, policy.name) for policy in level) for level in asked)
