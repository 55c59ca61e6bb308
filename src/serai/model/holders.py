"""Who holds what there can be only one of: MAC addresses, addresses of a routing domain, domains of a host, bridges, VNIs, hosts of a pool."""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

from serai.model import resources
from serai.model.address import Prefix, pack, unpack
from serai.model.buckets import Buckets
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Vnic
from serai.model.key import Key
from serai.model.resources import Resource, label

Claim = tuple[str, str, Hashable]
"""What kind of thing (``mac``, ``address``, ``domain``, ``bridge``, ``vni``, ``host``, ``site``), within what, and which one."""

SITE: Final[Claim] = ("site", "", "")
_MANY: Final = 64
"""So many addresses are put into their places one by one; more are sorted in."""


def claims_of(definition: Definition[Resource], vnics: Sequence[Vnic | None] = ()) -> Iterator[tuple[Claim, Path]]:
    """Go through what a resource lays claim to, and the fields that do.

    Args:
        definition: the resource.
        vnics: of a VM: what came of each of its vNICs; None where its network is not known.
    """
    resource = definition.resource
    match resource:
        case resources.Site():
            yield SITE, ()
        case resources.Pool():
            for number, host in enumerate(resource.spec.hosts):
                yield ("host", "", host), ("spec", "hosts", number)
        case resources.Network():
            # One bridge or one VXLAN under two networks would join what their routing domains keep apart.
            if resource.spec.bridge is not None:
                yield ("bridge", "", resource.spec.bridge), ("spec", "bridge")
            if resource.spec.vni is not None:
                yield ("vni", "", resource.spec.vni), ("spec", "vni")
        case resources.VirtualMachine():
            spec = resource.spec
            if spec.host is not None:
                name: Path = ("spec", "domain") if spec.domain else ("metadata", "name")
                yield ("domain", spec.host, spec.domain or resource.metadata.name), name
            for number, (card, vnic) in enumerate(zip(spec.vnics, vnics, strict=True)):
                path: Path = ("spec", "vnics", number)
                yield ("mac", "", card.mac), (*path, "mac")
                if vnic is None:
                    continue
                for position, address in enumerate(vnic.held):
                    implied = position >= len(card.addresses)
                    spot = (*path, "mac") if implied else (*path, "addresses", position)
                    yield ("address", vnic.network.routing_domain, pack(address)), spot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holders:
    """Who holds what."""

    _by: Buckets[Claim, Key] = dataclasses.field(default_factory=Buckets)
    _addresses: Mapping[str, Sequence[bytes]] = dataclasses.field(default_factory=dict)
    """All that are held in each routing domain, in order."""

    def get(self, claim: Claim) -> Key | None:
        """Return who holds this; None: nobody does."""
        return self._by.get(claim)

    def within(self, domain: str, prefix: Prefix) -> Iterator[tuple[bytes, Key]]:
        """Go through what is held between the ends of ``prefix`` in a routing domain, in order, with its holders."""
        found = self._addresses.get(domain, ())
        begin = bisect.bisect_left(found, pack(prefix.network_address))
        end = bisect.bisect_right(found, pack(prefix.broadcast_address))
        for raw in found[begin:end]:
            holder = self._by.get(("address", domain, raw))
            if holder is not None:
                yield raw, holder

    def changed(self, changes: Mapping[Claim, Key | None]) -> Self:
        """Return who holds what when some things have another holder (None: have none)."""
        come: dict[str, list[bytes]] = collections.defaultdict(list)
        gone: dict[str, list[bytes]] = collections.defaultdict(list)
        for claim, holder in changes.items():
            kind, domain, raw = claim
            if kind == "address" and isinstance(raw, bytes) and (holder is None) != (self._by.get(claim) is None):
                (gone if holder is None else come)[domain].append(raw)
        addresses = dict(self._addresses)
        for domain in come.keys() | gone.keys():
            addresses[domain] = _merged(addresses.get(domain, ()), gone[domain], come[domain])
            if not addresses[domain]:
                del addresses[domain]
        return type(self)(_by=self._by.changed(changes), _addresses=addresses)


def _merged(old: Sequence[bytes], gone: Iterable[bytes], come: Sequence[bytes]) -> Sequence[bytes]:
    new = list(old)
    for raw in gone:
        del new[bisect.bisect_left(new, raw)]
    if len(come) > _MANY:
        new += sorted(come)
        new.sort()
    else:
        for raw in come:
            bisect.insort(new, raw)
    return new


class Taking:
    """Who takes what in the course of one change: first come, first served, but what is held already stays."""

    def __init__(
        self,
        before: Holders,
        released: Iterable[Claim],
        definitions: Mapping[Key, Definition[Resource]],
        complaints: Complaints,
    ) -> None:
        """Take what is held, what is held no more, and all resources as they will be."""
        self._before, self._released = before, frozenset(released)
        self._taken: dict[Claim, Key] = {}
        self._definitions, self._complaints = definitions, complaints

    def take(self, key: Key, claims: Iterable[tuple[Claim, Path]]) -> None:
        """Let a resource have what it claims; complain where something else has it."""
        for claim, path in claims:
            holder = self.holder(claim)
            if holder is None:
                self._taken[claim] = key
            else:
                message = _taken(claim, path, self._definitions[holder])
                self._complaints.about(self._definitions[key], path, message)

    def holder(self, claim: Claim) -> Key | None:
        """Return who has this by now."""
        holder = self._taken.get(claim)
        return self._before.get(claim) if holder is None and claim not in self._released else holder

    def changes(self) -> dict[Claim, Key | None]:
        """Return what has another holder than before; None: has none."""
        found: dict[Claim, Key | None] = {claim: None for claim in self._released if claim not in self._taken}
        return found | {claim: key for claim, key in self._taken.items() if self._before.get(claim) != key}


def _taken(claim: Claim, path: Path, holder: Definition[Resource]) -> str:
    kind, within, which = claim
    match kind:
        case "site":
            return f"there can be only one Site: the first is at {holder.place}"
        case "address":
            made = " (the link-local address that this MAC makes)" if path[-1] == "mac" else ""
            address = unpack(which) if isinstance(which, bytes) else which
            what = f"{address}{made} of the routing domain {within!r}"
        case "domain":
            what = f"domain {which} of host {within}"
        case "mac":
            what = f"MAC address {which}"
        case "vni":
            what = f"VNI {which}"
        case _:
            what = f"{kind} {which}"
    return f"{what} is taken already, by {label(holder.resource)} at {holder.place}"
