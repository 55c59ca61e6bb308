"""Who is in which routing domain: the inventory's columns, sorted by domain. Array work: no object a vNIC."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from serai.model.address import LINK_LOCAL, MAPPED
from serai.model.columns import MODES, Columns, Places, ranges
from serai.model.tenancy import ROOT, Mode, Scope
from serai.policy.compiler.spell import local_to

_KINDS_OF_ADDRESSES = 3
_IPV4, _IPV6, _LINK_LOCAL = range(_KINDS_OF_ADDRESSES)
_MAPPED = int(MAPPED.network_address) >> 32
_LINK = int(LINK_LOCAL.network_address) >> 118
_LARGEST = 1 << 62


Labels = str
"""Labels, written down: the same labels, the same text."""
Class = tuple[Scope, Labels, str]
"""What selectors and networks can tell apart: scope, labels, and the network's path."""
Kind = tuple[Scope, Labels, bool]
"""What policies can govern: scope, labels, and whether in quarantine."""


def spell_labels(labels: Mapping[str, str]) -> Labels:
    """Write labels down."""
    return json.dumps(dict(labels), sort_keys=True)


def name_of_kind(domain: str, kind: Kind) -> bytes:
    """Return the 8 bytes that name a kind of VM in a routing domain."""
    return hashlib.blake2b("\n".join((domain, *map(str, kind))).encode(), digest_size=8, person=b"kind").digest()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """Who is in a routing domain."""

    name: str
    """The domain's."""
    root: Scope
    """The tenant to which all of them belong; the provider's scope where they are of several."""
    scopes: tuple[Scope, ...]
    """Where policies stand that may matter here, from the tenants down."""
    classes: tuple[Class, ...]
    """In order of how they read from ``root``."""
    local_classes: tuple[tuple[str, Labels, str], ...]
    """The same, as they read from ``root``."""
    kinds: tuple[Kind, ...]
    local_kinds: tuple[tuple[str, Labels, bool], ...]
    governed: bytes
    """The kinds, written down, whether in quarantine or not."""
    kind_names: tuple[bytes, ...]
    """The 8 bytes by which vNICs say to which kind they belong: whatever policies there are, they stay."""
    runs: tuple[tuple[bytes, bytes, int, int], ...]
    """Addresses that lie close to each other (IPv4, IPv6, link-local): the first, the last, where they begin and end."""
    cells: tuple[tuple[int, int], ...]
    """Which classes there are in which run."""
    addresses: NDArray[np.uint8]
    """16 bytes each, run by run, in order."""
    address_cell: Places
    """The cell of each address."""


