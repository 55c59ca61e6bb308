"""Tells gates whom they guard: records that never change, and pointers that move from one to the next.

A gate may be reading a record at any moment. So a change writes another record and then moves the tap's pointer to
it, in one step; the old one rests until no packet can still be at it.
"""

from __future__ import annotations

import collections
import errno
import time
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from serai.datapath import layout
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map
from serai.model.address import Address, link_local, pack, packed_length, prefix_of
from serai.model.inventory import Serves
from serai.model.ruleset import GuardedVnic
from serai.model.tenancy import Mode

_REST_SECONDS = 0.1
"""No packet takes that long through a gate."""
BINDING_BITS = 128
"""Of vNIC and MAC, in front of the address."""
_NOBODY = 0


def vnic_record(ifindex: int, vnic: GuardedVnic, slot: int, *, flow_rate: int, amid_until_ns: int = 0) -> Array:
    """Lay out what the gate on the tap ``ifindex`` is told, as an array of one.

    ``flow_rate`` is the limit where the vNIC has none of its own, in new flows a second; until ``amid_until_ns`` (CLOCK_MONOTONIC)
    it takes connections whose beginning it has not seen.
    """
    security = vnic.security
    flags = {
        layout.FLAG_OBSERVE: vnic.mode is Mode.OBSERVE,
        layout.FLAG_MORE_ADDRESSES: bool(_beside_record(vnic) or security.allowed),
        layout.FLAG_MORE_MACS: any(allowed.mac for allowed in security.allowed),
        layout.FLAG_SERVES_DHCP: Serves.DHCP in security.serves,
        layout.FLAG_ROUTER: Serves.ROUTER in security.serves,
        layout.FLAG_TUNNELS: security.tunnels,
    }
    record = np.zeros(1, layout.VNIC)
    record["ifindex"] = ifindex
    record["flags"] = sum(flag for flag, is_set in flags.items() if is_set)
    record["judged_by"] = vnic.judged_by
    record["id"] = vnic.id
    record["view"] = vnic.view
    record["ruleset"] = [vnic.egress, vnic.ingress]
    for place, address in enumerate(_in_record(vnic)):
        record["address"][0, place] = np.frombuffer(pack(address) if address else layout.NO_ADDRESS, "u1")
    record["slot"] = slot
    record["flow_rate"] = security.new_flows_per_second or flow_rate
    record["ethertypes"][0, : len(security.ethertypes)] = security.ethertypes
    record["mac"] = list(vnic.mac.packed)
    record["amid_until_ns"] = amid_until_ns
    return record


def bindings(vnics: Collection[GuardedVnic]) -> Array:
    """Which addresses, beside those in their records, ``vnics`` may use with which MAC: keys of the map ``addresses``."""
    found = {
        (vnic.id, mac, packed_length(prefix), pack(prefix.network_address))
        for vnic in vnics
        for prefix, mac in (
            *((prefix_of(address), vnic.mac) for address in _beside_record(vnic)),
            *((allowed.prefix, allowed.mac or vnic.mac) for allowed in vnic.security.allowed),
        )
    }
    keys = np.zeros(len(found), layout.ADDRESS_KEY)
    for key, (vnic, mac, length, address) in zip(keys, sorted(found), strict=True):
        key["length"] = BINDING_BITS + length
        key["vnic"] = [vnic & 0xFFFFFFFF, vnic >> 32]
        key["mac"] = list(mac.packed)
        key["address"] = np.frombuffer(address, "u1")
    return keys


def more_macs(vnics: Collection[GuardedVnic]) -> Array:
    """The MAC addresses beside their own that ``vnics`` may use: keys of the map ``macs``."""
    pairs = sorted({(vnic.id, allowed.mac) for vnic in vnics for allowed in vnic.security.allowed if allowed.mac})
    keys = np.zeros(len(pairs), layout.MAC_KEY)
    for place, (vnic, mac) in enumerate(pairs):
        keys[place]["vnic"], keys[place]["mac"] = vnic, list(mac.packed)
    return keys


