"""One routing domain as the compiler sees it, and what other domains would have to share to be compiled along with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from serai.model.policy import Peer
from serai.model.tenancy import ROOT
from serai.policy.compiler.census import Members
from serai.policy.compiler.nest import Nest, Within
from serai.policy.compiler.spell import SpelledPolicy
from serai.policy.compiler.statutes import Statutes

Cell = tuple[int, Within]
"""Addresses that nothing tells apart: the place of their class, and the prefixes that they are in."""


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Domain:
    """A routing domain, and everything that decides what is said in it."""

    members: Members
    policies: tuple[SpelledPolicy, ...]
    """Those that may apply there, by scope and name."""
    peers: tuple[Peer, ...]
    """Whom the policies and the quarantine speak of, each once."""
    peer_names: tuple[bytes, ...]
    nest: Nest
    """Of the prefixes among the peers, in their order."""
    cells: tuple[Cell | None, ...]
    """Of each cell of the members; None where its addresses are not all in the same prefixes."""
    scattered: tuple[tuple[int, Cell], ...]
    """The addresses of such cells, by their places."""
    shape: tuple[object, ...]
    """Domains of one shape differ in names and numbers only: one is compiled, and stands for all."""

    @property
    def met(self) -> frozenset[Cell]:
        """The cells that are not empty."""
        return _met(self.cells, self.scattered)


def domain(members: Members, statutes: Statutes) -> Domain:
    """Bring together who is in a domain and what is said about it."""
    own = tuple(statutes.below(members.scopes))
    more: dict[bytes, Peer] = {}
    for policy in own:
        more |= policy.peers
    for name in statutes.known_peers & more.keys():
        del more[name]
    known = statutes.known_prefixes
    prefixes = dict.fromkeys([each for policy in own for each in policy.prefixes if each not in known])
    nested = statutes.nest_with(tuple(prefixes), more.values())
    within = [nested.at(first, last) for first, last, _, _ in members.runs]
    cells = tuple([None if (found := within[run]) is None else (class_, found) for class_, run in members.cells])
    scattered = tuple(_scattered(members, nested)) if None in cells else ()
    return Domain(
        members=members,
        policies=(*statutes.provider, *own),
        peers=(*statutes.peers, *more.values()),
        peer_names=(*statutes.peer_names, *more),
        nest=nested,
        cells=cells,
        scattered=scattered,
        shape=(
            statutes.text_for(members.root),
            tuple([policy.text if members.root == ROOT else policy.local for policy in own]),
            _mentioned(own, statutes),
            members.local_classes,
            members.local_kinds,
            _met(cells, scattered),
            nested.distinct,
            len(nested.rows),
        ),
    )


def _met(cells: Iterable[Cell | None], scattered: Iterable[tuple[int, Cell]]) -> frozenset[Cell]:
    """Put cells together; the order in which VMs came is no part of a shape."""
    return frozenset((*filter(None, cells), *(cell for _, cell in scattered)))


def _mentioned(policies: Iterable[SpelledPolicy], statutes: Statutes) -> tuple[str | int, ...]:
    """Tell which of the prefixes that policies mention are one, whatever they are; those that everybody has go by name."""
    own: dict[str, int] = {}
    known = statutes.known_prefixes
    return tuple([each if each in known else own.setdefault(each, len(own)) for p in policies for each in p.mentions])


def _scattered(members: Members, nested: Nest) -> Iterator[tuple[int, Cell]]:
    for first, last, begin, end in members.runs:
        if nested.at(first, last) is not None:
            continue
        for at in range(begin, end):
            address = members.addresses[at].tobytes()
            class_, _ = members.cells[int(members.address_cell[at])]
            yield at, (class_, nested.at(address, address) or ())
