"""The flow tables, one per vNIC: made, swept, read, and handed to another host."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import numpy as np

from serai.datapath.layout import EGRESS, FLOW, FLOW_KEY, INGRESS
from serai.datapath.ledger import Ledger
from serai.datapath.maps import Array, Map
from serai.model.flow import FlowRow, IdleSeconds, Outcome
from serai.model.inventory import VnicId
from serai.model.policy import Direction
from serai.model.reasons import Reason
from serai.model.ruleset import Step

_TCP, _ICMP = 6, 1
_FIN, _RST = 0x01, 0x04
_NS = 1_000_000_000
_ETERNITY = 1 << 63  # ns, where signed arithmetic ends
DIRECTIONS = (Direction.EGRESS, Direction.INGRESS)
"""By the gate's number for them."""


class _Handoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vNIC's flows on their way to another host."""

    vnic: int
    now_ns: int
    keys: bytes
    flows: bytes


class FlowTables:
    """Every vNIC's flow table, and the flows that ended."""

    def __init__(self, outer: Map, *, entries: int = 16384, remember: int = 65536, ended: Path | None = None) -> None:
        """Use the gate's map of maps.

        Args:
            outer: the map ``flows``.
            entries: how many flows one vNIC may hold; its quota.
            remember: how many ended flows are kept; beyond, the oldest go and are counted in ``forgotten``.
            ended: the file that keeps ended flows while no agent runs.
        """
        self._outer = outer
        self._entries = entries
        self._tables: dict[VnicId, Map] = {}
        self._ended = Ledger(ended, remember=remember)
        self._handed_over: set[VnicId] = set()

    @property
    def forgotten(self) -> int:
        """Ended flows that were dropped before anybody read them."""
        return self._ended.forgotten

    def adopt(self) -> None:
        """Take over what an earlier agent left: the tables, and the flows that ended."""
        self._ended.load()
        keys, numbers = self._outer.dump()
        for vnic, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            self._tables[VnicId(vnic)] = Map.by_id(number, FLOW_KEY, FLOW)

    def table(self, vnic: VnicId) -> Map | None:
        """The flow table of ``vnic``, or None."""
        return self._tables.get(vnic)

    def keep(self, vnics: Collection[VnicId]) -> None:
        """Have a table for each of ``vnics``."""
        fresh = {v: Map.hash("serai_flows", FLOW_KEY, FLOW, self._entries) for v in vnics if v not in self._tables}
        if fresh:  # in one batch: a single put into a map of maps waits for every processor
            self._outer.update(
                np.array(list(fresh), self._outer.key), np.array([t.fd for t in fresh.values()], self._outer.value)
            )
            self._tables.update(fresh)

    def remove_others(self, vnics: Collection[VnicId]) -> None:
        """Remove the tables of all but ``vnics``; their flows have ended, unless they moved to another host."""
        for vnic in [v for v in self._tables if v not in vnics]:
            keys, flows = self._tables.pop(vnic).dump()
            self._outer.delete(np.array([vnic], self._outer.key))
            moved = vnic in self._handed_over
            self._handed_over.discard(vnic)
            if not moved:
                self._ended.add(vnic, keys, flows)

    def sweep(self, now_ns: int) -> int:
        """Remove flows that are over, remember them, and return how many there were.

        Raises:
            OSError: the file that outlives the agent cannot be written; they are remembered in memory only.
        """
        total = 0
        unwritten: OSError | None = None
        for vnic, table in self._tables.items():
            keys, flows = table.dump()
            over = _idle_ns(flows, now_ns) >= _limit_ns(keys, flows)
            if over.any():
                table.delete(keys[over])
                total += int(over.sum())
                try:
                    self._ended.add(vnic, keys[over], flows[over])
                except OSError as error:  # a full disk keeps no table from being swept
                    unwritten = error
        if unwritten is not None:
            raise unwritten
        return total

    def rows(self, now_ns: int) -> Iterator[FlowRow]:
        """Go through all flows: those that live and those that ended."""
        for vnic, table in self._tables.items():
            yield from _rows(vnic, *table.dump(), now_ns)
        for vnic, keys, flows in self._ended.by_vnic():
            yield from _rows(vnic, keys, flows, now_ns)

    def count(self) -> int:
        """How many flows live."""
        return sum(len(table.dump()[0]) for table in self._tables.values())

    def export(self, vnic: VnicId, now_ns: int, *, since_ns: int = 0) -> bytes:
        """Write down the flows of ``vnic`` that carried a packet since ``since_ns``.

        Raises:
            KeyError: there is no table for this vNIC here.
        """
        keys, flows = self._tables[vnic].dump()
        recent = flows["last_ns"] >= since_ns
        return msgspec.msgpack.encode(
            _Handoff(vnic=vnic, now_ns=now_ns, keys=keys[recent].tobytes(), flows=flows[recent].tobytes())
        )

    def hand_over(self, vnic: VnicId) -> None:
        """Know that another host has taken the flows of ``vnic``: here they have not ended, they are there."""
        self._handed_over.add(vnic)

    def take(self, raw: bytes, now_ns: int) -> int:
        """Take over flows that ``export`` wrote on another host; return how many.

        They are judged again at their next packet, whatever the other host thought of them. Flows that
        were seen here since are left alone.

        Raises:
            ValueError: the bytes are not a handoff.
            KeyError: there is no table for this vNIC here.
        """
        try:
            handoff = msgspec.msgpack.decode(raw, type=_Handoff)
            keys = np.frombuffer(handoff.keys, FLOW_KEY)
            flows = np.frombuffer(handoff.flows, FLOW).copy()
        except (msgspec.MsgspecError, ValueError) as error:
            message = f"these bytes are not a handoff of flows: {error}"
            raise ValueError(message) from error
        sound = 0 <= handoff.now_ns < _ETERNITY and (flows["origin"] <= INGRESS).all()
        if len(keys) != len(flows) or not sound:
            message = "this handoff of flows contradicts itself"
            raise ValueError(message)
        table = self._tables[VnicId(handoff.vnic)]
        for field in ("first_ns", "last_ns"):  # each host counts from its own boot
            ages = np.maximum(handoff.now_ns - flows[field].astype("i8"), 0)
            flows[field] = np.maximum(now_ns - ages, 0).astype("u8")
        flows["judged_by"] = 0
        known = {key.tobytes(): int(last) for key, last in _last_seen(*table.dump())}
        newer = np.array(
            [known.get(k.tobytes(), -1) < int(f["last_ns"]) for k, f in zip(keys, flows, strict=True)], "?"
        )
        table.update(keys[newer], flows[newer])
        self._handed_over.discard(VnicId(handoff.vnic))
        return int(newer.sum())


