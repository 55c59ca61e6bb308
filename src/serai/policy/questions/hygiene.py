"""What is wrong with policies that are sound: rules that say nothing, say it twice, or say too much."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Sequence

from serai.model.places import Places
from serai.model.policy import Action, Direction, Policy, Rule, RuleRef, Tier
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.match import Remote, is_peer
from serai.policy.questions.cells import Cells
from serai.policy.questions.permissive import RANGES, too_much
from serai.policy.questions.survey import survey
from serai.policy.questions.traffic import Traffic

_NAMED = 3
"""How many of the other rules a sentence names."""


class Kind(enum.StrEnum):
    """What is wrong, in the order in which it is looked for: a rule has the first of the first five that fits."""

    UNUSED = "unused"
    """The policy selects no VM, or none of the rule's peers is anybody whom its VMs can meet."""
    DUPLICATE = "duplicate"
    """An earlier rule of the same level says exactly the same."""
    CONTRADICTORY = "contradictory"
    """An earlier rule of the same level says something else of exactly the same traffic."""
    SHADOWED = "shadowed"
    """Wherever it matches, something else has decided before."""
    REDUNDANT = "redundant"
    """It decides, but without it every verdict would be the same."""
    CONSOLIDATABLE = "consolidatable"
    """It and those right behind it could be one rule."""
    OVER_PERMISSIVE = "over-permissive"
    """It accepts nearly everybody on every port (``permissive.py`` says what that is)."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Other:
    """Another rule that has to do with a finding."""

    file: str
    line: int
    rule: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that should be tidied up."""

    kind: Kind
    file: str
    line: int
    """Where the rule begins, or where the policy has its name; counted from 1."""
    rule: str
    """The text of the rule's reference; the policy's path where the policy as a whole is meant."""
    message: str
    """One or two sentences: what it is, and what to do."""
    others: tuple[Other, ...]
    """The rules that it has to do with, by file and line; the tiers' own last words are none."""


def examine(world: World, places: Places) -> tuple[Finding, ...]:
    """Return all that should be tidied up in the policies of ``world``, by file and line.

    Each finding holds as long as nothing else changes: of two rules that are both redundant, one may be needed when the
    other is gone.

    Raises:
        KeyError: ``places`` does not know a rule of ``world``.
    """
    ranges = {r for rule in _rules(world.policies) for clause in rule.clauses for r in clause.ports}
    cells = Cells({*ranges, *RANGES})
    found = []
    for kind, name, message, others in _Examiner(world, cells).remarks():
        place = places.of(name)
        at = sorted(Other(places.of(other).file, places.of(other).line, other) for other in others)
        found.append(Finding(kind=kind, file=place.file, line=place.line, rule=name, message=message, others=tuple(at)))
    return tuple(sorted(found, key=lambda f: (f.file, f.line, f.rule, f.kind)))


_Remark = tuple[Kind, str, str, tuple[str, ...]]
"""Kind, rule or policy, message, other rules."""


_Level = tuple[Tier, Scope | None]
"""A tier and, outside the Tenant tier, the scope."""


