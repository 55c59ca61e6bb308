"""What a gate is told about its vNIC, byte by byte."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network, IPv6Network, ip_address

import numpy as np
import pytest

from serai.datapath import layout
from serai.datapath.vnics import bindings, more_macs, vnic_record
from serai.model.address import pack
from serai.model.inventory import AllowedAddress, Mac, PortSecurity, Serves, VnicId
from serai.model.ruleset import GuardedVnic
from serai.model.tenancy import Mode

ID = VnicId(0x1122334455667788)
MAC, VRRP = Mac("52:54:00:00:00:01"), Mac("00:00:5e:00:01:07")
LINK_LOCAL = "fe80::5054:ff:fe00:1"
NOTHING = bytes(16)


def guarded(*addresses: str, mode: Mode = Mode.ENFORCE, vnic: VnicId = ID, **security: object) -> GuardedVnic:
    return GuardedVnic(
        id=vnic, path="/acme/shop:vm/eth0", mac=MAC, addresses=tuple(map(ip_address, addresses)),
        security=dataclasses.replace(PortSecurity(), **security), mode=mode, view=2**63 + 1, members=3,
        egress=2**64 - 1, ingress=5,
    )  # fmt: skip


def told(vnic: GuardedVnic, *, slot: int = 9, flow_rate: int = 100) -> np.void:
    (record,) = vnic_record(42, vnic, slot, flow_rate=flow_rate)
    assert isinstance(record, np.void)
    return record


def packed(address: str) -> bytes:
    return pack(ip_address(address))


def test_who_it_is_and_what_judges_it() -> None:
    vnic = guarded("10.0.0.1")
    record = told(vnic)
    assert (record["ifindex"], record["id"], record["view"], record["slot"]) == (42, ID, 2**63 + 1, 9)
    assert record["ruleset"].tolist() == [2**64 - 1, 5]
    assert record["judged_by"] == vnic.judged_by
    assert record["mac"].tobytes() == MAC.packed


@pytest.mark.parametrize(
    ("addresses", "places"),
    [
        (("10.0.0.1",), ("10.0.0.1", None, None)),
        (("10.0.0.1", "10.0.0.2"), ("10.0.0.1", None, None)),
        (("2001:db8::1", LINK_LOCAL), (None, "2001:db8::1", LINK_LOCAL)),
        ((LINK_LOCAL, "2001:db8::1", "10.0.0.1"), ("10.0.0.1", "2001:db8::1", LINK_LOCAL)),
        (("fe80::9", LINK_LOCAL), (None, "fe80::9", LINK_LOCAL)),
        ((LINK_LOCAL,), (None, None, LINK_LOCAL)),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_the_first_address_of_each_kind_has_a_place(addresses: tuple[str, ...], places: tuple[str | None, ...]) -> None:
    record = told(guarded(*addresses))
    assert [place.tobytes() for place in record["address"]] == [packed(p) if p else NOTHING for p in places]
    others = {packed(a) for a in addresses} - {packed(p) for p in places if p}
    vnic = guarded(*addresses)
    keys = bindings([vnic])
    assert {key["address"].tobytes() for key in keys} == others
    assert {key["mac"].tobytes() for key in keys} <= {vnic.mac.packed}
    assert bool(record["flags"] & layout.FLAG_MORE_ADDRESSES) == bool(others)


@pytest.mark.parametrize(
    ("vnic", "flags"),
    [
        (guarded("10.0.0.1"), 0),
        (guarded("10.0.0.1", mode=Mode.OBSERVE), layout.FLAG_OBSERVE),
        (guarded("10.0.0.1", mode=Mode.ISOLATE), 0),
        (guarded("10.0.0.1", "10.0.0.2"), layout.FLAG_MORE_ADDRESSES),
        (guarded("10.0.0.1", allowed=(AllowedAddress(prefix=IPv4Network("10.1.0.0/16")),)), layout.FLAG_MORE_ADDRESSES),
        (guarded("10.0.0.1", allowed=(AllowedAddress(prefix=IPv4Network("10.1.0.1"), mac=VRRP),)),
         layout.FLAG_MORE_ADDRESSES | layout.FLAG_MORE_MACS),
        (guarded("10.0.0.1", serves=frozenset({Serves.DHCP})), layout.FLAG_SERVES_DHCP),
        (guarded("10.0.0.1", serves=frozenset({Serves.ROUTER})), layout.FLAG_ROUTER),
        (guarded("10.0.0.1", tunnels=True), layout.FLAG_TUNNELS),
        (guarded("10.0.0.1", mode=Mode.OBSERVE, tunnels=True, serves=frozenset(Serves)),
         layout.FLAG_OBSERVE | layout.FLAG_TUNNELS | layout.FLAG_ROUTER | layout.FLAG_SERVES_DHCP),
    ],
    ids=["plain", "observe", "isolate", "two addresses", "prefix", "another MAC", "dhcp", "router", "tunnels", "many"],
)  # fmt: skip
def test_flags(vnic: GuardedVnic, flags: int) -> None:
    assert told(vnic)["flags"] == flags


def test_ethertypes_stand_in_network_order() -> None:
    assert told(guarded("10.0.0.1"))["ethertypes"].tobytes() == bytes(8)
    record = told(guarded("10.0.0.1", ethertypes=(0x0600, 0x88CC, 0x8847)))
    assert record["ethertypes"].tobytes() == bytes.fromhex("0600 88cc 8847 0000")


def test_its_own_rate_goes_before_the_hosts() -> None:
    assert told(guarded("10.0.0.1"), flow_rate=100)["flow_rate"] == 100
    assert told(guarded("10.0.0.1"), flow_rate=0)["flow_rate"] == 0, "no limit"
    assert told(guarded("10.0.0.1", new_flows_per_second=7), flow_rate=100)["flow_rate"] == 7


def test_prefixes_are_bound_with_their_mac() -> None:
    allowed = (
        AllowedAddress(prefix=IPv4Network("10.9.0.0/16")),
        AllowedAddress(prefix=IPv4Network("10.0.0.254/32"), mac=VRRP),
        AllowedAddress(prefix=IPv6Network("2001:db8:9::/48")),
        AllowedAddress(prefix=IPv6Network("fe80::7/128"), mac=VRRP),
    )
    other = guarded("10.0.0.1", "10.0.0.2", vnic=VnicId(1))
    vnic = guarded("10.0.0.1", allowed=allowed)
    keys = bindings([vnic, other])
    assert keys.dtype == layout.ADDRESS_KEY
    found = {
        (int(key["vnic"][0]) | int(key["vnic"][1]) << 32, int(key["length"]) - 128, key["address"].tobytes()): key[
            "mac"
        ].tobytes()
        for key in keys
    }
    assert found == {
        (ID, 96 + 16, packed("10.9.0.0")): vnic.mac.packed,
        (ID, 128, packed("10.0.0.254")): VRRP.packed,
        (ID, 48, packed("2001:db8:9::")): vnic.mac.packed,
        (ID, 128, packed("fe80::7")): VRRP.packed,
        (1, 128, packed("10.0.0.2")): other.mac.packed,
    }
    assert {key.tobytes()[4:12] for key in keys} == {n.to_bytes(8, "little") for n in (ID, 1)}, "as the gate splits it"


def test_each_mac_is_named_once() -> None:
    twice = (
        AllowedAddress(prefix=IPv4Network("10.0.0.254"), mac=VRRP),
        AllowedAddress(prefix=IPv4Network("10.0.0.253"), mac=VRRP),
        AllowedAddress(prefix=IPv4Network("10.0.0.252")),
    )
    keys = more_macs([guarded("10.0.0.1", allowed=twice), guarded("10.0.0.2", allowed=twice, vnic=VnicId(1))])
    assert keys.dtype == layout.MAC_KEY
    assert [(int(key["vnic"]), key["mac"].tobytes(), key["pad"].tobytes()) for key in keys] == [
        (1, VRRP.packed, bytes(2)), (ID, VRRP.packed, bytes(2)),
    ]  # fmt: skip


def test_nobody_needs_nothing() -> None:
    keys = bindings([guarded("10.0.0.1")])
    assert (len(keys), len(more_macs([guarded("10.0.0.1")]))) == (0, 0)
    assert keys.dtype == layout.ADDRESS_KEY