def _last_seen(keys: Array, flows: Array) -> Iterable[tuple[Array, int]]:
    return zip(keys, flows["last_ns"].tolist(), strict=True)


def _idle_ns(flows: Array, now_ns: int) -> Array:
    idle: Array = np.maximum(now_ns - flows["last_ns"].astype("i8"), 0)
    return idle


def _limit_ns(keys: Array, flows: Array) -> Array:
    """The limits of ``bpf/conntrack.h``: same numbers, same cases."""
    closing = (flows["tcp_flags"] & _RST).any(axis=1) | (flows["tcp_flags"] & _FIN).all(axis=1)
    half_closed = (flows["tcp_flags"] & _FIN).any(axis=1)
    opening = (flows["packets"] == 0).any(axis=1)
    seconds = np.select(
        [keys["protocol"] == _ICMP, keys["protocol"] != _TCP, closing, half_closed, opening],
        [
            IdleSeconds.ICMP,
            IdleSeconds.OTHER,
            IdleSeconds.TCP_CLOSING,
            IdleSeconds.TCP_HALF_CLOSED,
            IdleSeconds.TCP_OPENING,
        ],
        IdleSeconds.TCP_ESTABLISHED,
    )
    return seconds.astype("i8") * _NS


def _rows(vnic: VnicId, keys: Array, flows: Array, now_ns: int) -> Iterator[FlowRow]:
    service = np.where(flows["origin"] == EGRESS, keys["remote_port"], keys["local_port"])
    service = np.where(keys["protocol"] == _ICMP, 8 << 8, service)
    ages = (_idle_ns(flows, now_ns) / _NS).tolist()
    for at, (key, flow) in enumerate(zip(keys, flows, strict=True)):
        accepted = flow["step"] == Step.ACCEPT
        yield FlowRow(
            vnic=vnic,
            direction=DIRECTIONS[flow["origin"] & 1],
            remote=IPv4Address(int(key["remote"])),
            protocol=int(key["protocol"]),
            port=int(service[at]),
            packets_out=int(flow["packets"][EGRESS]),
            packets_in=int(flow["packets"][INGRESS]),
            bytes_out=int(flow["bytes"][EGRESS]),
            bytes_in=int(flow["bytes"][INGRESS]),
            outcome=Outcome.ACCEPTED if accepted else Outcome.OBSERVED,
            reason=Reason.NONE if accepted else Reason.DENIED,
            rule=int(flow["rule"]),
            staged=Outcome.ACCEPTED if flow["staged_step"] == Step.ACCEPT else Outcome.DENIED,
            age_seconds=ages[at],
        )
