"""One routing domain as the compiler sees it, and what other domains would have to share to be compiled along with it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from serai.model.address import Prefix
from serai.model.columns import Columns
from serai.model.policy import Action, Direction, InCidr, Peer
from serai.model.tenancy import ROOT, Scope
from serai.policy.census import Census
from serai.policy.nest import Nest, Within, nest
from serai.policy.spell import SpelledPolicy, name_of_peer

_OWN: Final = "$"
"""Stands for a tenant's scope; no name begins so."""
_PREFIX: Final = re.compile(r'(?<="prefix":")[^"]+')

Labels = str
"""Labels, written down: the same labels, the same text."""
Class = tuple[str, Labels, str]
"""What peers can tell apart: scope, labels, and the network's path."""
Kind = tuple[str, Labels, bool]
"""What policies can govern: scope, labels, and whether in quarantine."""
Cell = tuple[int, Within]
"""Addresses that nothing tells apart: the place of their class, and the prefixes that they are in."""


def spell_labels(labels: Mapping[str, str]) -> Labels:
    """Write labels down."""
    return json.dumps(dict(labels), sort_keys=True)


class Statutes:
    """What holds for every domain of a site: the provider's policies, the last words, the quarantine; and the others' policies.

    Attributes:
        last_word: what is said of a connection that no tier decides.
        peers: whom the provider's policies and the quarantine speak of, each once.
        peer_names: the 16 bytes that name each of them.
        prefixes: the prefixes among them.
        quarantine: what VMs in quarantine may reach.
    """

    def __init__(
        self,
        policies: Iterable[SpelledPolicy],
        last_word: Mapping[Direction, Action],
        quarantine: Sequence[Prefix],
    ) -> None:
        """Take all policies, in any order."""
        self.last_word = last_word
        self.quarantine = tuple(quarantine)
        self._by_scope: dict[Scope, list[SpelledPolicy]] = {}
        for policy in sorted(policies, key=lambda each: each.policy.name):
            self._by_scope.setdefault(policy.policy.scope, []).append(policy)
        provider = self._by_scope.get(ROOT, [])
        named = {n: p for each in provider for n, p in zip(each.peer_names, each.peers, strict=True)}
        named |= {name_of_peer(peer): peer for peer in (InCidr(prefix=prefix) for prefix in self.quarantine)}
        self.peers: tuple[Peer, ...] = tuple(named.values())
        self.peer_names = tuple(named)
        self.known_peers = frozenset(named)
        self.prefixes: tuple[Prefix, ...] = tuple(peer.prefix for peer in self.peers if isinstance(peer, InCidr))
        self.known_prefixes = frozenset(self.prefixes)
        self._nest = nest(self.prefixes)
        self.provider = tuple(provider)
        self.text = "\n".join(policy.text for policy in provider)
        words = [f"{direction} {last_word[direction]}" for direction in sorted(last_word)]
        self.title = "\n".join((*words, *map(str, self.quarantine))).encode()

    def nest_with(self, prefixes: Sequence[Prefix]) -> Nest:
        """Sort the provider's prefixes and these into each other; the provider's have the first places."""
        if not prefixes:
            return self._nest
        return self._nest.with_apart(prefixes, len(self.prefixes)) or nest((*self.prefixes, *prefixes))

    def below(self, scopes: Iterable[Scope]) -> Iterator[SpelledPolicy]:
        """Go through the policies of some scopes below the provider's, by scope and name."""
        for scope in scopes:
            yield from self._by_scope.get(scope, ())


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Domain:
    """A routing domain, and everything that decides what is said in it."""

    name: str
    policies: tuple[SpelledPolicy, ...]
    """Those that may apply there, by scope and name."""
    scopes: tuple[Scope, ...]
    """Where a change of policies matters to it, but for the provider's."""
    peers: tuple[Peer, ...]
    """Whom the policies and the quarantine speak of, each once."""
    peer_names: tuple[bytes, ...]
    nest: Nest
    """Of the prefixes among the peers, in their order."""
    classes: tuple[Class, ...]
    kinds: tuple[Kind, ...]
    cells: list[Cell | None]
    """Of each cell of the census; None where its addresses are not all in the same prefixes."""
    scattered: list[tuple[int, Cell]]
    """The addresses of such cells, by their places in the census."""
    shape: tuple[object, ...]
    """Domains of one shape differ in names and numbers only: one is compiled, and stands for all."""