class _Examiner:
    def __init__(self, world: World, cells: Cells) -> None:
        self._world = world
        self._cells = cells
        self._survey = survey(world, cells)
        self._traffic = {rule.ref.text: Traffic.of(rule, cells) for rule in _rules(world.policies)}
        self._levels = {rule.ref.text: _level(policy) for policy in world.policies for rule in _rules([policy])}
        self._governed = dict.fromkeys(Direction, 0)
        for policy in world.policies:
            if policy.tier is Tier.TENANT and not policy.staged:
                for direction in policy.rules:
                    self._governed[direction] |= self._subjects(policy)

    def remarks(self) -> Iterator[_Remark]:
        levels: dict[tuple[_Level, Direction], list[Policy]] = {}
        for policy in self._world.policies:
            if not self._subjects(policy):
                name = f"{policy.scope}:{policy.name}"
                yield Kind.UNUSED, name, "Selects no VM: correct its subject, or take it away.", ()
                continue
            for direction in policy.rules:
                levels.setdefault((_level(policy), direction), []).append(policy)
        for (_, direction), policies in levels.items():
            yield from self._level(sorted(policies, key=lambda p: (p.priority, p.name, p.scope)), direction)

    def _level(self, policies: Iterable[Policy], direction: Direction) -> Iterator[_Remark]:
        """Go through the rules of one level in the order in which they are asked."""
        same: dict[Traffic, list[tuple[Policy, Rule]]] = {}
        for policy in policies:
            for rule in policy.rules[direction]:
                record, traffic = self._survey.rules[rule.ref.text], self._traffic[rule.ref.text]
                earlier = same.setdefault(traffic, [])
                if not record.matches:
                    yield Kind.UNUSED, rule.ref.text, self._nobody(rule), ()
                elif not record.decides:
                    yield self._too_late(policy, direction, rule, earlier)
                elif not record.needed:
                    yield Kind.REDUNDANT, rule.ref.text, *self._said_anyway(rule)
                if record.decides and rule.action is Action.ACCEPT:
                    yield from self._permissive(policy, direction, rule)
                earlier.append((policy, rule))
            yield from self._consolidatable(policy.rules[direction])

    def _subjects(self, policy: Policy) -> int:
        return self._survey.subjects[policy.scope, policy.name]

    def _nobody(self, rule: Rule) -> str:
        """Say why a rule never matches."""
        ends = (Remote(address=a, holder=(vm, vnic)) for vm, vnic in self._world.vnics() for a in vnic.held)
        if any(is_peer(clause.peer, end) for end in ends for clause in rule.clauses):
            why = "its peers have no routing domain in common with the VMs of its policy"
        else:
            why = "no VM is one of its peers"
        return f"Matches nobody: {why}. Correct the peers, or take it away."

    def _too_late(
        self, policy: Policy, direction: Direction, rule: Rule, same: Iterable[tuple[Policy, Rule]]
    ) -> _Remark:
        """Say why a rule that matches never decides; ``same`` are earlier rules about the same traffic."""
        name = rule.ref.text
        twin = next((other for by, other in same if self._covers(by, policy)), None)
        if twin and twin.action is rule.action:
            return Kind.DUPLICATE, name, f"Says what {twin.ref.text} says: take one of the two away.", (twin.ref.text,)
        if twin:
            what = f"Says {rule.action} where {twin.ref.text} says {twin.action} before it, of the same traffic"
            return Kind.CONTRADICTORY, name, f"{what}: it never counts. Take one of the two away.", (twin.ref.text,)
        before = self._survey.rules[name].before
        rules = self._written(before)
        if not rules or (policy.tier is Tier.BASELINE and not self._subjects(policy) & ~self._governed[direction]):
            what = f"Never asked: wherever it matches, Tenant policies govern the {direction}"
            return Kind.SHADOWED, name, f"{what}. Take it away, unless other VMs are to come.", ()
        what = f"{_listed(rules)} {'decides' if len(rules) == 1 else 'decide'} first"
        if len(rules) < len(before):
            what += f", and the rest is denied by the Tenant tier ({RuleRef.unmatched(direction).text})"
        # What another level or tier has decided, no other place in its own would change.
        movable = any(self._levels[other] == self._levels[name] for other in rules)
        return Kind.SHADOWED, name, f"Never decides: {what}. Take it away{', or move it up' if movable else ''}.", rules

    def _covers(self, earlier: Policy, later: Policy) -> bool:
        """Say whether the earlier policy is asked whenever the later one is."""
        return not self._subjects(later) & ~self._subjects(earlier) and later.staged >= earlier.staged

    def _said_anyway(self, rule: Rule) -> tuple[str, tuple[str, ...]]:
        """Say what makes a rule that decides redundant, and which rules have to do with it."""
        instead = self._survey.rules[rule.ref.text].instead
        rules = self._written(instead)
        if rules:
            why = f"{_listed(rules)} would say the same"
        elif rule.action is Action.PASS:
            why = "behind it, its level says nothing of what it passes"
        else:
            why = f"{', '.join(sorted(instead))} would say the same"
        return f"Changes no verdict: {why}. Take it away.", rules

    def _written(self, refs: Iterable[str]) -> tuple[str, ...]:
        """Pick the rules; last words are none."""
        return tuple(sorted(ref for ref in refs if ref in self._traffic))

    def _consolidatable(self, rules: Sequence[Rule]) -> Iterator[_Remark]:
        """Find runs of neighbors, all of them needed, that one rule could say."""
        at = 0
        while at < len(rules):
            end = at + 1
            alike = self._alike(rules, end)
            while alike and self._alike(rules, end) == alike:
                end += 1
            if alike:
                behind = tuple(rule.ref.text for rule in rules[at + 1 : end])
                several = "rule" if len(behind) == 1 else f"{len(behind)} rules"
                what = f"Has the same action and {alike} as the {several} behind it, {_listed(behind)}"
                yield Kind.CONSOLIDATABLE, rules[at].ref.text, f"{what}: make one rule of them.", behind
            at = end

    def _alike(self, rules: Sequence[Rule], at: int) -> str:
        """Say what a rule has in common with the one before it, where one rule could say both."""
        if at == len(rules) or rules[at - 1].action is not rules[at].action:
            return ""
        before, rule = rules[at - 1].ref.text, rules[at].ref.text
        if not (self._survey.rules[before].needed and self._survey.rules[rule].needed):
            return ""
        return self._traffic[before].in_common(self._traffic[rule])

    def _permissive(self, policy: Policy, direction: Direction, rule: Rule) -> Iterator[_Remark]:
        # Where the site accepts by default, saying so below the Admin tier gives nothing away.
        if policy.tier is not Tier.ADMIN and self._world.last_word[direction] is Action.ACCEPT:
            return
        much = too_much(self._traffic[rule.ref.text], self._cells)
        if much:
            message = f"Accepts {much}: name the peers or the ports that are meant."
            yield Kind.OVER_PERMISSIVE, rule.ref.text, message, ()


def _rules(policies: Iterable[Policy]) -> Iterator[Rule]:
    return (rule for policy in policies for rules in policy.rules.values() for rule in rules)


def _level(policy: Policy) -> _Level:
    return policy.tier, None if policy.tier is Tier.TENANT else policy.scope


def _listed(refs: Sequence[str]) -> str:
    """Name a few rules."""
    shown = list(refs[:_NAMED])
    if len(refs) > len(shown):
        shown.append(f"{len(refs) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
