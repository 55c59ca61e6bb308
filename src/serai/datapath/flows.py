"""The flow tables, one per vNIC: made, swept, read, and handed to another host."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from serai.datapath.layout import EGRESS, FLOW, FLOW_KEY, HANDSHAKE_TIMED, INGRESS, VERSION
from serai.datapath.ledger import Ledger
from serai.datapath.maps import Array, Map, comparable
from serai.datapath.slots import Slots
from serai.datapath.tablepins import TablePins
from serai.model.address import unpack
from serai.model.flow import DIRECTIONS, IDLE_CLASSES, FlowRow, IdleSeconds, Outcome
from serai.model.inventory import VnicId
from serai.model.ports import ECHO_REQUEST, ICMP, ICMPV6, SCTP, TCP
from serai.model.reasons import Reason
from serai.model.ruleset import Step

_FIN, _RST = 0x01, 0x04
_NS = 1_000_000_000
_ETERNITY = 1 << 63  # ns, where signed arithmetic ends


class _Handoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vNIC's flows on their way to another host."""

    layout: int
    """Of the records: hosts that have different ones cannot read each other's."""
    vnic: int
    now_ns: int
    keys: bytes
    flows: bytes


class FlowTables:
    """Every vNIC's flow table, and the flows that ended."""

    def __init__(
        self,
        outer: Map,
        slots: Slots,
        *,
        idle: Mapping[str, int] | None = None,
        remember: int = 65536,
        ended: Path | None = None,
        pins: Path | None = None,
    ) -> None:
        """Use the gate's map of maps.

        Args:
            outer: the map ``flows``.
            slots: where each vNIC's table stands in it.
            idle: limits that differ from ``IdleSeconds``, by its names, in seconds.
            remember: how many ended flows are kept; beyond, the oldest go and are counted in ``forgotten``.
            ended: the file that keeps ended flows while no agent runs.
            pins: the directory, on a bpffs, where the tables are pinned for the next agent.
        """
        self._pins = TablePins(pins)
        self._outer = outer
        self._slots = slots
        limits = {name: limit.value for name, limit in IdleSeconds.__members__.items()} | dict(idle or {})
        self.idle_ns = np.array([limits[name] * _NS for name in IDLE_CLASSES], "<u8")
        """How long a flow may be silent, by its class (the place of its name in ``IDLE_CLASSES``)."""
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
        slots, numbers = self._outer.dump()
        tables = dict(zip(slots.tolist(), numbers.tolist(), strict=True))
        for vnic, slot in self._slots.given.items():
            if slot in tables:
                self._tables[vnic] = self._pins.open(slot, tables[slot])
        self._pins.remove_others({slot for vnic, slot in self._slots.given.items() if vnic in self._tables})

    def table(self, vnic: VnicId) -> Map | None:
        """The flow table of ``vnic``, or None."""
        return self._tables.get(vnic)

    def keep(self, quotas: Mapping[VnicId, int]) -> None:
        """Have a table for each vNIC, with room for so many flows. One that has another size is replaced.

        Raises:
            KernelError: there is no room for so many vNICs.
        """
        self._slots.give(quotas)
        fresh = {
            vnic: Map.hash("serai_flows", FLOW_KEY, FLOW, entries)
            for vnic, entries in quotas.items()
            if vnic not in self._tables or self._tables[vnic].capacity != entries
        }
        if not fresh:
            return
        before = {vnic: self._tables[vnic] for vnic in fresh if vnic in self._tables}
        for vnic, table in before.items():
            _add_newer(fresh[vnic], *table.dump())
        for vnic, table in fresh.items():
            self._pins.stage(self._slots.given[vnic], table)
        self._outer.update(  # in one batch: a single put into a map of maps waits for every processor
            np.array([self._slots.given[vnic] for vnic in fresh], self._outer.key),
            np.array([table.fd for table in fresh.values()], self._outer.value),
        )
        for vnic in fresh:
            self._pins.settle(self._slots.given[vnic])
        self._tables.update(fresh)
        for vnic, table in before.items():
            keys, flows = table.dump()
            _add_newer(fresh[vnic], keys, flows)  # what came meanwhile
            left = ~np.isin(comparable(keys), comparable(fresh[vnic].dump()[0]))
            self._ended.add(vnic, keys[left], flows[left])  # what finds no room ends here

    def remove_others(self, vnics: Collection[VnicId]) -> None:
        """Remove the tables of all but ``vnics``; their flows have ended, unless they moved to another host."""
        for vnic in [v for v in self._tables if v not in vnics]:
            keys, flows = self._tables.pop(vnic).dump()
            self._outer.delete(np.array([self._slots.given[vnic]], self._outer.key))
            self._pins.remove(self._slots.given[vnic])
            self._slots.take_back(vnic)
            moved = vnic in self._handed_over
            self._handed_over.discard(vnic)
            if not moved:
                self._ended.add(vnic, keys, flows)

    def add_newer(self, vnic: VnicId, keys: Array, flows: Array) -> int:
        """Add those flows of ``vnic`` that are not here yet, or were seen later than here; return how many."""
        return _add_newer(self._tables[vnic], keys, flows)

    def end(self, vnics: Array, keys: Array, flows: Array) -> None:
        """Remember flows that ended in the gate itself, each of its vNIC."""
        self._ended.add(vnics, keys, flows)

    def sweep(self, now_ns: int) -> int:
        """Remove flows that are over, remember them, and return how many there were.

        Raises:
            OSError: the file that outlives the agent cannot be written; they are remembered in memory only.
        """
        vnics, all_keys, all_flows = [np.empty(0, "<u8")], [np.empty(0, FLOW_KEY)], [np.empty(0, FLOW)]
        for vnic, table in self._tables.items():
            keys, flows = table.dump()
            over = self._are_over(keys, flows, now_ns)
            if over.any():
                keys, flows = table.take(keys[over])
                over = self._are_over(keys, flows, now_ns)
                table.update(keys[~over], flows[~over])  # their ports began another connection just now
                vnics.append(np.full(int(over.sum()), vnic, "<u8"))
                all_keys.append(keys[over])
                all_flows.append(flows[over])
        joined = np.concatenate(vnics)
        if len(joined):  # at once: the ledger copies all that it has
            self._ended.add(joined, np.concatenate(all_keys, dtype=FLOW_KEY), np.concatenate(all_flows, dtype=FLOW))
        return len(joined)

    def _are_over(self, keys: Array, flows: Array, now_ns: int) -> Array:
        over: Array = _idle_ns(flows, now_ns) >= self.idle_ns[_idle_class(keys, flows)].astype("i8")
        return over

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
            _Handoff(
                layout=VERSION, vnic=vnic, now_ns=now_ns, keys=keys[recent].tobytes(), flows=flows[recent].tobytes()
            )
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
        if handoff.layout != VERSION:
            message = f"this handoff of flows has layout {handoff.layout}, and layout {VERSION} is understood: upgrade the older host"
            raise ValueError(message)
        sound = 0 <= handoff.now_ns < _ETERNITY and (flows["origin"] <= INGRESS).all()
        if len(keys) != len(flows) or not sound:
            message = "this handoff of flows contradicts itself"
            raise ValueError(message)
        table = self._tables[VnicId(handoff.vnic)]
        for field in ("first_ns", "last_ns"):  # each host counts from its own boot
            ages = np.maximum(handoff.now_ns - flows[field].astype("i8"), 0)
            flows[field] = np.maximum(now_ns - ages, 0).astype("u8")
        flows["judged_by"] = 0
        flows["handshake"] &= 0xFF ^ HANDSHAKE_TIMED  # an answer that comes here would be timed by two clocks
        _follow(keys, flows, *table.dump())
        added = _add_newer(table, keys, flows)
        self._handed_over.discard(VnicId(handoff.vnic))
        return added


