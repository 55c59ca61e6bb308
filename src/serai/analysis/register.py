"""Who is who in the inventory of one moment: from the numbers and addresses of records to VMs, many at a time.

A register never changes. What changes in the inventory is laid over it in a thin layer; when layers become many, they are made one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from serai.model.columns import Columns
from serai.model.inventory import VirtualMachine
from serai.model.tenancy import Scope, content_id

Array = NDArray[Any]

_LAYERS: Final = 16
"""More are made one."""
_MIX: Final = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], "<u8")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A VM as it was for a while: another one from the moment that its labels change."""

    number: int
    path: str
    labels: Mapping[str, str]

    @property
    def scope(self) -> Scope:
        """Where it belongs."""
        return Scope(self.path.rpartition(":")[0])

    @property
    def name(self) -> str:
        """Without its scope."""
        return self.path.rpartition(":")[2]

    @property
    def tenant(self) -> str:
        """Whose it is; empty for the provider's own."""
        return self.scope.tenant or ""


def endpoint_number(path: str, labels: Mapping[str, str]) -> int:
    """Return the 64-bit number of a VM with these labels: the same wherever it is calculated."""
    return content_id("endpoint", path, json.dumps(sorted(labels.items())))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a register knows of records, one entry a record."""

    vm: Array
    """UINT64, 0 where the vNIC is not known; ``peer`` likewise."""
    peer: Array
    tenant: Array
    """Places in ``tenants``; ``network`` likewise."""
    network: Array
    abroad: Array
    """The other end is another tenant's."""
    tenants: list[str]
    networks: list[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layer:
    """Some VMs in arrays, sorted for looking up; and whose earlier entries count no more."""

    ids: Array
    """Of vNICs, in order."""
    number: Array
    """Of each one's VM; 0: the vNIC is gone."""
    tenant: Array
    network: Array
    domain: Array
    """Number of the routing domain of each vNIC."""
    hashes: Array
    """Of (routing domain, address), in order."""
    keys: Array
    """What was hashed: three numbers."""
    holder: Array
    """Number of the VM that has it; 0: nobody any more."""
    holder_tenant: Array


class Register:
    """Who is who."""

    def __init__(self, layers: tuple[_Layer, ...], vms: Mapping[str, VirtualMachine], names: _Names) -> None:
        """Use ``of``."""
        self._layers, self._vms, self._names = layers, vms, names

    @classmethod
    def of(cls, vms: Mapping[str, VirtualMachine]) -> Self:
        """Know these VMs, by path."""
        return cls._anew(vms, _Names())

    @classmethod
    def _anew(cls, vms: Mapping[str, VirtualMachine], names: _Names) -> Self:
        return cls((_layer(vms.values(), (), names),), vms, names)

    def changed(self, vms: Mapping[str, VirtualMachine], changes: Mapping[str, VirtualMachine | None]) -> Self:
        """Return the register of ``vms``, of which ``changes`` (None: gone) are otherwise than here."""
        if not changes:
            return self
        if len(self._layers) > _LAYERS or len(changes) * _LAYERS > len(self._vms):
            return self._anew(vms, self._names)
        before = [self._vms[path] for path in changes if path in self._vms]
        layer = _layer((vm for vm in changes.values() if vm is not None), before, self._names)
        return type(self)((*self._layers, layer), vms, self._names)

    def find(self, vnics: Array, remotes: Array) -> Found:
        """Say who the vNICs of records are, and who held the addresses at the other ends.

        Args:
            vnics: UINT64.
            remotes: 16 bytes each, as ``(n, 16)`` or of type V16.
        """
        count = len(vnics)
        vm, tenant, network, domain = (np.zeros(count, kind) for kind in ("<u8", "<i4", "<i4", "<u8"))
        for layer in self._layers:
            there, at = _among(vnics, layer.ids)
            vm[there], tenant[there] = layer.number[at], layer.tenant[at]
            network[there], domain[there] = layer.network[at], layer.domain[at]
        keys = _keys(domain, remotes)
        hashes = _hashes(keys)
        peer, peer_tenant = np.zeros(count, "<u8"), np.zeros(count, "<i4")
        for layer in self._layers:
            there, at = _among(hashes, layer.hashes)
            same = (layer.keys[at] == keys[there]).all(axis=1)
            there, at = there[same], at[same]
            peer[there], peer_tenant[there] = layer.holder[at], layer.holder_tenant[at]
        peer[vm == 0] = 0
        return Found(
            vm=vm, peer=peer, tenant=tenant, network=network, abroad=(peer != 0) & (peer_tenant != tenant),
            tenants=list(self._names.tenants), networks=list(self._names.networks),
        )  # fmt: skip

    def describe(self, numbers: Iterable[int]) -> list[Endpoint]:
        """Return the VMs, as they are or were, that have these numbers; of numbers that nobody has, nothing."""
        return [found for number in numbers if (found := self._names.endpoints.get(number)) is not None]

    def cards(self, path: str) -> dict[int, str]:
        """Return the paths of a VM's vNICs, as it is now, by their numbers."""
        vm = self._vms.get(path)
        return {vnic.id: f"{path}/{vnic.name}" for vnic in vm.vnics} if vm else {}


class _Names:
    """Texts by their place, and VMs by their number: what all layers share. It only grows."""

    def __init__(self) -> None:
        self.tenants: dict[str, int] = {"": 0}
        self.networks: dict[str, int] = {"": 0}
        self.domains: dict[str, int] = {}
        self.endpoints: dict[int, Endpoint] = {}

    def number(self, vm: VirtualMachine) -> int:
        number = endpoint_number(vm.path, vm.labels)
        if number not in self.endpoints:
            self.endpoints[number] = Endpoint(number=number, path=vm.path, labels=vm.labels)
        return number


def _layer(vms: Iterable[VirtualMachine], gone: Iterable[VirtualMachine], names: _Names) -> _Layer:
    """Put VMs into arrays; the vNICs and addresses of ``gone`` are nobody's, where no VM has them now."""
    now, before = list(vms), list(gone)
    columns = Columns.of([*before, *now])
    of_vnic = np.repeat(np.arange(len(columns.paths)), np.diff(columns.vm_vnics))
    alive = np.arange(len(columns.paths)) >= len(before)
    numbers = np.array([0] * len(before) + [names.number(vm) for vm in now], "<u8")
    tenant = _places(names.tenants, (scope.tenant or "" for scope in columns.scopes))[columns.vm_scope]
    networks = _places(names.networks, (network.path for network in columns.networks))
    domains = _places(names.domains, (network.routing_domain for network in columns.networks)).astype(
        "<u8"
    ) + np.uint64(1)
    domain = domains[columns.vnic_network] if len(columns.vnic_network) else np.empty(0, "<u8")
    # Who is there now stands behind who was: of equal ones the last counts.
    ids, at = _last(columns.ids)
    vnic_vm = of_vnic[at]
    of_address = np.repeat(np.arange(len(columns.ids)), np.diff(columns.vnic_addresses))
    keys = _keys(domain[of_address], columns.addresses)
    hashes, place = _last(_hashes(keys))
    holder_vm = of_vnic[of_address[place]]
    return _Layer(
        ids=ids, number=np.where(alive[vnic_vm], numbers[vnic_vm], 0).astype("<u8"),
        tenant=np.where(alive[vnic_vm], tenant[vnic_vm], 0).astype("<i4"), network=np.where(alive[vnic_vm], networks[columns.vnic_network[at]], 0).astype("<i4"),
        domain=domain[at], hashes=hashes, keys=keys[place], holder=np.where(alive[holder_vm], numbers[holder_vm], 0).astype("<u8"),
        holder_tenant=tenant[holder_vm].astype("<i4"),
    )  # fmt: skip


def _places(known: dict[str, int], texts: Iterable[str]) -> Array:
    return np.array([known.setdefault(text, len(known)) for text in texts], "<i8")


def _last(values: Array) -> tuple[Array, Array]:
    """Return the distinct values in order, and the last place of each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ends = np.append(ordered[1:] != ordered[:-1], np.ones(min(len(ordered), 1), "?"))
    return ordered[ends], order[ends]


def _among(values: Array, ordered: Array) -> tuple[Array, Array]:
    """Return which of ``values`` are among the ordered ones, and where."""
    if not len(ordered):
        return np.empty(0, "<i8"), np.empty(0, "<i8")
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    there = np.flatnonzero(ordered[at] == values)
    return there, at[there]


def _keys(domains: Array, addresses: Array) -> Array:
    halves = np.ascontiguousarray(addresses).view("<u8").reshape(-1, 2)
    return np.column_stack([domains.astype("<u8"), halves])


def _hashes(keys: Array) -> Array:
    with np.errstate(over="ignore"):
        mixed = keys * _MIX
        mixed ^= mixed >> np.uint64(29)
        found: Array = (mixed[:, 0] + mixed[:, 1] * _MIX[1]) ^ (mixed[:, 2] * _MIX[2])
        found ^= found >> np.uint64(32)
    return found
