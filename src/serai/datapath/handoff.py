"""A vNIC's flows on their way to another host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

import msgspec
import numpy as np

from serai.datapath.layout import FLOW, FLOW_KEY, HANDSHAKE_TIMED, INGRESS, VERSION
from serai.datapath.maps import Array, comparable
from serai.model.ports import TCP

Flows = tuple[Array, Array]
"""Keys and flows."""

_NS: Final = 1_000_000_000
_ETERNITY: Final = 1 << 63  # ns, where signed arithmetic ends


class Handoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vNIC's flows on their way to another host."""

    layout: int
    """Of the records: hosts that have different ones cannot read each other's."""
    vnic: int
    now_ns: int
    keys: bytes
    flows: bytes

    @classmethod
    def of(cls, vnic: int, keys: Array, flows: Array, now_ns: int) -> Self:
        """Write down flows of ``vnic``, as they are now by this host's clock."""
        return cls(layout=VERSION, vnic=vnic, now_ns=now_ns, keys=keys.tobytes(), flows=flows.tobytes())

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Read what another host has written (``msgspec.msgpack``).

        Raises:
            ValueError: it is no handoff, or of another layout.
        """
        try:
            handoff = msgspec.msgpack.decode(raw, type=cls)
            keys, flows = np.frombuffer(handoff.keys, FLOW_KEY), np.frombuffer(handoff.flows, FLOW)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"these bytes are not a handoff of flows: {error}") from error
        if handoff.layout != VERSION:
            raise ValueError(
                f"this handoff of flows has layout {handoff.layout}, and layout {VERSION} is understood: upgrade the older host"
            )
        sound = 0 <= handoff.now_ns < _ETERNITY and (flows["origin"] <= INGRESS).all()
        if len(keys) != len(flows) or not sound:
            raise ValueError("this handoff of flows contradicts itself")
        return handoff

    def only(self, accepts: Callable[[Array, Array], Array]) -> tuple[Self, int]:
        """Return the same with those flows alone of which ``accepts`` (keys, flows) says so, and how many others there are."""
        keys, flows = np.frombuffer(self.keys, FLOW_KEY), np.frombuffer(self.flows, FLOW)
        accepted = accepts(keys, flows)
        if accepted.all():
            return self, 0
        only = msgspec.structs.replace(self, keys=keys[accepted].tobytes(), flows=flows[accepted].tobytes())
        return only, int((~accepted).sum())

    def at(self, now_ns: int) -> Flows:
        """Return its flows by another host's clock, as nobody has judged them."""
        keys, flows = np.frombuffer(self.keys, FLOW_KEY), np.frombuffer(self.flows, FLOW).copy()
        for field in ("first_ns", "last_ns"):  # each host counts from its own boot
            ages = np.maximum(self.now_ns - flows[field].astype("i8"), 0)
            flows[field] = np.maximum(now_ns - ages, 0).astype("u8")
        flows["judged_by"] = 0
        flows["handshake"] &= 0xFF ^ HANDSHAKE_TIMED  # an answer that comes here would be timed by two clocks
        return keys, flows


def newer(keys: Array, flows: Array, known: Array, there: Array, capacity: int) -> Flows:
    """Those that are not known, or were seen later than there: as many as there is room for."""
    fresh = ~_older(keys, flows, known, there)
    keys, flows = keys[fresh], flows[fresh]
    beside = ~np.isin(comparable(keys), comparable(known))
    fits = ~beside | (np.cumsum(beside) <= capacity - len(known))
    return keys[fits], flows[fits]


def _older(keys: Array, flows: Array, other_keys: Array, other_flows: Array) -> Array:
    """Which flows are among the others too, and were seen there as late or later.

    The gate's clock stands still for a tick, and a fast stream does not: what has counted more packets is later.
    """
    same, there = _among(keys, other_keys)
    ours, theirs = flows[same], other_flows[there]
    as_late = (theirs["last_ns"] == ours["last_ns"]) & (theirs["packets"].sum(axis=1) >= ours["packets"].sum(axis=1))
    older = np.zeros(len(keys), "?")
    older[same] = (theirs["last_ns"] > ours["last_ns"]) | as_late
    return older


def follow(keys: Array, flows: Array, known: Array, here: Array) -> None:
    """Let no connection's numbers go back to what they were when its flow was on its way.

    That makes a flow younger than it is; and from numbers too far back the gate does not find to those of today.
    """
    same, there = _among(keys, known)
    apart = np.abs(flows["first_ns"][same].astype("i8") - here["first_ns"][there].astype("i8"))
    one = (keys["protocol"][same] == TCP) & (apart < _NS)  # and not two that used the same ports
    same, there = same[one], there[one]
    for field in ("end", "limit"):
        ours = here[field][there]
        ahead = ((ours - flows[field][same]).view("<i4") > 0) & (here["window"][there] > 0)
        flows[field][same] = np.where(ahead, ours, flows[field][same])


def _among(keys: Array, others: Array) -> tuple[Array, Array]:
    """Which of ``keys`` are among the others too, and where: places here and there."""
    if not len(others):
        return np.empty(0, "i8"), np.empty(0, "i8")
    raw, other = comparable(keys), comparable(others)
    order = np.argsort(other)
    found = order[np.searchsorted(other[order], raw) % len(other)]
    same = np.flatnonzero(other[found] == raw)
    return same, found[same]