class Records:
    """Which record each tap's gate reads."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        """Use the gate's maps; what an earlier agent wrote stays in force."""
        self._records, self._near, self._far = maps["vnics"], maps["taps"], maps["far_taps"]
        self._used: dict[int, int] = {}
        self._places: dict[int, int] = {}
        """The tap, by ifindex, that has a place in the array."""
        _, all_records = self._records.dump()
        places, pointers = self._near.dump()
        for place, record in zip(
            places[pointers != _NOBODY].tolist(), pointers[pointers != _NOBODY].tolist(), strict=True
        ):
            ifindex = int(all_records[record]["ifindex"])
            self._used[ifindex] = record
            self._places[place] = ifindex
        far = dict(zip(*(numbers.tolist() for numbers in self._far.dump()), strict=True))
        # Of an agent that died amid a move to the place in the array, which is where the gate looks first.
        self._far.delete(np.array([ifindex for ifindex in far if ifindex in self._used], "<u4"))
        self._used = far | self._used
        taken = {_NOBODY, *self._used.values()}
        self._free = collections.deque(n for n in range(self._records.capacity) if n not in taken)
        self._resting: collections.deque[tuple[float, int]] = collections.deque()

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        """Go through the taps, by ifindex, and the record that each one's gate reads."""
        for ifindex, place in list(self._used.items()):
            record = self._records.get(place)
            if record is not None:
                yield ifindex, record

    def write(self, records: Mapping[int, Array]) -> None:
        """Let the gates on these taps (by ifindex) go by other records; one step a gate.

        Raises:
            KernelError: there is no room; the gates go by what they had.
        """
        chosen = self._choose(len(records))
        self._records.update(np.array(chosen, "<u4"), np.concatenate(list(records.values()), dtype=layout.VNIC))
        for ifindex, place in zip(records, chosen, strict=True):
            self._point(ifindex, place)

    def remove(self, ifindex: int) -> None:
        """Close the gate on this tap."""
        place = self._used.pop(ifindex, None)
        if place is None:
            return
        near = ifindex % layout.TAPS
        if self._places.get(near) == ifindex:
            self._near.update(np.array([near], "<u4"), np.array([_NOBODY], "<u4"))
            del self._places[near]
        else:
            self._far.delete(np.array([ifindex], "<u4"))
        self._resting.append((time.monotonic(), place))

    def _point(self, ifindex: int, place: int) -> None:
        near, before = ifindex % layout.TAPS, self._used.get(ifindex)
        was_far = before is not None and self._places.get(near) != ifindex
        if self._places.setdefault(near, ifindex) == ifindex:
            self._near.update(np.array([near], "<u4"), np.array([place], "<u4"))
            if was_far:  # the place has become free; nothing may lead to the old record any more
                self._far.delete(np.array([ifindex], "<u4"))
        else:
            self._far.update(np.array([ifindex], "<u4"), np.array([place], "<u4"))
        self._used[ifindex] = place
        if before is not None:
            self._resting.append((time.monotonic(), before))

    def _choose(self, count: int) -> list[int]:
        """Take ``count`` records that no gate reads, waiting a moment for them if need be."""
        while self._resting and (len(self._free) < count or time.monotonic() - self._resting[0][0] > _REST_SECONDS):
            since, place = self._resting.popleft()
            time.sleep(max(0.0, since + _REST_SECONDS - time.monotonic()))
            self._free.append(place)
        if len(self._free) < count:
            message = (
                f"{len(self._used) + count} gates are too many: this host has room for {self._records.capacity - 1}"
            )
            raise KernelError(errno.ENOSPC, message)
        return [self._free.popleft() for _ in range(count)]


def _in_record(vnic: GuardedVnic) -> tuple[Address | None, Address | None, Address | None]:
    """The first IPv4 and IPv6 address, and the link-local one that its MAC makes."""
    implied = link_local(vnic.mac.packed)
    others = [address for address in vnic.addresses if address != implied]
    return (
        next((address for address in others if isinstance(address, IPv4Address)), None),
        next((address for address in others if isinstance(address, IPv6Address)), None),
        implied if implied in vnic.addresses else None,
    )


def _beside_record(vnic: GuardedVnic) -> list[Address]:
    return [address for address in vnic.addresses if address not in _in_record(vnic)]
