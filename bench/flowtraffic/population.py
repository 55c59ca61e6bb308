"""Who there is: VMs of tenants in scopes, with labels, vNICs, addresses and hosts; and clients outside.

The same arguments give the same data center. All numbers are those that the real thing has: hashes of what they name, so that whatever
compresses them has no more luck than it would have with real ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.flowtraffic.books import BOOK_RULES, TIERS, Books
from serai.analysis.register import endpoint_number
from serai.model.address import unpack
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.tenancy import Mode, Scope, content_id

Array = NDArray[Any]

CLIENTS: Final = 200_000
"""Addresses outside that ever speak to anybody here."""
_APP_VMS: Final = 24
"""Of one application, more or less."""
_TIER_SHARES: Final = (0.35, 0.4, 0.2, 0.05)
_ENVS: Final = ("prod", "prod", "stage", "dev")
_SECOND_CARD, _DUAL_STACK, _OBSERVING, _CLIENTS_IPV6 = 0.15, 0.35, 0.08, 0.12
_FIRST_IPV4: Final = 0x0A000010  # 10.0.0.16
_SUBNETS: Final = (IPv4Network("10.0.0.0/8"), IPv6Network("fd5e::/32"))
_MAPPED: Final = 0xFFFF0000
"""Bytes 8 to 11 of an IPv4 address in the mapped form, as a little-endian number."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ends:
    """Whatever can be at an end of a conversation.

    First each vNIC with its IPv4 address, then each with its IPv6 one, then clients outside, last nobody (``::``). Each array has an
    entry for each; those that mean nothing outside are 0 there.
    """

    address: Array
    """V16."""
    vm: Array
    """Place of the VM; as many as there are VMs: none."""
    number: Array
    """Of the VM, by time (``flows.vm``)."""
    vnic: Array
    identity: Array
    tenant: Array
    """Place in ``Population.tenants``."""
    host: Array
    network: Array
    book: Array
    """Which rules apply: place in ``Books.rules``, in steps of ``BOOK_RULES``."""
    observes: Array
    """What policy denies passes all the same."""
    ipv6: Array
    """Its address is one of IPv6."""


