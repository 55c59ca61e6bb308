"""How long flows have been silent, and which limit that has."""

from __future__ import annotations

import numpy as np

from serai.datapath.maps import Array
from serai.model.flow import IDLE_CLASSES
from serai.model.ports import ICMP, ICMPV6, SCTP, TCP

_FIN, _RST = np.uint8(0x01), np.uint8(0x04)
_NAMES = {ICMP: "ICMP", ICMPV6: "ICMP", TCP: "TCP_ESTABLISHED", SCTP: "SCTP_ESTABLISHED"}
_SETTLED = np.array([IDLE_CLASSES.index(_NAMES.get(protocol, "OTHER")) for protocol in range(256)], "u1")
"""By protocol: the class of what is neither opening nor closing, or never is."""
_TRACKED = np.array([name.endswith("ESTABLISHED") for name in IDLE_CLASSES])


def idle_ns(flows: Array, now_ns: int) -> Array:
    """How long each has been silent."""
    silent: Array = np.maximum(now_ns - flows["last_ns"].astype("i8"), 0)
    return silent


def idle_class(keys: Array, flows: Array) -> Array:
    """Which limit each has, as a place in ``IDLE_CLASSES``: the cases of ``bpf/conntrack.h``."""
    found: Array = _SETTLED[keys["protocol"]]
    tracked = _TRACKED[found]
    (one, other), (out, back) = flows["tcp_flags"].T, flows["packets"].T
    either, both = one | other, one & other
    for name, is_so in (  # of two that fit the later one counts
        ("TCP_OPENING", (out == 0) | (back == 0)),
        ("TCP_HALF_CLOSED", either & _FIN != 0),
        ("TCP_CLOSING", (either & _RST | both & _FIN) != 0),
    ):
        found[tracked & is_so] = IDLE_CLASSES.index(name)
    return found
