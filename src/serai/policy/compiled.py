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
from serai.model.ruleset_form import FrozenGuest, FrozenPart, FrozenSecurity, freeze_security
from serai.model.tenancy import Mode, Scope
from serai.policy.census import Census
from serai.policy.domain import Domain, Kind, Reader, Statutes, spell_labels
from serai.policy.instance import Instance, instances
from serai.policy.part import Part
from serai.policy.spell import Names
from serai.policy.template import Template, compile_shape

Shapes = MutableMapping[object, Template]
"""What has been compiled already, by shape; good for one set of statutes."""

Progress = Callable[[int], None]
"""Told how many more domains are done."""

_AT_ONCE: Final = 128
"""Domains whose tables are in the making at the same time: memory for them stays small."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledDomain:
    """A routing domain, as gates see it."""

    part: Part
    """Endpoints, prefixes, and by what each kind of vNIC is judged."""
    books: Mapping[Kind, Part]
    """The rules for each kind of VM."""
    scopes: tuple[Scope, ...]
    """The scopes below the provider's whose policies matter there."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guest:
    """A VM, as its host's gates see it, whatever policies there are."""

    path: str
    kind: Kind
    domains: tuple[str, ...]
    """The routing domains that its vNICs are in."""
    part: Part

    def parts(self, domains: Mapping[str, CompiledDomain]) -> list[Part]:
        """Return what a host needs to guard it: itself, and of each domain that it is in who is there and its rules."""
        found = [domains[name] for name in self.domains]
        return [self.part, *(domain.part for domain in found), *(domain.books[self.kind] for domain in found)]


def compile_domains(
    columns: Columns, found: Census, statutes: Statutes, shapes: Shapes, progress: Progress = lambda done: None
) -> dict[str, CompiledDomain]:
    """Compile every domain of a census of ``columns``; return them by name.

    Args:
        columns: the members.
        found: the same, by domain.
        statutes: the policies and what else holds everywhere.
        shapes: what is known of shapes; what is learned is added.
        progress: told about every domain that is done.

    Raises:
        ValueError: two different things would have the same number.
    """
    reader = Reader(columns, found, statutes)
    domains = [reader.domain(place) for place in range(len(found.domains))]
    by_shape: dict[object, list[int]] = {}
    for place, domain in enumerate(domains):
        by_shape.setdefault(domain.shape, []).append(place)
    names = Names()
    done: list[Instance | None] = [None] * len(domains)
    cells: list[bytes] = [b""] * len(domains)
    scattered: dict[int, bytes] = {}
    for shape, places in by_shape.items():
        template = shapes.get(shape)
        if template is None:
            template = shapes[shape] = compile_shape(domains[places[0]], statutes)
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            for place, instance in zip(some, instances(template, [domains[at] for at in some], statutes, names), strict=True):
                done[place] = instance
                numbers = instance.identities
                whose = [8 * template.cells[cell] if cell else 0 for cell in domains[place].cells]
                cells[place] = b"".join([numbers[at : at + 8] for at in whose])
                for at, cell in domains[place].scattered:
                    who = 8 * template.cells[cell]
                    scattered[at] = numbers[who : who + 8]
            progress(len(some))
    whole = [instance for instance in done if instance]
    endpoints = _endpoints(found, [instance.view for instance in whole], b"".join(cells), scattered)
    return {
        domain.name: _compiled(domain, instance, members)
        for domain, instance, members in zip(domains, whole, endpoints, strict=True)
    }


def _endpoints(found: Census, views: Sequence[bytes], cells: bytes, scattered: Mapping[int, bytes]) -> Iterator[bytes]:
    """Write down who holds which address, domain by domain."""
    lengths = np.bincount(found.runs[:, 0], found.runs[:, 2] - found.runs[:, 1], len(views)).astype(np.int64)
    records = np.empty(len(found.addresses), ENDPOINT)
    records["view"] = np.repeat(np.frombuffer(b"".join(views), "<u8"), lengths)
    records["address"] = found.addresses
    records["identity"] = np.frombuffer(cells, "<u8")[found.address_cell]
    if scattered:
        records["identity"][list(scattered)] = np.frombuffer(b"".join(scattered.values()), "<u8")
    raw = memoryview(records.view(np.uint8)) if len(records) else memoryview(b"")
    at = 0
    for length in (lengths * ENDPOINT.itemsize).tolist():
        yield bytes(raw[at : at + length])
        at += length


def _compiled(domain: Domain, instance: Instance, endpoints: bytes) -> CompiledDomain:
    seen = instance.view + hashlib.sha256(endpoints + instance.prefixes).digest()[:8]
    judged = [_name_of_kind(domain.name, kind) + seen + by.egress + by.ingress for kind, by in instance.kinds.items()]
    part = Part.of(FrozenPart([], b"".join(judged), [], endpoints, instance.prefixes, b"", b""))
    return CompiledDomain(part=part, books={kind: by.part for kind, by in instance.kinds.items()}, scopes=domain.scopes)


def _name_of_kind(domain: str, kind: Kind) -> bytes:
    """Return the 8 bytes by which vNICs say to which kind they belong: whatever policies there are, it stays."""
    return hashlib.blake2b("\n".join((domain, *map(str, kind))).encode(), digest_size=8, person=b"kind").digest()


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
        kinds = {name: _name_of_kind(name, kind) for name in where}
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
        yield Guest(
            path=path, kind=kind, domains=tuple(kinds), part=Part.of(FrozenPart([guest], b"", [], b"", b"", b"", b""))
        )


def _freeze(cards: Sequence[Card]) -> list[tuple[str, FrozenSecurity]]:
    return [(name, freeze_security(security)) for name, security in cards]
