"""How long flows have been silent, and which limit that has."""

from __future__ import annotations

import numpy as np

from serai.datapath.maps import Array
from serai.model.flow import IDLE_CLASSES
from serai.model.ports import ICMP, ICMPV6, SCTP, TCP

_FIN, _RST = 0x01, 0x04


def idle_ns(flows: Array, now_ns: int) -> Array:
    """How long each has been silent."""
    silent: Array = np.maximum(now_ns - flows["last_ns"].astype("i8"), 0)
    return silent


def idle_class(keys: Array, flows: Array) -> Array:
    """Which limit each has, as a place in ``IDLE_CLASSES``: the cases of ``bpf/conntrack.h``, in its order."""
    protocol = keys["protocol"]
    closing = (flows["tcp_flags"] & _RST).any(axis=1) | (flows["tcp_flags"] & _FIN).all(axis=1)
    half_closed = (flows["tcp_flags"] & _FIN).any(axis=1)
    opening = (flows["packets"] == 0).any(axis=1)
    named = {name: place for place, name in enumerate(IDLE_CLASSES)}
    return np.select(
        [
            np.isin(protocol, [ICMP, ICMPV6]),
            ~np.isin(protocol, [TCP, SCTP]),
            closing,
            half_closed,
            opening,
            protocol == SCTP,
        ],
        [
            named[name]
            for name in ("ICMP", "OTHER", "TCP_CLOSING", "TCP_HALF_CLOSED", "TCP_OPENING", "SCTP_ESTABLISHED")
        ],
        named["TCP_ESTABLISHED"],
    )
