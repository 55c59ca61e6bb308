"""From counters, and what was told of them before, to records of what is new (``model/flow_record.py``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np

from serai.datapath.layout import EGRESS, HANDSHAKE_REFUSED, INGRESS
from serai.datapath.maps import Array, pick, some
from serai.datapath.pending import PENDING
from serai.datapath.told import ELSEWHERE, GONE, SAME, TOLD_REFUSED, TOLD_RTT, TOLD_UNANSWERED
from serai.model.flow_record import Event, Verdict
from serai.model.ports import ECHO_REQUEST, TCP
from serai.model.reasons import Reason
from serai.model.ruleset import Step

_SYN: Final = 0x02
_PATIENCE_NS: Final = 3_000_000_000
"""A SYN that was not answered for so long is told as unanswered."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deltas:
    """What is new of some flows."""

    worth: Array
    """Of which of them there is something to say."""
    flags: Array
    """What will have been told of each (the flags of ``told.py``)."""
    begins: Array
    ends: Array
    counted: Mapping[str, Array]
    """The columns that are other than the flow's own."""

    def records(self, vnic: int, keys: Array, flows: Array, which: Array) -> Array:
        """Make records (``PENDING``) of some of these flows, which are all of ``vnic``."""
        keys, flows = some(keys, which), some(flows, which)
        made = np.zeros(len(keys), PENDING)
        made["first_ns"] = flows["first_ns"]
        made["last_ns"] = _field(flows, "last_ns")
        record = made["record"]
        record["vnic"] = vnic
        begins, ends = some(self.begins, which), some(self.ends, which)
        record["event"] = begins * np.uint8(Event.BEGINS) | ends * np.uint8(Event.ENDS)
        record["connections"] = begins
        record["direction"], record["protocol"] = flows["origin"] & 1, keys["protocol"]
        record["local"], record["remote"] = addresses(keys["local"]), addresses(keys["remote"])
        record["local_port"], record["remote_port"] = keys["local_port"], keys["remote_port"]
        record["service"] = service(keys, flows)
        record["identity"], record["rule"] = flows["identity"], flows["rule"]
        accepted = flows["step"] == Step.ACCEPT
        record["verdict"] = np.where(accepted, Verdict.ACCEPTED, Verdict.OBSERVED)
        record["staged"] = np.where(flows["staged_step"] == Step.ACCEPT, Verdict.ACCEPTED, Verdict.DENIED)
        record["reason"] = np.where(accepted, Reason.NONE, Reason.DENIED)
        if "tcp_flags" in (flows.dtype.names or ()):
            record["flags_out"], record["flags_in"] = flows["tcp_flags"].T
        for column, values in self.counted.items():
            record[column] = some(values, which)
        return made


def of_flows(keys: Array, flows: Array, before: Array, *, fresh: Array, over: bool, now_ns: int) -> Deltas:
    """Compare flows with what was told of them (``before``, of ``TOLD``; zero where nothing was).

    Args:
        keys: their keys.
        flows: their counters now.
        before: their counters then.
        fresh: of which nothing was told at all.
        over: they have ended.
        now_ns: CLOCK_MONOTONIC.
    """
    flags = before["flags"].copy()
    begins = fresh & (flags & ELSEWHERE == 0)
    ends = np.full(len(keys), over) & (flags & GONE == 0)
    patient = now_ns - flows["first_ns"].astype("i8") >= _PATIENCE_NS
    once = {
        "rtt_us": _once(flags, TOLD_RTT, _field(flows, "rtt_us")),
        "unanswered": _once(flags, TOLD_UNANSWERED, _asked_in_vain(keys, flows) & (patient | ends)),
        "refused": _once(flags, TOLD_REFUSED, _refused(flows)),
    }
    counted = {
        "packets_out": flows["packets"][:, EGRESS] - before["packets"][:, EGRESS],
        "packets_in": flows["packets"][:, INGRESS] - before["packets"][:, INGRESS],
        "bytes_out": flows["bytes"][:, EGRESS] - before["bytes"][:, EGRESS],
        "bytes_in": flows["bytes"][:, INGRESS] - before["bytes"][:, INGRESS],
        "syn_repeats": _field(flows, "syn_repeats") - before["syn_repeats"],
        **once,
    }
    worth = begins | ends
    for values in counted.values():
        worth |= values != 0
    return Deltas(worth=worth, flags=flags, begins=begins, ends=ends, counted=counted)


def as_seen(rows: Array) -> Array:
    """What is known of flows (``TOLD``) that are not there any more, as if they were."""
    return np.asarray(rows[list(SAME)])


def of_denials(keys: Array, values: Array, counts: Array) -> Array:
    """Return records (``PENDING``) of denials, of which so many (packets, bytes) are new; none where nothing is."""
    new = np.asarray(counts.any(axis=1))
    keys, values, counts = pick(keys, new), pick(values, new), counts[new]
    made = np.zeros(len(keys), PENDING)
    made["first_ns"] = made["last_ns"] = values["last_ns"]
    record = made["record"]
    for field in ("vnic", "direction", "protocol", "identity", "reason"):
        record[field] = keys[field]
    record["service"], record["rule"] = keys["port"], values["rule"]
    record["remote"] = addresses(values["remote"])
    record["verdict"] = np.where(keys["observed"], Verdict.OBSERVED, Verdict.DENIED)
    record["staged"] = np.where(keys["staged"], Verdict.ACCEPTED, record["verdict"])
    for side, direction in ((EGRESS, "out"), (INGRESS, "in")):
        mine = keys["direction"] == side
        record[f"packets_{direction}"], record[f"bytes_{direction}"] = (counts * mine[:, np.newaxis]).T
    return made


def service(keys: Array, flows: Array) -> Array:
    """The port that policy judged each flow by."""
    found: Array = np.where(flows["origin"] & 1 == EGRESS, keys["remote_port"], keys["local_port"])
    for protocol, request in ECHO_REQUEST.items():
        found = np.where(keys["protocol"] == protocol, request, found)
    return found


def addresses(raw: Array) -> Array:
    """Arrays of 16 bytes as the one value that each is."""
    return raw.view("V16").reshape(-1)


def _asked_in_vain(keys: Array, flows: Array) -> Array:
    """Who opened it has sent a SYN, and nothing has come back."""
    if "tcp_flags" not in (flows.dtype.names or ()):
        return np.zeros(len(flows), "?")
    found = np.zeros(len(flows), "?")
    for side in (EGRESS, INGRESS):
        silent = (flows["packets"][:, 1 - side] == 0) & (flows["tcp_flags"][:, side] & _SYN != 0)
        found |= (flows["origin"] & 1 == side) & silent
    return np.asarray(found & (keys["protocol"] == TCP))


def _once(flags: Array, bit: int, found: Array) -> Array:
    """What was found, where it was not told before; from now on it was."""
    left: Array = np.where(flags & bit, found.dtype.type(0), found)
    flags |= np.where(left != 0, np.uint8(bit), np.uint8(0))
    return left


def _refused(flows: Array) -> Array:
    return np.asarray(_field(flows, "handshake") & HANDSHAKE_REFUSED != 0)


def _field(flows: Array, name: str) -> Array:
    """A field that is not known of flows that are there no more (``as_seen``)."""
    known = name in (flows.dtype.names or ())
    found: Array = flows[name] if known else np.zeros(len(flows), "<u4")
    return found
