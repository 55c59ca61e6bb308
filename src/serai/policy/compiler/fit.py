"""Does a host have room for what it is to hold? Asked before anything is sent, so that nothing is ever half applied."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import numpy as np

from serai.model.form import GAP, NOTHING, WORD
from serai.model.policy import InCidr
from serai.model.records import CAPACITY, DECISION, PAGE, VNICS
from serai.model.ruleset_form import FrozenBook, FrozenDomain
from serai.policy.compiler.part import Part, itemized
from serai.policy.compiler.statutes import Statutes
from serai.policy.compiler.template import BUILTIN

_NAMED: Final = 5
"""How many of the dearest rules an error names."""

_BUILTIN: Final = frozenset(ref.text for ref in BUILTIN)
_PAGE_WORDS: Final = PAGE.itemsize // WORD
_DECISION_WORDS: Final = DECISION.itemsize // WORD
_DECISIONS: Final = 4
"""The word of a page at which decisions begin, each with the rule in force."""

Capacity = Mapping[str, int]
"""Room for vNICs (``vnics``) and for records of each table, on one host."""

ROOM: Final[Capacity] = {"vnics": VNICS, **CAPACITY}
"""What a host has room for."""


class FitError(ValueError):
    """A host has no room for its rulesets; the message says of what there is too much, and by whose doing."""


def require_fit(host: str, cost: int, parts: Mapping[bytes, Part], statutes: Statutes, room: Capacity) -> None:
    """See to it that parts, those in force and those to come, fit into the tables of ``host`` side by side.

    Args:
        host: its name, for the error.
        cost: of all parts together; lists and pages that several domains share are counted for each.
        parts: all that it must hold at once, by digest.
        statutes: what was compiled into them.
        room: what the host has room for.

    Raises:
        FitError: they do not fit.
    """
    needed = itemized(cost)
    for name, most in room.items():
        if needed[name] > most:
            raise FitError(
                f"host {host} would have to hold up to {needed[name]} {name}, and has room for {most}: "
                f"{_whose(name, parts, statutes)}"
            )


def _whose(name: str, parts: Mapping[bytes, Part], statutes: Statutes) -> str:
    match name:
        case "vnics":
            return "let some of its VMs run elsewhere"
        case "endpoints":
            return "its VMs are in routing domains that have too many addresses; let some of them run elsewhere"
        case "prefixes":
            costs = _prefixes_by_rule(statutes)
        case _:
            costs = _intervals_by_rule(parts)
    ordered = sorted(costs.items(), key=lambda each: (-each[1], each[0]))  # of equals, always the same ones
    dearest = ", ".join(f"{rule} ({count})" for rule, count in ordered[:_NAMED])
    return f"the rules that cost most are {dearest}" if dearest else "let some of its VMs run elsewhere"


def _prefixes_by_rule(statutes: Statutes) -> collections.Counter[str]:
    """Count how many prefixes each rule speaks of."""
    costs: collections.Counter[str] = collections.Counter()
    for each in statutes.everything():
        for rules in each.policy.rules.values():
            for rule in rules:
                costs[rule.ref.text] += len({clause.peer for clause in rule.clauses if isinstance(clause.peer, InCidr)})
    return +costs


def _intervals_by_rule(parts: Mapping[bytes, Part]) -> collections.Counter[str]:
    """Count in how many intervals of pages each rule decides."""
    costs: collections.Counter[str] = collections.Counter()
    for used in parts:
        domain, book = used[:32], used[32:]
        if book:
            root = msgspec.msgpack.decode(parts[domain].raw, type=FrozenDomain).root
            for rule, count in _intervals(msgspec.msgpack.decode(parts[book].raw, type=FrozenBook)):
                costs[root + rule[1:] if rule.startswith("$") else rule] += count
    return costs


def _intervals(book: FrozenBook) -> Iterator[tuple[str, int]]:
    gaps = np.frombuffer(book.pages.gaps, GAP)
    places = np.unique(gaps["place"][gaps["place"] != NOTHING])
    in_force = gaps[
        (gaps["word"] % _PAGE_WORDS >= _DECISIONS) & ((gaps["word"] % _PAGE_WORDS - _DECISIONS) % _DECISION_WORDS == 0)
    ]
    # Rules come first among the numbers, in the order in which the book names them; every one that it names decides in it.
    for rule, place in zip(book.rules, places.tolist(), strict=False):
        if rule not in _BUILTIN:
            yield rule, int((in_force["place"] == place).sum())
