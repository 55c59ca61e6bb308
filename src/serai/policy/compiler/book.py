"""Binds what rules decide into books: records of lists and pages, with places where numbers belong."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Final

from serai.model.form import NOTHING, WORD, Form, Place
from serai.model.policy import RuleRef
from serai.model.records import LIST, PAGE
from serai.model.ruleset_form import FrozenBook, FrozenForm
from serai.policy.compiler.pages import Sheet, lay_out
from serai.policy.compiler.part import Part, cost_of
from serai.policy.flatten import DecisionList

EVERYBODY: Final = 0
"""The place of the identity of whoever is one of no group."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Book:
    """What a VM's gate looks decisions up in: the rulesets of both directions."""

    egress: int
    """Its place among the rulesets."""
    ingress: int
    part: Part
    """A ``FrozenBook``."""
    cost: int
    """Of filling it in for one domain (see ``Part.cost``)."""


class Binder:
    """Makes books out of rulesets and lists."""

    def __init__(
        self,
        rules: Mapping[RuleRef, Place],
        names: Sequence[str],
        identities: int,
        rulesets: Sequence[Sequence[tuple[int, int]]],
        lists: Sequence[DecisionList],
    ) -> None:
        """Bind what was compiled for one shape.

        Args:
            rules: the place of each rule's number.
            names: how each of them is called, in that order.
            identities: how many there are.
            rulesets: what each ruleset applies: pairs of an identity and a list, by their places.
            lists: the decision lists.
        """
        self._rulesets, self._names = rulesets, names
        self._first_identity = 1 + len(rules)
        self._first_ruleset = self._first_identity + identities
        self._first_list = self._first_ruleset + len(rulesets)
        self.inner: list[tuple[int, bytes]] = []
        """Pages below others: the list that each belongs to, and what tells it from others of that list."""
        first_inner = self._first_list + len(lists)

        def inner(at: int, what: bytes) -> Place:
            self.inner.append((at, what))
            return first_inner + len(self.inner) - 1

        self._pages = [
            lay_out(decisions, self._first_list + at, rules.__getitem__, functools.partial(inner, at))
            for at, decisions in enumerate(lists)
        ]
        self._spoken = [
            {rules[said.ref] - 1 for found in decisions.values() for i in found for said in (i.said, i.staged)}
            for decisions in lists
        ]

    def book(self, egress: int, ingress: int) -> Book:
        """Bind the rulesets of both directions, by their places."""
        gaps: list[tuple[int, Place]] = []
        used: dict[int, None] = {}
        for ruleset in dict.fromkeys((egress, ingress)):
            for identity, found in self._rulesets[ruleset]:
                who = NOTHING if identity == EVERYBODY else self._first_identity + identity
                gaps += enumerate((self._first_ruleset + ruleset, who, self._first_list + found), start=len(gaps))
                used[found] = None
        sheet = Sheet()
        for found in used:
            sheet.write(self._pages[found])
        lists, pages = Form.of(bytes(len(gaps) * WORD), gaps), sheet.form()
        spoken = sorted(set().union(*(self._spoken[found] for found in used)))
        book = FrozenBook(
            lists=FrozenForm(lists.text, lists.gaps),
            pages=FrozenForm(pages.text, pages.gaps),
            rules=[self._names[at] for at in spoken],
        )
        return Book(
            egress=egress, ingress=ingress, part=Part.of(book),
            cost=cost_of(lists=len(lists.text) // LIST.itemsize, pages=len(pages.text) // PAGE.itemsize),
        )  # fmt: skip
