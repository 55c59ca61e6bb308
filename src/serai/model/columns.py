"""Who is there, in columns: the inventory of a whole data center as a few arrays, no object a vNIC.

Rows are VMs, vNICs and addresses; a VM's vNICs, and a vNIC's addresses, follow each other. What many rows share (scopes,
labels, networks) stands once, and rows carry its place.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from serai.model.address import pack
from serai.model.inventory import Network, PortSecurity, VirtualMachine
from serai.model.tenancy import Mode, Scope

T = TypeVar("T")

Places = NDArray[np.int64]
"""Places in a sequence or in another column."""

MODES = tuple(Mode)
"""The modes by the number that columns carry."""

Card = tuple[str, PortSecurity]
"""What a vNIC is called in its VM, and what it may do beyond speaking IP."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """VMs in columns. Every array of places points into the sequence of the same name."""

    scopes: Sequence[Scope]
    labels: Sequence[Mapping[str, str]]
    networks: Sequence[Network]
    cards: Sequence[tuple[Card, ...]]
    """What the vNICs of a VM are like, in order: most VMs of a data center share a few such tuples."""
    paths: Sequence[str]
    """Of each VM; no path twice."""
    vm_scope: Places
    vm_labels: Places
    vm_mode: Places
    """Places in ``MODES``."""
    vm_cards: Places
    vm_vnics: Places
    """Where each VM's vNICs begin, and behind the last: one entry more than there are VMs."""
    ids: NDArray[np.uint64]
    """The content-derived number of each vNIC."""
    macs: NDArray[np.uint8]
    """Six bytes for each vNIC."""
    vnic_network: Places
    vnic_addresses: Places
    """Where each vNIC's addresses begin, and behind the last: one entry more than there are vNICs."""
    addresses: NDArray[np.uint8]
    """16 bytes each (see ``serai.model.address``): all that the vNICs hold, implied link-local ones too."""

    @classmethod
    def of(cls, vms: Iterable[VirtualMachine]) -> Self:
        """Put ``vms`` into columns, in the order in which they come."""
        machines = list(vms)
        vnics = [vnic for vm in machines for vnic in vm.vnics]
        held = [vnic.held for vnic in vnics]
        scopes, labels, networks, cards = (
            _Shared[Scope](),
            _Shared[Mapping[str, str]](),
            _Shared[Network](),
            _Shared[tuple[Card, ...]](),
        )
        return cls(
            paths=[vm.path for vm in machines],
            vm_scope=_column(scopes.place(vm.scope, vm.scope) for vm in machines),
            vm_labels=_column(labels.place(tuple(sorted(vm.labels.items())), vm.labels) for vm in machines),
            vm_mode=_column(MODES.index(vm.mode) for vm in machines),
            vm_cards=_column(
                cards.place(made, made) for made in (tuple((v.name, v.security) for v in vm.vnics) for vm in machines)
            ),
            vm_vnics=_begins(len(vm.vnics) for vm in machines),
            ids=np.fromiter((vnic.id for vnic in vnics), np.uint64, len(vnics)),
            macs=np.frombuffer(b"".join(vnic.mac.packed for vnic in vnics), np.uint8).reshape(-1, 6),
            vnic_network=_column(networks.place(vnic.network.path, vnic.network) for vnic in vnics),
            vnic_addresses=_begins(map(len, held)),
            addresses=np.frombuffer(b"".join(pack(a) for each in held for a in each), np.uint8).reshape(-1, 16),
            scopes=scopes.things,
            labels=labels.things,
            networks=networks.things,
            cards=cards.things,
        )

    def take(self, vms: Sequence[int] | Places) -> Self:
        """Return the rows of some VMs, by their places, in that order."""
        chosen = np.asarray(vms, np.int64)
        vnics = ranges(self.vm_vnics[chosen], self.vm_vnics[chosen + 1])
        addresses = ranges(self.vnic_addresses[vnics], self.vnic_addresses[vnics + 1])
        return dataclasses.replace(
            self,
            paths=[self.paths[at] for at in chosen.tolist()],
            vm_scope=self.vm_scope[chosen],
            vm_labels=self.vm_labels[chosen],
            vm_mode=self.vm_mode[chosen],
            vm_cards=self.vm_cards[chosen],
            vm_vnics=_begins(np.diff(self.vm_vnics)[chosen].tolist()),
            ids=self.ids[vnics],
            macs=self.macs[vnics],
            vnic_network=self.vnic_network[vnics],
            vnic_addresses=_begins(np.diff(self.vnic_addresses)[vnics].tolist()),
            addresses=self.addresses[addresses],
        )

    def joined(self, other: Self) -> Self:
        """Return the rows of both, this one's first."""
        if not other.paths:
            return self

        def behind(mine: Places, shared: Sequence[object], others: Places) -> Places:
            return np.concatenate([mine, others + len(shared)])

        return dataclasses.replace(
            self,
            scopes=[*self.scopes, *other.scopes],
            labels=[*self.labels, *other.labels],
            networks=[*self.networks, *other.networks],
            cards=[*self.cards, *other.cards],
            paths=[*self.paths, *other.paths],
            vm_scope=behind(self.vm_scope, self.scopes, other.vm_scope),
            vm_labels=behind(self.vm_labels, self.labels, other.vm_labels),
            vm_mode=np.concatenate([self.vm_mode, other.vm_mode]),
            vm_cards=behind(self.vm_cards, self.cards, other.vm_cards),
            vm_vnics=np.concatenate([self.vm_vnics, other.vm_vnics[1:] + len(self.ids)]),
            ids=np.concatenate([self.ids, other.ids]),
            macs=np.concatenate([self.macs, other.macs]),
            vnic_network=behind(self.vnic_network, self.networks, other.vnic_network),
            vnic_addresses=np.concatenate([self.vnic_addresses, other.vnic_addresses[1:] + len(self.addresses)]),
            addresses=np.concatenate([self.addresses, other.addresses]),
        )


class _Shared(Generic[T]):
    """Things that stand once, by a key that says what is equal."""

    def __init__(self) -> None:
        self.things: list[T] = []
        self._places: dict[Hashable, int] = {}

    def place(self, key: Hashable, thing: T) -> int:
        place = self._places.setdefault(key, len(self.things))
        if place == len(self.things):
            self.things.append(thing)
        return place


def ranges(begins: Places, ends: Places) -> Places:
    """Return the places from each of ``begins`` up to its end, one range behind the other."""
    lengths = ends - begins
    before = np.cumsum(lengths) - lengths
    found: Places = np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)
    return found


def _column(values: Iterable[int]) -> Places:
    return np.fromiter(values, np.int64)


def _begins(lengths: Iterable[int]) -> Places:
    return np.fromiter(itertools.accumulate(lengths, initial=0), np.int64)
