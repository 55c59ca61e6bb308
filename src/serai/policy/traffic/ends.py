"""Who the ends of recorded conversations are in a world: told by path and address, found as its gates would find them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from serai.model.address import LINK_LOCAL, Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Direction
from serai.model.ports import ICMP, ICMPV6
from serai.model.world import World
from serai.policy.traffic.seen import Conversation

_VERSION_OF = {ICMP: 4, ICMPV6: 6}
"""Protocols that only one version of IP carries."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of a conversation. A finder makes each once, and it is equal to nothing but itself."""

    holder: tuple[VirtualMachine, Vnic] | None
    """Who holds the address, which is what the other side sees; None: no VM."""
    address: Address
    judged: tuple[VirtualMachine, Vnic] | None
    """Whose gate judges this side: the holder, or a VM that may use the address beside its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a conversation."""

    domain: str
    """The routing domain in which their addresses are."""
    source: End
    target: End


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """An address that a VM may have used."""

    vm: VirtualMachine
    vnic: Vnic
    address: Address


class Finder:
    """Finds the ends of conversations in one world."""

    def __init__(self, world: World) -> None:
        """Index who holds what."""
        self._world = world
        self._holders: dict[tuple[str, Address], tuple[VirtualMachine, Vnic]] = {
            (vnic.network.routing_domain, address): (vm, vnic) for vm, vnic in world.vnics() for address in vnic.held
        }
        self._ends: dict[tuple[str, Address, int], End] = {}
        self._used: dict[tuple[object, ...], list[_Place]] = {}

    @property
    def holders(self) -> Mapping[tuple[str, Address], tuple[VirtualMachine, Vnic]]:
        """By routing domain and address."""
        return self._holders

    def find(self, conversation: Conversation) -> Ends | None:
        """Find both ends; None where one is there no more, or where none of them has a gate.

        Where addresses are not told, a pair of the two VMs' own is taken: on one network before in one routing domain,
        those that are not link-local first. A VM that has other addresses now is found by these.
        """
        c, version = conversation, _VERSION_OF.get(conversation.protocol)
        network = {c.side: c.network}
        source = self._places(c.source, c.source_address, network.get(Direction.EGRESS, ""), version)
        target = self._places(c.target, c.target_address, network.get(Direction.INGRESS, ""), version)
        if c.source is not None and c.target is not None:
            pairs = [
                (mine, other)
                for mine in source
                for other in target
                if mine.address.version == other.address.version
                and mine.vnic.network.routing_domain == other.vnic.network.routing_domain
            ]
            pair = min(pairs, key=_preference) if len(pairs) > 1 else next(iter(pairs), None)
            return pair and self._joined(pair[0].vnic.network.routing_domain, *pair)
        if c.source is not None:
            return self._outward(source, c.target_address, inverted=False)
        if c.target is not None:
            return self._outward(target, c.source_address, inverted=True)
        known = self._world.networks.get(c.network)
        if known is None or c.source_address is None or c.target_address is None:
            return None
        return self._joined(known.routing_domain, c.source_address, c.target_address)

    def _outward(self, places: list[_Place], other: Address | None, *, inverted: bool) -> Ends | None:
        for place in places:
            if other is not None and place.address.version == other.version:
                domain = place.vnic.network.routing_domain
                return self._joined(domain, other, place) if inverted else self._joined(domain, place, other)
        return None

    def _joined(self, domain: str, source: _Place | Address, target: _Place | Address) -> Ends | None:
        ends = Ends(domain, self._end(domain, source), self._end(domain, target))
        return ends if ends.source.judged or ends.target.judged else None

    def _end(self, domain: str, place: _Place | Address) -> End:
        address, user = (place.address, place.vnic.id) if isinstance(place, _Place) else (place, 0)
        key = domain, address, user
        found = self._ends.get(key)
        if found is None:
            holder = self._holders.get((domain, address))
            judged = (place.vm, place.vnic) if isinstance(place, _Place) else holder
            found = self._ends[key] = End(holder, address, judged)
        return found

    def _places(self, path: str | None, address: Address | None, network: str, version: int | None) -> list[_Place]:
        key = path, address, network, version
        found = self._used.get(key)
        if found is None:
            found = self._used[key] = self._may_have_used(path, address, network, version)
        return found

    def _may_have_used(
        self, path: str | None, address: Address | None, network: str, version: int | None
    ) -> list[_Place]:
        """Find what a VM may have used, the likeliest first."""
        vm = None if path is None else self._world.vms.get(path)
        if vm is None:
            return []
        there = [vnic for vnic in vm.vnics if vnic.network.path == network]
        vnics = there or list(vm.vnics)
        if address is not None:
            exact = [_Place(vm, vnic, address) for vnic in vnics if _may_use(vnic, address)]
            if exact:
                return exact
            version = address.version
        return sorted(
            (place for vnic in vnics for place in _own(vm, vnic) if version in {None, place.address.version}),
            key=lambda place: place.address in LINK_LOCAL,
        )


def _own(vm: VirtualMachine, vnic: Vnic) -> Iterator[_Place]:
    for address in vnic.held:
        yield _Place(vm, vnic, address)


def _may_use(vnic: Vnic, address: Address) -> bool:
    return address in vnic.held or any(address in allowed.prefix for allowed in vnic.security.allowed)


def _preference(pair: tuple[_Place, _Place]) -> tuple[bool, bool, int]:
    mine, other = pair
    return (
        (mine.address in LINK_LOCAL) or (other.address in LINK_LOCAL),
        mine.vnic.network.path != other.vnic.network.path,
        mine.address.version,
    )
