"""How the gate's structs look from Python. A test compares every one with the object's BTF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serai.model.reasons import REASON_SLOTS
from serai.model.ruleset import ENDPOINT, LIST, PAGE, PREFIX

Layout = np.dtype[Any]

VERSION = 1
"""Of the layouts as a whole: part of the pins' path, so that an old gate never reads a new table."""

FLAG_OBSERVE = 1 << 0
FLAG_MORE_ADDRESSES = 1 << 1

EGRESS, INGRESS = 0, 1
"""Directions as the gate counts them."""

VNIC = np.dtype(
    [
        ("ifindex", "<u4"),
        ("flags", "<u4"),
        ("judged_by", "<u8"),
        ("id", "<u8"),
        ("view", "<u8"),
        ("ruleset", "<u8", (2,)),
        ("address", ">u4"),
        ("mac", "u1", (6,)),
        ("pad", "u1", (6,)),
    ]
)
ADDRESS_KEY = np.dtype([("vnic", "<u8"), ("address", ">u4"), ("pad", "<u4")])
FLOW_KEY = np.dtype(
    [
        ("local", ">u4"),
        ("remote", ">u4"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("protocol", "u1"),
        ("asked", "u1"),
        ("pad", "u1", (2,)),
    ]
)
FLOW = np.dtype(
    [
        ("first_ns", "<u8"),
        ("last_ns", "<u8"),
        ("packets", "<u8", (2,)),
        ("bytes", "<u8", (2,)),
        ("judged_by", "<u8"),
        ("identity", "<u8"),
        ("rule", "<u8"),
        ("staged_rule", "<u8"),
        ("origin", "u1"),
        ("step", "u1"),
        ("staged_step", "u1"),
        ("tcp_flags", "u1", (2,)),
        ("pad", "u1", (3,)),
    ]
)
DENIAL_KEY = np.dtype(
    [
        ("vnic", "<u8"),
        ("remote", ">u4"),
        ("port", "<u2"),
        ("protocol", "u1"),
        ("direction", "u1"),
        ("reason", "u1"),
        ("observed", "u1"),
        ("pad", "u1", (6,)),
    ]
)
DENIAL = np.dtype([("packets", "<u8"), ("bytes", "<u8"), ("last_ns", "<u8"), ("rule", "<u8"), ("identity", "<u8")])
DROPS = np.dtype([("packets", "<u8", (2, REASON_SLOTS))])

_NUMBER = np.dtype("<u8")


def split(record: Layout, *key: str) -> tuple[Layout, Layout]:
    """Part a table's record layout into the map's key (the fields named) and value (the rest)."""
    fields: Mapping[str, Any] = record.fields or {}
    parts = ([(n, fields[n][0]) for n in names] for names in (key, [n for n in record.names or () if n not in key]))
    first, second = (np.dtype(part) for part in parts)
    return first, second


MAPS: Mapping[str, tuple[Layout, Layout]] = {
    "vnics": (np.dtype("<u4"), VNIC),
    "addresses": (ADDRESS_KEY, np.dtype("<u4")),
    "endpoints": split(ENDPOINT, "view", "address", "pad"),
    "prefixes": split(PREFIX, "length", "view", "address"),
    "lists": split(LIST, "ruleset", "identity"),
    "pages": split(PAGE, "list", "protocol", "pad"),
    "flows": (_NUMBER, np.dtype("<u4")),
    "denials": (DENIAL_KEY, DENIAL),
    "drops": (_NUMBER, DROPS),
}
"""Every map of the gate: the layout of its keys and values (of one CPU, where it is per CPU)."""

PER_CPU = frozenset({"denials"})