def _add_newer(table: Map, keys: Array, flows: Array) -> int:
    """Those that are there already come first; of the others as many as there is room for."""
    known, there = table.dump()
    fresh = ~_older(keys, flows, known, there)
    keys, flows = keys[fresh], flows[fresh]
    beside = ~np.isin(comparable(keys), comparable(known))
    room = table.capacity - len(known)
    fits = ~beside | (np.cumsum(beside) <= room)
    table.update(keys[fits], flows[fits])
    return int(fits.sum())


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


def _follow(keys: Array, flows: Array, known: Array, here: Array) -> None:
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


def _idle_ns(flows: Array, now_ns: int) -> Array:
    idle: Array = np.maximum(now_ns - flows["last_ns"].astype("i8"), 0)
    return idle


def _idle_class(keys: Array, flows: Array) -> Array:
    """The cases of ``bpf/conntrack.h``, in its order."""
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


def _rows(vnic: VnicId, keys: Array, flows: Array, now_ns: int) -> Iterator[FlowRow]:
    service = np.where(flows["origin"] == EGRESS, keys["remote_port"], keys["local_port"])
    for protocol, request in ECHO_REQUEST.items():
        service = np.where(keys["protocol"] == protocol, request, service)
    ages = (_idle_ns(flows, now_ns) / _NS).tolist()
    for at, (key, flow) in enumerate(zip(keys, flows, strict=True)):
        accepted = flow["step"] == Step.ACCEPT
        yield FlowRow(
            vnic=vnic,
            direction=DIRECTIONS[flow["origin"] & 1],
            remote=unpack(key["remote"].tobytes()),
            identity=int(flow["identity"]),
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
