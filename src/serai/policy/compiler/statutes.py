"""What holds for every domain of a site, and what is there for some: all policies, at hand by scope."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Self

from serai.model.address import Prefix
from serai.model.policy import Action, Direction, InCidr, Peer, Policy, PortRange
from serai.model.tenancy import ROOT, Scope
from serai.policy.compiler.nest import Nest, nest
from serai.policy.compiler.spell import SpelledPolicy, impersonal, name_of_peer

_TENANT: Final = re.compile(r'(?<=")/[a-z0-9-]+')
_LATER: Final = 256
"""How many scopes may have other policies than at first before all are put together again."""
_NESTS: Final = 1 << 14
"""How many nests are kept at hand: many tenants have the same few prefixes of their own."""


class Statutes:
    """All policies, the site's last words and its quarantine. Never changes: what does is another one.

    Attributes:
        last_word: what is said of a connection that no tier decides.
        quarantine: what VMs in quarantine may reach.
        provider: the policies that may apply everywhere, by name.
        peers: whom these and the quarantine speak of, each once.
        peer_names: the 16 bytes that name each of them.
        places: where each of them is spoken of.
        prefixes: the prefixes among them.
        text: the provider's policies, written down.
        title: the last words and the quarantine, written down.
    """

    def __init__(
        self,
        by_scope: Mapping[Scope, Sequence[SpelledPolicy]],
        last_word: Mapping[Direction, Action],
        quarantine: Sequence[Prefix],
        later: Mapping[Scope, Sequence[SpelledPolicy]] = MappingProxyType({}),
    ) -> None:
        """Take the policies of each scope, by name (``of`` brings them into that order); ``later`` overrules ``by_scope``."""
        self._by_scope, self._later = by_scope, later
        self.last_word = last_word
        self.quarantine = tuple(quarantine)
        self.provider = tuple(self._of(ROOT))
        named = {name: peer for each in self.provider for name, peer in each.peers.items()}
        named |= {name_of_peer(peer): peer for peer in (InCidr(prefix=prefix) for prefix in self.quarantine)}
        self.peers: tuple[Peer, ...] = tuple(named.values())
        self.peer_names = tuple(named)
        self.known_peers = frozenset(named)
        self.prefixes: tuple[Prefix, ...] = tuple(peer.prefix for peer in self.peers if isinstance(peer, InCidr))
        self.known_prefixes = frozenset(map(str, self.prefixes))
        self.places = places_of(self.provider, self.quarantine)
        self.condensed: dict[object, list[Policy]] = {}
        """The provider's policies as compiled before, by how their peers were grouped."""
        self._nest = nest(self.prefixes)
        self._nests: dict[tuple[str, ...], Nest] = {}
        self.text = "\n".join(each.text for each in self.provider)
        self._tenants = frozenset(_TENANT.findall(self.text))
        words = [f"{direction} {last_word[direction]}" for direction in sorted(last_word)]
        self.title = "\n".join((*words, *map(str, self.quarantine))).encode()

    @classmethod
    def of(
        cls,
        policies: Iterable[SpelledPolicy],
        last_word: Mapping[Direction, Action],
        quarantine: Sequence[Prefix],
    ) -> Self:
        """Take all policies, in any order."""
        by_scope: dict[Scope, list[SpelledPolicy]] = {}
        for each in sorted(policies, key=_by_name):
            by_scope.setdefault(each.policy.scope, []).append(each)
        return cls(by_scope, last_word, quarantine)

    def replaced(
        self,
        policies: Mapping[tuple[Scope, str], SpelledPolicy | None],
        last_word: Mapping[Direction, Action] | None,
        quarantine: Sequence[Prefix] | None,
    ) -> Statutes:
        """Return the statutes with other policies under some names (None: with none), and what else is given."""
        if not policies and last_word is None and quarantine is None:
            return self
        later = dict(self._later)
        for (scope, name), policy in policies.items():
            others = [each for each in later.get(scope, self._by_scope.get(scope, ())) if each.policy.name != name]
            later[scope] = sorted([*others, policy] if policy else others, key=_by_name)
        # A copy of all scopes for every edit would cost more than the edit.
        many = len(later) > _LATER
        return Statutes(
            {**self._by_scope, **later} if many else self._by_scope,
            self.last_word if last_word is None else last_word,
            self.quarantine if quarantine is None else quarantine,
            {} if many else later,
        )

    def text_for(self, root: Scope) -> str:
        """Return the provider's policies, as they read from a tenant's scope."""
        return impersonal(self.text, root) if root in self._tenants else self.text

    def alike(self, other: Statutes) -> bool:
        """Say whether what holds everywhere is the same."""
        return (self.text, self.title) == (other.text, other.title)

    def nest_with(self, written: tuple[str, ...], peers: Iterable[Peer]) -> Nest:
        """Sort the provider's prefixes and those among ``peers`` into each other; the provider's have the first places.

        ``written`` are those among ``peers``, written down.
        """
        if not written:
            return self._nest
        found = self._nests.get(written)
        if found is None:
            prefixes = [peer.prefix for peer in peers if isinstance(peer, InCidr)]
            found = self._nest.with_apart(prefixes, len(self.prefixes)) or nest((*self.prefixes, *prefixes))
            if len(self._nests) < _NESTS:
                self._nests[written] = found
        return found

    def _of(self, scope: Scope) -> Sequence[SpelledPolicy]:
        found = self._later.get(scope)
        return self._by_scope.get(scope, ()) if found is None else found

    def everything(self) -> Iterator[SpelledPolicy]:
        """Go through all policies."""
        return self.below(self._by_scope.keys() | self._later.keys())

    def below(self, scopes: Iterable[Scope]) -> Iterator[SpelledPolicy]:
        """Go through the policies of some scopes, scope by scope, by name."""
        for scope in scopes:
            yield from self._of(scope)


Spoken = tuple[Direction, int, tuple[PortRange, ...]]
"""Where a peer is spoken of: the direction, the rule (by its ``id``), and the ports."""


def places_of(
    policies: Iterable[SpelledPolicy], quarantine: Iterable[Prefix] = ()
) -> dict[Peer, frozenset[Spoken | None]]:
    """Return where each peer is spoken of; None stands for the quarantine."""
    places: dict[Peer, set[Spoken | None]] = {InCidr(prefix=prefix): {None} for prefix in quarantine}
    for each in policies:
        for direction, rules in each.policy.rules.items():
            for rule in rules:
                for clause in rule.clauses:
                    if clause.peer is not None:
                        places.setdefault(clause.peer, set()).add((direction, id(rule), clause.ports))
    return {peer: frozenset(found) for peer, found in places.items()}


def _by_name(each: SpelledPolicy) -> str:
    return each.policy.name
