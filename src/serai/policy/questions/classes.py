"""Ends of connections that nothing tells apart, put together: what is worked out once holds for all of a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.world import World
from serai.policy.questions.outside import Atom

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """An address that a VM holds. Each is made once, and equal to nothing but itself."""

    vm: VirtualMachine
    vnic: Vnic
    address: Address


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Class(Generic[K]):
    """Ends of one kind: some that VMs hold, or some that none holds."""

    key: K
    """What kind."""
    endpoints: tuple[Endpoint, ...] = ()
    atoms: tuple[Atom, ...] = ()


def domains(world: World) -> dict[str, list[Endpoint]]:
    """Return the addresses that VMs hold, by routing domain."""
    found: dict[str, list[Endpoint]] = {}
    for vm, vnic in world.vnics():
        mine = found.setdefault(vnic.network.routing_domain, [])
        mine.extend(Endpoint(vm, vnic, address) for address in vnic.held)
    return dict(sorted(found.items()))


def partition(endpoints: Iterable[tuple[K, Endpoint]], atoms: Iterable[tuple[K, Atom]]) -> list[Class[K]]:
    """Put ends of one kind together, in the order in which they come. Atoms without any address are left out."""
    held: dict[K, list[Endpoint]] = {}
    for key, endpoint in endpoints:
        held.setdefault(key, []).append(endpoint)
    outside: dict[K, list[Atom]] = {}
    for key, atom in atoms:
        if atom.example is not None:
            outside.setdefault(key, []).append(atom)
    return [
        *(Class(key=key, endpoints=tuple(found)) for key, found in held.items()),
        *(Class(key=key, atoms=tuple(found)) for key, found in outside.items()),
    ]
