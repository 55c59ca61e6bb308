"""How the gate's structs looked in layout 1, which knew IPv4 only: as far as a newer agent reads them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serai.datapath.layout import Layout, split
from serai.model.records import LIST, PAGE
from serai.model.ruleset_v1 import ENDPOINT_V1, PREFIX_V1

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
"""Its flags are the first two of the present ones."""
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
DROPS = np.dtype([("packets", "<u8", (2, 32))])

_NUMBER, _INDEX = np.dtype("<u8"), np.dtype("<u4")

MAPS: Mapping[str, tuple[Layout, Layout]] = {
    "vnics": (_INDEX, VNIC),
    "addresses": (ADDRESS_KEY, _INDEX),
    "endpoints": split(ENDPOINT_V1, "view", "address", "pad"),
    "prefixes": split(PREFIX_V1, "length", "view", "address"),
    "lists": split(LIST, "ruleset", "identity"),
    "pages": split(PAGE, "list", "protocol", "pad"),
    "flows": (_NUMBER, _INDEX),
    "drops": (_NUMBER, DROPS),
}
"""The maps that are taken over. ``flows`` is a hash of maps, by vNIC."""
