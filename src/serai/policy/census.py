"""Who is in which routing domain: the inventory's columns, sorted by domain. Array work; nothing here is an object a vNIC."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from serai.model.address import LINK_LOCAL, MAPPED
from serai.model.columns import MODES, Columns, Places, ranges
from serai.model.tenancy import Mode

_KINDS_OF_ADDRESSES = 3
_IPV4, _IPV6, _LINK_LOCAL = range(_KINDS_OF_ADDRESSES)
_MAPPED = int(MAPPED.network_address) >> 32
_LINK = int(LINK_LOCAL.network_address) >> 118
_LARGEST = 1 << 62


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Census:
    """The members of some routing domains, whole domains only.

    A *class* is what selectors and networks can tell apart: scope, labels and network. A *kind* is what policies can
    govern: scope, labels, and whether in quarantine. A *run* is the addresses of one domain that lie close to each other (IPv4,
    IPv6, link-local), and a *cell* those of a run that belong to one class.
    """

    domains: tuple[str, ...]
    """By name; what follows counts domains by their places here."""
    classes: Places
    """Rows of domain, scope, labels, network, as places in the columns; by domain."""
    kinds: Places
    """Rows of domain, scope, labels, and 1 for quarantine; by domain."""
    runs: Places
    """Rows of domain, first address and the one behind the last; by domain."""
    cells: Places
    """Rows of domain, class and run; by domain."""
    addresses: NDArray[np.uint8]
    """By domain and run, in order."""
    address_cell: Places
    """The cell of each address."""


def census(columns: Columns, wanted: Collection[str] | None = None) -> Census:
    """Sort the vNICs of ``columns`` by routing domain; those of other domains than ``wanted`` (None: all) are left out."""
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
    return Census(
        domains=tuple(names),
        classes=classes,
        kinds=kinds,
        runs=runs,
        cells=cells,
        addresses=columns.addresses[held[order]],
        address_cell=cell,
    )


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
