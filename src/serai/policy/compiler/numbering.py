"""Gives the domains of a compiled shape their numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serai.model.records import PREFIX
from serai.policy.compiler.domain import Domain
from serai.policy.compiler.spell import NOBODY, give, joined
from serai.policy.compiler.statutes import Statutes
from serai.policy.compiler.template import BUILTIN, Template

_BUILTIN: Final = tuple(ref.id.to_bytes(8, "little") for ref in BUILTIN)
_VIEW_BITS: Final = 64


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """A domain with all its numbers."""

    view: bytes
    """Its number, 8 bytes."""
    numbers: list[bytes]
    """What the template's books are filled in from, 8 bytes each."""
    identities: bytes
    """Those of its identities."""
    rulesets: list[bytes]
    """Those of its rulesets."""
    prefixes: bytes
    """Records of ``PREFIX``."""


class CollisionError(ValueError):
    """A hash of 64 bits named two things: once in a very long while, unless somebody tries."""


class Numbering:
    """Gives numbers to the domains of one shape. What is the same for all of them is worked out once."""

    def __init__(self, template: Template, first: Domain, statutes: Statutes) -> None:
        """Fill in ``template``, under ``statutes``; ``first`` is any domain of the shape."""
        self._template, self._statutes = template, statutes
        shared_peers = len(statutes.peers)
        self._groups: list[bytes | int | tuple[int, ...]] = [
            _name_of_group(first.peer_names, group) if max(group) < shared_peers
            else group[0] if len(group) == 1 else group
            for group in template.groups
        ]  # fmt: skip
        self._identities: list[bytes] = []
        self._own_identities: dict[int, tuple[int, ...]] = {}
        for at, each in enumerate(template.identities):
            shared = [name for group in each if isinstance(name := self._groups[group], bytes)]
            if len(shared) < len(each):
                self._own_identities[at] = each
            content = joined(shared)
            self._identities += give(b"identity", [content]) if each else [NOBODY]
        shared_rules = sum(len(policy.numbers) for policy in statutes.provider)
        builtin = sum(len(policy.numbers) for policy in first.policies)
        known = self._known(first)
        constants: dict[bytes, int] = {}
        self._lists: list[bytes] = []
        self._own_lists: dict[int, Callable[[Sequence[bytes]], Sequence[bytes]]] = {}
        for at, said in enumerate(template.lists):
            rules = [part for part in said if isinstance(part, int)]
            if all(place <= shared_rules or place > builtin for place in rules):
                content = b"".join(known[part] if isinstance(part, int) else part for part in said)
                self._lists += give(b"list", [content])
            else:
                # Constants stand behind the numbers of rules, last first, so that a negative place finds them there.
                places = [
                    part if isinstance(part, int) else -1 - constants.setdefault(part, len(constants)) for part in said
                ]
                self._own_lists[at] = operator.itemgetter(*places)
                self._lists.append(NOBODY)
        self._constants = list(constants)[::-1]

    def _known(self, domain: Domain) -> list[bytes]:
        """The numbers that rules have by themselves."""
        known = [NOBODY]
        for policy in domain.policies:
            known += policy.numbers
        known += _BUILTIN
        return known

    def numbers(self, domain: Domain) -> tuple[bytes, list[bytes]]:
        """Return the number of the domain's view, and those that the template's books are filled in from."""
        template = self._template
        known = self._known(domain)
        # Policies are part of the view's name: under a view endpoints may change, what their identities mean may not. So is
        # which kinds of VM there are: while a view lasts, each of its rulesets knows every identity, old and new.
        policies = b"".join([policy.digest for policy in domain.policies])
        title = b"\n".join((policies, domain.members.name.encode(), self._statutes.title, domain.members.governed))
        (view,) = give(b"view", (title,))
        peers = domain.peer_names
        groups = [
            g if isinstance(g, bytes) else peers[g] if isinstance(g, int) else _name_of_group(peers, g)
            for g in self._groups
        ]
        members = [joined([groups[at] for at in each]) for each in self._own_identities.values()]
        identities = self._identities.copy()
        for at, name in zip(self._own_identities, give(b"identity", members), strict=True):
            identities[at] = name
        rules = [view + key for key in template.rulesets]
        rulesets = give(b"ruleset", rules)
        said = known + self._constants
        says = [b"".join(parts(said)) for parts in self._own_lists.values()]
        lists = self._lists.copy()
        for at, name in zip(self._own_lists, give(b"list", says), strict=True):
            lists[at] = name
        inner = [lists[at] + what for at, what in template.inner]
        pages = give(b"page", inner)
        # All of them are names of different things. Across domains, whoever reads a ruleset looks (``HostRuleset.tables``).
        named = (*identities, *rulesets, *lists, *pages)
        if len(set(named)) < len(named):
            raise CollisionError(
                f"two things in the routing domain {domain.members.name!r} have the same number of 64 bits: "
                "rename a rule or a policy that was changed last"
            )
        return view, [*known, *identities, *rulesets, *lists, *pages]


def instances(template: Template, domains: Sequence[Domain], statutes: Statutes) -> Iterator[Instance]:
    """Fill ``template`` in for ``domains``, all of its shape."""
    numbering = Numbering(template, domains[0], statutes)
    named = [numbering.numbers(domain) for domain in domains]
    width = len(named[0][1])
    table = np.frombuffer(b"".join(b"".join(numbers) for _, numbers in named), np.uint64).reshape(-1, width)
    first_identity = (
        width - len(template.inner) - len(template.lists) - len(template.rulesets) - len(template.identities)
    )
    first_ruleset = first_identity + len(template.identities)
    prefixes = _prefixes(template, domains, table[:, first_identity:], [view for view, _ in named])
    for (view, numbers), records in zip(named, prefixes, strict=True):
        yield Instance(
            view=view,
            numbers=numbers,
            identities=b"".join(numbers[first_identity:first_ruleset]),
            rulesets=numbers[first_ruleset : first_ruleset + len(template.rulesets)],
            prefixes=records,
        )


def _name_of_group(peers: Sequence[bytes], group: tuple[int, ...]) -> bytes:
    if len(group) == 1:
        return peers[group[0]]
    return hashlib.blake2b(joined([peers[at] for at in group]), digest_size=16).digest()


def _prefixes(
    template: Template, domains: Sequence[Domain], identities: NDArray[np.uint64], views: Sequence[bytes]
) -> list[bytes]:
    """Write down who is behind addresses that no VM holds: as many records for each domain."""
    if not domains[0].nest.rows:
        return [b""] * len(domains)
    nests = [domain.nest for domain in domains]
    rows = len(nests[0].rows)
    which = np.frombuffer(b"".join([nest.which for nest in nests]), "<u4").reshape(-1, rows)
    made = np.empty((len(nests), rows), PREFIX)
    made["length"] = np.frombuffer(b"".join([nest.lengths for nest in nests]), "<u4").reshape(-1, rows) + _VIEW_BITS
    made["view"] = np.frombuffer(b"".join(views), "<u4").reshape(-1, 1, 2)
    made["address"] = np.frombuffer(b"".join([nest.addresses for nest in nests]), np.uint8).reshape(-1, rows, 16)
    made["identity"] = np.take_along_axis(identities, template.prefixes[which], axis=1)
    raw = made.tobytes()
    size = rows * PREFIX.itemsize
    return [raw[at : at + size] for at in range(0, len(raw), size)]
