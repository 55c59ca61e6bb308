"""How the gate's structs look from Python. A test compares every one with the object's BTF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serai.model.flow import IDLE_CLASSES
from serai.model.inventory import ETHERTYPES
from serai.model.reasons import REASON_SLOTS
from serai.model.ruleset import ENDPOINT, LIST, PAGE, PREFIX

Layout = np.dtype[Any]

VERSION = 3
"""Of the layouts as a whole: part of the pins' path, so that an old gate never reads a new table."""

FLAG_OBSERVE = 1 << 0
FLAG_MORE_ADDRESSES = 1 << 1
FLAG_MORE_MACS = 1 << 2
FLAG_SERVES_DHCP = 1 << 3
FLAG_ROUTER = 1 << 4
FLAG_TUNNELS = 1 << 5

EGRESS, INGRESS = 0, 1
"""Directions as the gate counts them."""

TAPS = 65536
"""How many interface indices have a place of their own."""
NO_ADDRESS = bytes(16)
"""Stands in a vNIC's record for an address that it does not have: ``::`` is nobody's, and the gate treats it apart."""
SCALE_UNKNOWN = 0x40
"""Nobody has seen the TCP window scales of a flow: the gate takes its sequence numbers as they come."""
HANDSHAKE_REFUSED = 1 << 0
"""The answer to a flow's SYN was a reset."""
HANDSHAKE_TIMED = 1 << 1
"""One SYN has opened a flow, exactly at its ``first_ns``, and there was no answer yet: the gate will know how long it took."""
EVENT_DROP, EVENT_ENDED = 1, 2
"""What an event of the ring is about; the first four bytes of each."""

_ADDRESS = ("u1", (16,))

VNIC = np.dtype(
    [
        ("ifindex", "<u4"),
        ("flags", "<u4"),
        ("judged_by", "<u8"),
        ("mac", "u1", (6,)),
        ("pad", "u1", (2,)),
        ("slot", "<u4"),
        ("flow_rate", "<u4"),
        ("address", "u1", (3, 16)),
        ("id", "<u8"),
        ("view", "<u8"),
        ("ruleset", "<u8", (2,)),
        ("ethertypes", ">u2", (ETHERTYPES,)),
        ("amid_until_ns", "<u8"),
    ]
)
ADDRESS_KEY = np.dtype(
    [("length", "<u4"), ("vnic", "<u4", (2,)), ("mac", "u1", (6,)), ("pad", "u1", (2,)), ("address", *_ADDRESS)]
)
MAC_KEY = np.dtype([("vnic", "<u8"), ("mac", "u1", (6,)), ("pad", "u1", (2,))])
FLOW_KEY = np.dtype(
    [
        ("local", *_ADDRESS),
        ("remote", *_ADDRESS),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("protocol", "u1"),
        ("asked", "u1"),
        ("pad", "u1", (2,)),
    ]
)
FLOW = np.dtype(
    [
        ("last_ns", "<u8"),
        ("judged_by", "<u8"),
        ("origin", "u1"),
        ("step", "u1"),
        ("staged_step", "u1"),
        ("tcp_flags", "u1", (2,)),
        ("scale", "u1", (2,)),
        ("pad", "u1"),
        ("end", "<u4", (2,)),
        ("limit", "<u4", (2,)),
        ("window", "<u4", (2,)),
        ("packets", "<u8", (2,)),
        ("bytes", "<u8", (2,)),
        ("first_ns", "<u8"),
        ("identity", "<u8"),
        ("rule", "<u8"),
        ("staged_rule", "<u8"),
        ("rtt_us", "<u4"),
        ("syn_repeats", "<u2"),
        ("handshake", "u1"),
        ("reserved", "u1"),
    ]
)
FRAGMENT_KEY = np.dtype([("slot", "<u4"), ("bucket", "<u2"), ("direction", "u1"), ("pad", "u1")])
FRAGMENTS = np.dtype(
    [
        ("flow", FLOW_KEY),
        ("first_ns", "<u8"),
        ("local", *_ADDRESS),
        ("remote", *_ADDRESS),
        ("id", "<u4"),
        ("poisoned", "<u4"),
        ("units", "<u4"),
        ("total", "<u4"),
        ("seen", "<u8", (128,)),
    ]
)
DENIAL_KEY = np.dtype(
    [
        ("vnic", "<u8"),
        ("identity", "<u8"),
        ("port", "<u2"),
        ("protocol", "u1"),
        ("direction", "u1"),
        ("reason", "u1"),
        ("observed", "u1"),
        ("staged", "u1"),
        ("pad", "u1"),
    ]
)
DENIAL = np.dtype(
    [
        ("packets", "<u8"),
        ("bytes", "<u8"),
        ("last_ns", "<u8"),
        ("sampled_ns", "<u8"),
        ("rule", "<u8"),
        ("remote", *_ADDRESS),
    ]
)
SIGHTING_KEY = np.dtype([("vnic", "<u8"), ("kind", "u1"), ("direction", "u1"), ("pad", "u1", (6,))])
SIGHTING = np.dtype([("packets", "<u8"), ("last_ns", "<u8"), ("address", *_ADDRESS)])
METER = np.dtype(
    [
        ("drops", "<u8", (2, REASON_SLOTS)),
        ("lost_denials", "<u8"),
        ("lost_events", "<u8"),
        ("second", "<u4"),
        ("opened", "<u4", (2,)),
        ("denied", "<u4"),
    ]
)
DROP_EVENT = np.dtype(
    [
        ("kind", "<u4"),
        ("length", "<u4"),
        ("ns", "<u8"),
        ("vnic", "<u8"),
        ("rule", "<u8"),
        ("identity", "<u8"),
        ("packet", FLOW_KEY),
        ("port", "<u2"),
        ("direction", "u1"),
        ("reason", "u1"),
        ("observed", "u1"),
        ("tcp_flags", "u1"),
        ("pad", "u1", (2,)),
    ]
)
ENDED_EVENT = np.dtype([("kind", "<u4"), ("pad", "<u4"), ("vnic", "<u8"), ("key", FLOW_KEY), ("flow", FLOW)])
SETTINGS = np.dtype([("tick_ns", "<u8"), ("offset_ns", "<u8"), ("idle_ns", "<u8", (len(IDLE_CLASSES),))])
CLOCKS = np.dtype([("ticks", "<u8"), ("ns", "<u8")])