class Reader:
    """Makes domains out of a census."""

    def __init__(self, columns: Columns, found: Census, statutes: Statutes) -> None:
        """Read the members from ``columns``, sorted in ``found``."""
        self._columns, self._census, self._statutes = columns, found, statutes
        self._lineages: dict[int, tuple[Scope, ...]] = {}
        self._labels: dict[int, Labels] = {}
        tables = {"classes": found.classes, "kinds": found.kinds, "runs": found.runs, "cells": found.cells}
        everybody = np.arange(len(found.domains))
        self._tables: dict[str, list[list[int]]] = {name: rows.tolist() for name, rows in tables.items()}
        self._ends: dict[str, list[int]] = {
            name: [0, *np.searchsorted(rows[:, 0], everybody, side="right").tolist()] for name, rows in tables.items()
        }

    def domain(self, place: int) -> Domain:
        """Make the domain at this place of the census."""
        columns = self._columns
        classes = self._rows("classes", place)
        lineages = [self._lineage(scope) for _, scope, _, _ in classes]
        scopes = sorted({scope for lineage in lineages for scope in lineage[1:]})
        roots = {lineage[1] if len(lineage) > 1 else ROOT for lineage in lineages}
        root = roots.pop() if len(roots) == 1 else ROOT
        local = _local(root)

        own = tuple(self._statutes.below(scopes))
        peers, names, nested = self._peers(own)
        class_of = [
            (local(columns.scopes[s]), self._label(lb), local(columns.networks[n].path)) for _, s, lb, n in classes
        ]
        sorted_classes = sorted(set(class_of))
        places = {each: at for at, each in enumerate(sorted_classes)}
        first = self._ends["classes"][place]
        cells, scattered = self._cells(place, nested, [places[each] for each in class_of], first)
        kinds = [(columns.scopes[s], self._label(lb), bool(isolated)) for _, s, lb, isolated in self._rows("kinds", place)]
        kinds = sorted(set(kinds))
        real = {each: (columns.scopes[s], self._label(lb), columns.networks[n].path) for each, (_, s, lb, n) in zip(class_of, classes, strict=True)}
        return Domain(
            name=self._census.domains[place],
            policies=(*self._statutes.provider, *own),
            scopes=tuple(scopes),
            peers=peers,
            peer_names=names,
            nest=nested,
            classes=tuple(real[each] for each in sorted_classes),
            kinds=tuple(kinds),
            cells=cells,
            scattered=scattered,
            shape=(
                self._impersonal(self._statutes.text, root),
                self._impersonal("\n".join([policy.text for policy in own]), root, own),
                tuple(sorted_classes),
                tuple([(local(scope), labels, isolated) for scope, labels, isolated in kinds]),
                frozenset((*(cell for cell in cells if cell), *(cell for _, cell in scattered))),
                nested.distinct,
                len(nested.rows),
            ),
        )

    def _peers(self, own: Sequence[SpelledPolicy]) -> tuple[tuple[Peer, ...], tuple[bytes, ...], Nest]:
        known = self._statutes.known_peers
        more = {n: p for policy in own for n, p in zip(policy.peer_names, policy.peers, strict=True) if n not in known}
        prefixes = [peer.prefix for peer in more.values() if isinstance(peer, InCidr)]
        return (
            (*self._statutes.peers, *more.values()),
            (*self._statutes.peer_names, *more),
            self._statutes.nest_with(prefixes),
        )

    def _impersonal(self, text: str, root: Scope, policies: Iterable[SpelledPolicy] = ()) -> str:
        """Take the tenant's own name, and prefixes that are its own, out of a text, so that other tenants' reads the same."""
        if root != ROOT and f'"{root}' in text:
            for mark in '"/:':
                text = text.replace(f'"{root}{mark}', f'"{_OWN}{mark}')
        known = self._statutes.known_prefixes
        own = {str(prefix) for policy in policies for prefix in policy.prefixes if prefix not in known}
        if not own:
            return text
        seen: dict[str, str] = {}

        def token(match: re.Match[str]) -> str:
            return seen.setdefault(match[0], f"{_OWN}{len(seen)}") if match[0] in own else match[0]

        return _PREFIX.sub(token, text)

    def _cells(
        self, place: int, nested: Nest, class_of: Sequence[int], first_class: int
    ) -> tuple[list[Cell | None], list[tuple[int, Cell]]]:
        raw = self._census.addresses
        within: dict[int, Within | None] = {}
        scattered: list[tuple[int, Cell]] = []
        for run, (_, begin, end) in enumerate(self._rows("runs", place), self._ends["runs"][place]):
            within[run] = nested.at(raw[begin].tobytes(), raw[end - 1].tobytes())
        rows = self._rows("cells", place)
        cells: list[Cell | None] = []
        for _, class_, run in rows:
            found = within[run]
            cells.append(None if found is None else (class_of[class_ - first_class], found))
        if None in cells:
            first_cell = self._ends["cells"][place]
            for run, (_, begin, end) in enumerate(self._rows("runs", place), self._ends["runs"][place]):
                if within[run] is None:
                    for at in range(begin, end):
                        address = raw[at].tobytes()
                        inside = nested.at(address, address)
                        class_ = rows[int(self._census.address_cell[at]) - first_cell][1]
                        scattered.append((at, (class_of[class_ - first_class], inside or ())))
        return cells, scattered

    def _rows(self, name: str, place: int) -> list[list[int]]:
        ends = self._ends[name]
        return self._tables[name][ends[place] : ends[place + 1]]

    def _lineage(self, scope: int) -> tuple[Scope, ...]:
        found = self._lineages.get(scope)
        if found is None:
            found = self._lineages[scope] = self._columns.scopes[scope].lineage
        return found

    def _label(self, labels: int) -> Labels:
        found = self._labels.get(labels)
        if found is None:
            found = self._labels[labels] = spell_labels(self._columns.labels[labels])
        return found


def _local(root: Scope) -> Callable[[str], str]:
    """Return how scopes and paths read from ``root``."""
    if root == ROOT:
        return str
    size = len(root)

    def local(path: str) -> str:
        inside = path.startswith(root) and path[size : size + 1] in {"", "/", ":"}
        return _OWN + path[size:] if inside else str(path)

    return local