class Population:
    """A data center on paper."""

    def __init__(
        self, *, vms: int = 40_000, tenants: int = 400, hosts: int = 512, clients: int = CLIENTS, seed: int = 1
    ) -> None:
        """Make it: tenants differ in size as words in frequency, and everyone has a VM at least."""
        rng = np.random.default_rng(seed)
        self.vms, self.seed = vms, seed
        self.tenants = [f"t{number}" for number in range(tenants)] + [""]
        self.hosts = [f"host-{number:03}" for number in range(hosts)]
        """In the order in which their intervals end."""
        self.networks = [f"/t{number}:{name}" for number in range(tenants) for name in ("front", "back")] + [""]
        self.tenant = np.repeat(np.arange(tenants), _sizes(vms, tenants))
        self.first = np.searchsorted(self.tenant, np.arange(tenants + 1))
        """Where the VMs of each tenant begin."""
        self.app = (np.arange(vms) - self.first[self.tenant]) // _APP_VMS
        self.tier = rng.choice(len(TIERS), vms, p=_TIER_SHARES)
        self.host = rng.integers(0, hosts, vms)
        self.cards = 1 + (rng.random(vms) < _SECOND_CARD)
        self.first_card = np.cumsum(self.cards) - self.cards
        self.dual = rng.random(tenants) < _DUAL_STACK
        """Which tenants use IPv6 too."""
        self.observing = rng.random(tenants) < _OBSERVING
        self.labels: list[Mapping[str, str]] = []
        self.paths: list[str] = []
        for vm, (tenant, app, tier) in enumerate(
            zip(self.tenant.tolist(), self.app.tolist(), self.tier.tolist(), strict=True)
        ):
            self.labels.append({"app": f"app{app}", "tier": TIERS[tier], "env": _ENVS[app % len(_ENVS)]})
            self.paths.append(f"/t{tenant}/app{app}:{TIERS[tier]}-{vm}")
        self.numbers = np.array(
            [endpoint_number(path, labels) for path, labels in zip(self.paths, self.labels, strict=True)], "<u8"
        )
        self.by_popularity = rng.permutation(vms)
        """VMs, those that speak most first."""
        self.books = Books(tenants)
        self.ends = self._ends(clients, rng)

    @property
    def all_cards(self) -> int:
        """How many vNICs there are."""
        return int(self.cards.sum())

    @property
    def outside(self) -> range:
        """Which ends are clients."""
        return range(2 * self.all_cards, len(self.ends.vm) - 1)

    def _ends(self, clients: int, rng: np.random.Generator) -> Ends:
        of_vm = np.repeat(np.arange(self.vms), self.cards)
        second = np.arange(len(of_vm)) - self.first_card[of_vm]
        tenant = self.tenant[of_vm]
        identities = {
            key: content_id("identity", str(key))
            for key in set(zip(tenant.tolist(), self.app[of_vm].tolist(), self.tier[of_vm].tolist(), strict=True))
        }
        keys = zip(tenant.tolist(), self.app[of_vm].tolist(), self.tier[of_vm].tolist(), strict=True)
        ids = np.array(
            [vnic_id(*self._card(vm, card)) for vm, card in zip(of_vm.tolist(), second.tolist(), strict=True)], "<u8"
        )
        addresses = np.concatenate(
            [
                _own(tenant),
                _own(np.where(self.dual[tenant], tenant, -1), ipv6=True),
                _clients(clients, rng),
                np.zeros((1, 2), "<u8"),
            ]
        )
        outside = np.array([content_id("identity", "outside", str(number)) for number in range(8)] + [0] * 24, "<u8")[
            rng.integers(0, 32, clients)
        ]

        ipv6 = addresses[:, 1] & np.uint64(0xFFFFFFFF) != np.uint64(_MAPPED)
        ipv6[-1] = False

        def twice(values: Array, other: int = 0) -> Array:
            return np.concatenate([values, values, np.full(clients + 1, other)], dtype=values.dtype, casting="unsafe")

        identity = twice(np.array([identities[key] for key in keys], "<u8"))
        identity[2 * len(of_vm) : -1] = outside
        return Ends(
            address=np.ascontiguousarray(addresses).view("V16").reshape(-1), vm=twice(of_vm, self.vms), number=twice(self.numbers[of_vm]), vnic=twice(ids),
            identity=identity, tenant=twice(tenant.astype("<i4"), len(self.tenants) - 1), host=twice(self.host[of_vm].astype("<i4")),
            network=twice((tenant * 2 + second).astype("<i4"), len(self.networks) - 1),
            book=twice((tenant * len(TIERS) + self.tier[of_vm]) * BOOK_RULES), observes=twice(self.observing[tenant]), ipv6=ipv6,
        )  # fmt: skip

    def _card(self, vm: int, card: int) -> tuple[Scope, str, str]:
        scope, _, name = self.paths[vm].rpartition(":")
        return Scope(scope), name, f"eth{card}"

    # What the inventory says of them

    def endpoints(self, since: int = 0) -> pa.Table:
        """Return the rows of the store's table of that name."""
        scopes, names = zip(*(path.rsplit(":", 1) for path in self.paths), strict=True)
        return pa.table(
            {
                "number": pa.array(self.numbers), "path": self.paths, "name": names, "tenant": [self.tenants[place] for place in self.tenant],
                "scope": scopes, "labels": pa.array([list(labels.items()) for labels in self.labels], pa.map_(pa.string(), pa.string())),
                "since": pa.array(np.full(self.vms, since, "<u4")),
            }
        )  # fmt: skip

    def vnics(self) -> pa.Table:
        """Return the rows of the store's table of that name."""
        paths = [
            f"{path}/eth{card}"
            for path, cards in zip(self.paths, self.cards.tolist(), strict=True)
            for card in range(cards)
        ]
        return pa.table({"vnic": pa.array(self.ends.vnic[: len(paths)]), "path": paths})

    def rules(self) -> pa.Table:
        """Return the rows of the store's table of that name."""
        return self.books.table()

    def machines(self) -> Mapping[str, VirtualMachine]:
        """Return the VMs by path, as a world has them."""
        networks = [self._network(path) for path in self.networks[:-1]]
        found, cards = {}, self.all_cards
        for vm, path in enumerate(self.paths):
            places = range(self.first_card[vm], self.first_card[vm] + self.cards[vm])
            found[path] = VirtualMachine(
                name=path.rpartition(":")[2], scope=Scope(path.rpartition(":")[0]), labels=self.labels[vm],
                mode=Mode.OBSERVE if self.observing[self.tenant[vm]] else Mode.ENFORCE, host=self.hosts[self.host[vm]],
                vnics=tuple(
                    Vnic(
                        id=vnic_id(*self._card(vm, card)), name=f"eth{card}", network=networks[self.ends.network[place]],
                        mac=Mac(":".join(f"{byte:02x}" for byte in (2, *place.to_bytes(5, "big")))),
                        addresses=tuple(unpack(self.ends.address[each].tobytes()) for each in (place, place + cards)[: 1 + self.dual[self.tenant[vm]]]),
                    )
                    for card, place in enumerate(places)
                ),
            )  # fmt: skip
        return found

    @staticmethod
    def _network(path: str) -> Network:
        scope, _, name = path.rpartition(":")
        return Network(name=name, scope=Scope(scope), routing_domain="/:everybody", subnets=_SUBNETS)


