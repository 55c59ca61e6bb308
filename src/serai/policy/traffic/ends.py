"""Who the ends of recorded conversations are in a world: told by path and address, found as its gates would find them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """An address that a VM may have used."""

    vnic: Vnic
    end: End
    version: int
    """Of IP, as the address says."""
    is_link_local: bool

    @property
    def domain(self) -> str:
        return self.vnic.network.routing_domain


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
                if mine.version == other.version and mine.domain == other.domain
            ]
            if not pairs:
                return None
            mine, other = min(pairs, key=_preference) if len(pairs) > 1 else pairs[0]
            return _joined(mine.domain, mine.end, other.end)
        if c.source is not None:
            return self._outward(source, c.target_address, inverted=False)
        if c.target is not None:
            return self._outward(target, c.source_address, inverted=True)
        known = self._world.networks.get(c.network)
        if known is None or c.source_address is None or c.target_address is None:
            return None
        ends = (self._end(known.routing_domain, address, None) for address in (c.source_address, c.target_address))
        return _joined(known.routing_domain, *ends)

    def _outward(self, places: list[_Place], other: Address | None, *, inverted: bool) -> Ends | None:
        for place in places:
            if other is not None and place.version == other.version:
                outside = self._end(place.domain, other, None)
                return _joined(place.domain, *((outside, place.end) if inverted else (place.end, outside)))
        return None

    def _place(self, vm: VirtualMachine, vnic: Vnic, address: Address) -> _Place:
        end = self._end(vnic.network.routing_domain, address, (vm, vnic))
        return _Place(vnic, end, address.version, address in LINK_LOCAL)

    def _end(self, domain: str, address: Address, user: tuple[VirtualMachine, Vnic] | None) -> End:
        """Return an end; ``user``: the VM that used the address, where that is known."""
        key = domain, address, user[1].id if user else 0
        found = self._ends.get(key)
        if found is None:
            holder = self._holders.get((domain, address))
            found = self._ends[key] = End(holder, address, user or holder)
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
            exact = [self._place(vm, vnic, address) for vnic in vnics if _may_use(vnic, address)]
            if exact:
                return exact
            version = address.version
        return sorted(
            (self._place(vm, vnic, held) for vnic in vnics for held in vnic.held if version in {None, held.version}),
            key=lambda place: place.is_link_local,
        )


def _joined(domain: str, source: End, target: End) -> Ends | None:
    return Ends(domain, source, target) if source.judged or target.judged else None


def _may_use(vnic: Vnic, address: Address) -> bool:
    return address in vnic.held or any(address in allowed.prefix for allowed in vnic.security.allowed)


def _preference(pair: tuple[_Place, _Place]) -> tuple[bool, bool, int]:
    mine, other = pair
    return (
        mine.is_link_local or other.is_link_local,
        mine.vnic.network.path != other.vnic.network.path,
        mine.version,
    )