_INDEX = np.dtype("<u4")
_NUMBER = np.dtype("<u8")


def split(record: Layout, *key: str) -> tuple[Layout, Layout]:
    """Part a table's record layout into the map's key (the fields named) and value (the rest)."""
    fields: Mapping[str, Any] = record.fields or {}
    parts = ([(n, fields[n][0]) for n in names] for names in (key, [n for n in record.names or () if n not in key]))
    first, second = (np.dtype(part) for part in parts)
    return first, second


MAPS: Mapping[str, tuple[Layout, Layout]] = {
    "taps": (_INDEX, _INDEX),
    "far_taps": (_INDEX, _INDEX),
    "vnics": (_INDEX, VNIC),
    "meters": (_INDEX, METER),
    "slots": (_NUMBER, _INDEX),
    "addresses": (ADDRESS_KEY, _INDEX),
    "macs": (MAC_KEY, _INDEX),
    "endpoints": split(ENDPOINT, "view", "address"),
    "prefixes": split(PREFIX, "length", "view", "address"),
    "lists": split(LIST, "ruleset", "identity"),
    "pages": split(PAGE, "list", "protocol", "pad"),
    "flows": (_INDEX, _INDEX),
    "fragments": (FRAGMENT_KEY, FRAGMENTS),
    "blank": (_INDEX, FRAGMENTS),
    "denials": (DENIAL_KEY, DENIAL),
    "sightings": (SIGHTING_KEY, SIGHTING),
    "settings": (_INDEX, SETTINGS),
    "clocks": (_INDEX, CLOCKS),
}
"""Every map of the gate but the ring: the layout of its keys and values."""

RING = "events"
"""The map that has neither keys nor values: a ring buffer."""
