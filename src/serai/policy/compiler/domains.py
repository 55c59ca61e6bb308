"""Compiles whole routing domains, and says what each VM's host needs of them. Pure: equal inputs, equal bytes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

import numpy as np

from serai.model.columns import MODES, Card, Columns
from serai.model.records import ENDPOINT
from serai.model.ruleset_form import FrozenDomain, FrozenGuest, FrozenSecurity, freeze_security
from serai.model.tenancy import Mode
from serai.policy.compiler.census import Kind, Members, name_of_kind, spell_labels
from serai.policy.compiler.domain import Domain, domain
from serai.policy.compiler.numbering import Instance, instances
from serai.policy.compiler.part import Part
from serai.policy.compiler.statutes import Statutes
from serai.policy.compiler.template import Template, compile_shape

Shapes = MutableMapping[object, Template]
"""What has been compiled already, by shape; good for one set of statutes."""

Progress = Callable[[int], None]
"""Told how many more domains are done."""


DomainCompiler = Callable[[Sequence["Members"], "Statutes", Shapes, Progress], dict[str, "CompiledDomain"]]
"""Does what ``compile_domains`` does."""


def untold(done: int) -> None:
    """Tell nobody."""


_AT_ONCE: Final = 128
"""Domains that are in the making at the same time: memory for them stays small, and near."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledDomain:
    """A routing domain, as gates see it."""

    part: Part
    """Endpoints, prefixes, numbers, and by what each kind of vNIC is judged."""
    books: Mapping[Kind, tuple[Part, Part]]
    """The rules for each kind of VM, and what it costs to have them here."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guest:
    """A VM, as its host's gates see it, whatever policies there are."""

    path: str
    kind: Kind
    domains: tuple[str, ...]
    """The routing domains that its vNICs are in."""
    part: Part

    def parts(self, domains: Mapping[str, CompiledDomain]) -> Iterator[Part]:
        """Go through what a host must be sent to guard it: itself, and of each domain that it is in who is there and its rules."""
        yield self.part
        for name in self.domains:
            book, _ = domains[name].books[self.kind]
            yield from (domains[name].part, book)


def compile_domains(
    everybody: Sequence[Members], statutes: Statutes, shapes: Shapes, progress: Progress = untold
) -> dict[str, CompiledDomain]:
    """Compile routing domains; return them by name.

    Args:
        everybody: who is in each.
        statutes: the policies and what else holds everywhere.
        shapes: what is known of shapes under these statutes; what is learned is added.
        progress: told about every domain that is done.

    Raises:
        CollisionError: two different things would have the same number.
    """
    done: dict[str, CompiledDomain] = {}
    for begin in range(0, len(everybody), _AT_ONCE):
        domains = [domain(members, statutes) for members in everybody[begin : begin + _AT_ONCE]]
        by_shape: dict[object, list[Domain]] = {}
        for each in domains:
            by_shape.setdefault(each.shape, []).append(each)
        for shape, alike in by_shape.items():
            template = shapes.get(shape)
            if template is None:
                template = shapes[shape] = compile_shape(alike[0], statutes)
            whole = list(instances(template, alike, statutes))
            for each, instance, endpoints in zip(alike, whole, _endpoints(template, alike, whole), strict=True):
                done[each.members.name] = _compiled(each.members, template, instance, endpoints)
        progress(len(domains))
    return done


def _endpoints(template: Template, domains: Sequence[Domain], whole: Sequence[Instance]) -> Iterator[bytes]:
    """Write down who holds which address, domain by domain."""
    lengths = [len(each.members.addresses) for each in domains]
    ends = np.cumsum(lengths)
    records = np.empty(int(ends[-1]), ENDPOINT)
    records["view"] = np.repeat(np.frombuffer(b"".join([instance.view for instance in whole]), "<u8"), lengths)
    records["address"] = np.concatenate([each.members.addresses for each in domains])
    numbers = np.frombuffer(b"".join([instance.identities for instance in whole]), "<u8").reshape(len(whole), -1)
    # Most domains of a shape have as many cells; those of each count are looked up together.
    identities = np.concatenate(
        [
            row[[template.cells[cell] if cell else 0 for cell in each.cells]][each.members.address_cell]
            for row, each in zip(numbers, domains, strict=True)
        ]
    )
    for each, row, end, length in zip(domains, numbers, ends.tolist(), lengths, strict=True):
        for at, cell in each.scattered:
            identities[end - length + at] = row[template.cells[cell]]
    records["identity"] = identities
    raw, size = records.tobytes(), ENDPOINT.itemsize
    for end, length in zip(ends.tolist(), lengths, strict=True):
        yield raw[(end - length) * size : end * size]


def _compiled(members: Members, template: Template, instance: Instance, endpoints: bytes) -> CompiledDomain:
    seen = instance.view + hashlib.sha256(endpoints + instance.prefixes).digest()[:8]
    books = [template.books[at] for at in template.kinds]
    numbers = instance.rulesets
    judged = [
        b"".join((name, seen, numbers[book.egress], numbers[book.ingress], book.part.digest))
        for name, book in zip(members.kind_names, books, strict=True)
    ]
    part = Part.of(
        FrozenDomain(str(members.root), b"".join(instance.numbers), b"".join(judged), endpoints, instance.prefixes)
    )
    used = [(book.part, Part(part.digest + book.part.digest, b"", book.cost)) for book in template.books]
    return CompiledDomain(
        part=part,
        books={kind: used[at] for kind, at in zip(members.kinds, template.kinds, strict=True)},
    )


def guests(columns: Columns) -> Iterator[Guest]:
    """Write down each VM of ``columns``."""
    ids, macs, addresses = columns.ids.tobytes(), columns.macs.tobytes(), columns.addresses.tobytes()
    held = np.diff(columns.vnic_addresses).astype("<u4").tobytes()
    labels = functools.cache(lambda at: spell_labels(columns.labels[at]))
    cards = functools.cache(lambda at: _freeze(columns.cards[at]))
    network_domains = [network.routing_domain for network in columns.networks]
    networks, addresses_at = columns.vnic_network.tolist(), columns.vnic_addresses.tolist()
    vnics = columns.vm_vnics.tolist()
    scopes, labelled, modes, carded = (
        each.tolist() for each in (columns.vm_scope, columns.vm_labels, columns.vm_mode, columns.vm_cards)
    )
    for at, path in enumerate(columns.paths):
        begin, end = vnics[at], vnics[at + 1]
        mode = MODES[modes[at]]
        kind = columns.scopes[scopes[at]], labels(labelled[at]), mode is Mode.ISOLATE
        where = [network_domains[network] for network in networks[begin:end]]
        kinds = {name: name_of_kind(name, kind) for name in where}
        guest = FrozenGuest(
            path,
            mode.value,
            cards(carded[at]),
            ids[8 * begin : 8 * end],
            macs[6 * begin : 6 * end],
            held[4 * begin : 4 * end],
            addresses[16 * addresses_at[begin] : 16 * addresses_at[end]],
            b"".join([kinds[name] for name in where]),
        )
        yield Guest(path=path, kind=kind, domains=tuple(kinds), part=Part.of(guest))


def _freeze(cards: Sequence[Card]) -> list[tuple[str, FrozenSecurity]]:
    return [(name, freeze_security(security)) for name, security in cards]
