"""Does a host have room for what it is to hold? Asked before anything is sent, so that nothing is ever half applied."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Final

import numpy as np

from serai.model.policy import InCidr
from serai.model.records import CAPACITY, TABLES, VNICS, Step
from serai.model.ruleset import HostRuleset
from serai.policy.part import Part, itemized
from serai.policy.statutes import Statutes

_NAMED: Final = 5
"""How many of the dearest rules an error names."""

Capacity = Mapping[str, int]
"""Room for vNICs (``vnics``) and for records of each table, on one host."""

ROOM: Final[Capacity] = {"vnics": VNICS, **CAPACITY}
"""What a host has room for."""


class FitError(ValueError):
    """A host has no room for its rulesets; the message says of what there is too much, and by whose doing."""


def require_fit(
    host: str, cost: int, parts: Mapping[bytes, Part], statutes: Statutes, room: Capacity
) -> None:
    """See to it that ``parts``, those in force and those to come, fit into the tables of ``host`` side by side.

    Args:
        host: its name, for the error.
        cost: of all parts together; more than it is where parts share records.
        parts: all that it must hold at once, by digest.
        statutes: what was compiled into them.
        room: what the host has room for.

    Raises:
        FitError: they do not fit.
    """
    needed = itemized(cost)
    if all(needed[name] <= room[name] for name in room):
        return
    # Parts may share records: only now is it worth the time to count exactly.
    ruleset = HostRuleset(host=host, parts={digest: part.raw for digest, part in parts.items() if part.raw})
    needed = {"vnics": itemized(cost)["vnics"], **{name: len(ruleset.tables[name]) for name in TABLES}}
    for name in room:
        if needed[name] > room[name]:
            raise FitError(
                f"host {host} would have to hold {needed[name]} {name}, and has room for {room[name]}: "
                f"{_whose(name, ruleset, statutes)}"
            )


def _whose(name: str, ruleset: HostRuleset, statutes: Statutes) -> str:
    match name:
        case "vnics":
            return "let some of its VMs run elsewhere"
        case "endpoints":
            return "its VMs are in routing domains that have too many addresses; let some of them run elsewhere"
        case "prefixes":
            costs = _prefixes_by_rule(statutes)
        case _:
            costs = _pages_by_rule(ruleset)
    dearest = ", ".join(f"{rule} ({count})" for rule, count in costs.most_common(_NAMED))
    return f"the rules that cost most are {dearest}"


def _prefixes_by_rule(statutes: Statutes) -> collections.Counter[str]:
    """Count how many prefixes each rule speaks of."""
    costs: collections.Counter[str] = collections.Counter()
    for each in statutes.everything():
        for rules in each.policy.rules.values():
            for rule in rules:
                costs[rule.ref.text] += len({clause.peer for clause in rule.clauses if isinstance(clause.peer, InCidr)})
    return costs


def _pages_by_rule(ruleset: HostRuleset) -> collections.Counter[str]:
    """Count in how many intervals of pages each rule decides."""
    decisions = ruleset.tables["pages"]["decisions"]
    spoken = decisions["rule"][np.isin(decisions["step"], (Step.ACCEPT, Step.DENY))]
    texts = ruleset.rule_texts()
    numbers, counts = np.unique(spoken, return_counts=True)
    return collections.Counter({texts[at]: n for at, n in zip(numbers.tolist(), counts.tolist(), strict=True)})