def census(columns: Columns, wanted: Collection[str] | None = None) -> Iterator[Members]:
    """Sort the vNICs of ``columns`` by routing domain, in order of name.

    Those of other domains than ``wanted`` (None: all) are left out; of these all members must be there.
    """
    networks, network = np.unique(columns.vnic_network, return_inverse=True)
    used = [columns.networks[at].routing_domain for at in networks.tolist()]
    names = sorted(set(used) if wanted is None else set(used) & set(wanted))
    places = {name: place for place, name in enumerate(names)}
    domain_of = np.fromiter((places.get(name, -1) for name in used), np.int64, len(used))
    vnics = np.flatnonzero(domain_of[network] >= 0)
    vm = np.repeat(np.arange(len(columns.paths)), np.diff(columns.vm_vnics))[vnics]
    domain, scope, labels = domain_of[network[vnics]], columns.vm_scope[vm], columns.vm_labels[vm]
    isolated = (columns.vm_mode[vm] == MODES.index(Mode.ISOLATE)).astype(np.int64)

    classes, class_ = _distinct(domain, scope, labels, columns.vnic_network[vnics])
    kinds, _ = _distinct(domain, scope, labels, isolated)

    counts = np.diff(columns.vnic_addresses)[vnics]
    held = ranges(columns.vnic_addresses[vnics], columns.vnic_addresses[vnics + 1])
    high, low = np.ascontiguousarray(columns.addresses[held]).view(">u8").astype(np.uint64).T
    kind = np.full(len(held), _IPV6)
    kind[(high == 0) & (low >> np.uint64(32) == _MAPPED)] = _IPV4
    kind[high >> np.uint64(54) == _LINK] = _LINK_LOCAL
    run_key = np.repeat(domain, counts) * _KINDS_OF_ADDRESSES + kind
    order = np.lexsort((low, high, run_key))
    run_key = run_key[order]
    begins = np.flatnonzero(np.diff(run_key, prepend=-1))
    runs = np.stack([run_key[begins] // _KINDS_OF_ADDRESSES, begins, np.append(begins, len(run_key))[1:]], axis=1)
    run = np.repeat(np.arange(len(runs)), runs[:, 2] - runs[:, 1])
    cells, cell = _distinct(runs[run, 0], np.repeat(class_, counts)[order], run)
    reader = _Reader(columns, {"classes": classes, "kinds": kinds, "runs": runs, "cells": cells}, len(names))
    held_in_order = columns.addresses[held[order]]
    for place, name in enumerate(names):
        yield reader.members(place, name, held_in_order, cell)


class _Reader:
    """Takes the sorted arrays apart, domain by domain."""

    def __init__(self, columns: Columns, tables: Mapping[str, Places], domains: int) -> None:
        self._columns = columns
        self._tables: dict[str, list[list[int]]] = {name: rows.tolist() for name, rows in tables.items()}
        self._ends: dict[str, list[int]] = {
            name: [0, *np.searchsorted(rows[:, 0], np.arange(domains), side="right").tolist()]
            for name, rows in tables.items()
        }
        self._lineage = functools.cache(lambda scope: columns.scopes[scope].lineage)
        self._labels = functools.cache(lambda labels: spell_labels(columns.labels[labels]))

    def members(self, place: int, name: str, addresses: NDArray[np.uint8], address_cell: Places) -> Members:
        columns = self._columns
        rows, first_class = self._rows("classes", place)
        lineages = [self._lineage(scope) for _, scope, _, _ in rows]
        roots = {lineage[1] if len(lineage) > 1 else ROOT for lineage in lineages}
        root = roots.pop() if len(roots) == 1 else ROOT
        local = local_to(root)
        classes = [(columns.scopes[s], self._labels(lb), columns.networks[n].path) for _, s, lb, n in rows]
        locally = [(local(scope), labels, local(network)) for scope, labels, network in classes]
        ordered = sorted(set(locally))
        at = {each: where for where, each in enumerate(ordered)}
        meant = dict(zip(locally, classes, strict=True))
        kinds = {
            (columns.scopes[s], self._labels(lb), bool(alone)) for _, s, lb, alone in self._rows("kinds", place)[0]
        }
        # Also what a VM in quarantine was before: its gate may go by that a moment longer.
        kinds |= {(scope, labels, False) for scope, labels, _ in kinds}
        ordered_kinds = tuple(sorted(kinds))
        runs, first_run = self._rows("runs", place)
        cells, first_cell = self._rows("cells", place)
        begin, end = (runs[0][1], runs[-1][2]) if runs else (0, 0)
        return Members(
            name=name,
            root=root,
            scopes=tuple(sorted({scope for lineage in lineages for scope in lineage[1:]})),
            classes=tuple([meant[each] for each in ordered]),
            local_classes=tuple(ordered),
            kinds=ordered_kinds,
            local_kinds=tuple([(local(scope), labels, alone) for scope, labels, alone in ordered_kinds]),
            governed="\n".join(sorted({f"{scope} {labels}" for scope, labels, _ in ordered_kinds})).encode(),
            kind_names=tuple([name_of_kind(name, kind) for kind in ordered_kinds]),
            runs=tuple(
                [(addresses[a].tobytes(), addresses[b - 1].tobytes(), a - begin, b - begin) for _, a, b in runs]
            ),
            cells=tuple([(at[locally[class_ - first_class]], run - first_run) for _, class_, run in cells]),
            addresses=addresses[begin:end],
            address_cell=address_cell[begin:end] - first_cell,
        )

    def _rows(self, name: str, place: int) -> tuple[list[list[int]], int]:
        """Return the rows of a domain, and the place of the first."""
        begin, end = self._ends[name][place : place + 2]
        return self._tables[name][begin:end], begin


def _distinct(*columns: Places) -> tuple[Places, Places]:
    """Return the different rows of some columns of small numbers, in order, and which of them each row is."""
    key = np.zeros(len(columns[0]), np.int64)
    bound = 1
    for column in columns:
        size = int(column.max(initial=0)) + 1
        if bound * size > _LARGEST:
            known, key = np.unique(key, return_inverse=True)
            bound = len(known)
        key = key * size + column
        bound *= size
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return np.stack([column[first] for column in columns], axis=1), which
