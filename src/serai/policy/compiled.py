"""Compiles whole routing domains, and says what each VM's host needs of them. Pure: equal inputs, equal bytes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

import numpy as np

from serai.model.columns import MODES, Card, Columns
from serai.model.records import ENDPOINT
from serai.model.ruleset_form import FrozenGuest, FrozenPart, FrozenSecurity, freeze_security
from serai.model.tenancy import Mode, Scope
from serai.policy.census import Census
from serai.policy.domain import Domain, Kind, Reader, Statutes, spell_labels
from serai.policy.instance import Instance, Judged, instances
from serai.policy.part import Part
from serai.policy.spell import Names
from serai.policy.template import Template, compile_shape

Shapes = MutableMapping[object, Template]
"""What has been compiled already, by shape; good for one set of statutes."""

Seat = tuple[Part, ...]
"""What a host needs for one of its VMs: the VM's own part, and of each routing domain that it is in who is there, and its rules."""

Progress = Callable[[int], None]
"""Told how many more domains are done."""

_AT_ONCE: Final = 512
"""Domains whose tables are in the making at the same time: memory for them stays small."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledDomain:
    """A routing domain, as gates see it."""

    view: bytes
    """Its number, 8 bytes."""
    members: bytes
    """Names who is who in it at the moment, 8 bytes."""
    part: Part
    """Endpoints and prefixes."""
    kinds: Mapping[Kind, Judged]
    scopes: tuple[Scope, ...]
    """The scopes below the provider's whose policies matter there."""


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
    part = Part.of(FrozenPart([], [], endpoints, instance.prefixes, b"", b""))
    return CompiledDomain(
        view=instance.view, members=part.digest[:8], part=part, kinds=instance.kinds, scopes=domain.scopes
    )


def seats(columns: Columns, domains: Mapping[str, CompiledDomain]) -> Iterator[tuple[str, Seat]]:
    """Say of each VM of ``columns``, by its path, what a host needs to guard it."""
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
        parts: list[Part] = []
        judged: dict[str, bytes] = {}
        for name in dict.fromkeys(where):
            domain = domains[name]
            by = domain.kinds[kind]
            judged[name] = b"".join((domain.view, domain.members, by.egress, by.ingress))
            parts += (domain.part, by.part)
        guest = FrozenGuest(
            path,
            mode.value,
            cards(carded[at]),
            ids[8 * begin : 8 * end],
            macs[6 * begin : 6 * end],
            held[4 * begin : 4 * end],
            addresses[16 * addresses_at[begin] : 16 * addresses_at[end]],
            b"".join([judged[name] for name in where]),
        )
        yield path, (Part.of(FrozenPart([guest], [], b"", b"", b"", b"")), *parts)


def _freeze(cards: Sequence[Card]) -> list[tuple[str, FrozenSecurity]]:
    return [(name, freeze_security(security)) for name, security in cards]