def _sizes(vms: int, tenants: int) -> Array:
    """Return how many VMs each tenant has, so that all have one and together they have all."""
    weights = 1 / np.arange(1, tenants + 1) ** 0.9
    ends = np.round(np.cumsum(weights) / weights.sum() * (vms - tenants)).astype("i8")
    found: Array = np.diff(ends, prepend=0) + 1
    return found


def _own(tenant: Array, *, ipv6: bool = False) -> Array:
    """Return the addresses of vNICs, one after another; of tenant -1: none."""
    found = np.zeros((len(tenant), 2), "<u8")
    places = np.arange(len(tenant), dtype="<u8")
    if ipv6:
        found[:, 0] = (
            np.where(tenant < 0, 0, (np.uint64(0xFD5E) << np.uint64(48)) | np.maximum(tenant, 0).astype("<u8"))
            .astype("<u8")
            .byteswap()
        )
        found[:, 1] = np.where(tenant < 0, 0, places + np.uint64(16)).astype("<u8").byteswap()
    else:
        found[:, 1] = _mapped(places.astype("<u4") + np.uint32(_FIRST_IPV4))
    return found


def _clients(count: int, rng: np.random.Generator) -> Array:
    """Return addresses of the internet, most of them IPv4."""
    found = np.zeros((count, 2), "<u8")
    found[:, 1] = _mapped(rng.integers(0x0B000000, 0x64000000, count, dtype="<u4"))
    ipv6 = rng.random(count) < _CLIENTS_IPV6
    found[ipv6, 0] = (
        rng.integers(0x2A00_0000, 0x2A10_0000, ipv6.sum(), dtype="<u8") << np.uint64(32)
        | rng.integers(0, 1 << 32, ipv6.sum(), dtype="<u8")
    ).byteswap()
    found[ipv6, 1] = rng.integers(1, 1 << 63, ipv6.sum(), dtype="<u8")
    return found


def _mapped(addresses: Array) -> Array:
    raw = addresses.astype("<u4").byteswap().astype("<u8")
    found: Array = raw << np.uint64(32) | np.uint64(_MAPPED)
    return found
