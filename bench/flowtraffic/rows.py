"""What gates tell of conversations: one record for each end that has a gate, in order of time and host, in the columns of the flow store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.flowtraffic.population import Population
from bench.flowtraffic.talks import ANSWERED, BY_OPENER, BY_TARGET, OPEN, REFUSED, UNANSWERED, Talks
from serai.model.flow_record import FLOW_COLUMNS, NAMED_COLUMNS, Event, Kind, Verdict
from serai.model.ports import TCP, UDP
from serai.model.reasons import Reason

Array = NDArray[Any]

SLOT_SECONDS: Final = 10
_LATE: Final = SLOT_SECONDS - 1
"""Intervals of hosts end 1 to 9 seconds into those of the clock: no end is on the border between two steps of a rollup."""
_HEADERS, _LARGE_OUT, _LARGE_IN = 66, 500, 1400
_OF_DIRECTION: Final = 4
_MOST_PACKETS: Final = 8_000_000
"""Of an interval: a wire of 10 Gbit/s carries no more."""
_STAGED: Final = 0.004
_ASKED, _RESET, _RUNNING, _OVER = 0x02, 0x14, 0x1A, 0x1B  # SYN; RST ACK; SYN PSH ACK; and FIN
_SMALL: Final = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Records, and what they are known by inside."""

    table: pa.Table
    columns: Mapping[str, Array]
    """All numbers of the table, by name."""
    vm: Array
    """Places of VMs."""
    tenant: Array
    slot: Array
    """Counted from the first of the batch."""


class Gates:
    """The gates of a population, which tell what they have counted."""

    def __init__(self, population: Population) -> None:
        """Number the texts."""
        self._people = population
        self._texts = {
            "host": pa.array(population.hosts), "tenant": pa.array(population.tenants), "network": pa.array(population.networks),
        }  # fmt: skip
        hosts = len(population.hosts)
        self._late = 1 + np.arange(hosts, dtype="<u4") * _LATE // hosts

    def sides(self, talks: Talks) -> Array:
        """Return which ends (conversation * 2, and 1 for the target) tell of conversations."""
        people, count = self._people, len(talks)
        told = np.empty((count, 2), "?")
        outside = people.outside.start
        told[:, 0] = talks.opener < outside
        told[:, 1] = talks.target < outside
        stopped = (talks.denied == BY_OPENER) & ~people.ends.observes[talks.opener]
        told[stopped, 1] = False
        return np.flatnonzero(told)

    def tell(self, talks: Talks, sides: Array, first: int, rng: np.random.Generator) -> Rows:
        """Return the records of these ends of conversations; the first interval begins ``first`` * 10 seconds after 1970."""
        people = self._people.ends
        both = np.column_stack([talks.opener, talks.target]).reshape(-1)
        order = self._order(talks.slot[sides >> 1], people.host[both[sides]])
        side = sides[order]
        talk, direction = side >> 1, (side & 1).astype("u1")
        own, other = both[side], both[side ^ 1]
        host, slot = people.host[own], talks.slot[talk]
        columns: dict[str, Array] = {
            "at": (slot + np.uint32(first)) * np.uint32(SLOT_SECONDS) + self._late[host],
            "vnic": people.vnic[own], "direction": direction, "protocol": talks.protocol[talk], "remote": people.address[other],
            "service": talks.service[talk], "own_identity": people.identity[own], "identity": people.identity[other],
            "rtt_us": np.zeros(len(side), "<u4"), "vm": people.number[own], "peer": people.number[other],
        }  # fmt: skip
        columns |= self._judged(talks, talk, direction, own, rng)
        dropped = columns["verdict"] == Verdict.DENIED
        columns["local"] = people.address[np.where(dropped, len(people.vm) - 1, own)]
        columns |= self._counted(talks, side, rng)
        columns |= _lived(talks, side, columns, rng)
        tenant = people.tenant[own]
        columns["abroad"] = ((tenant != people.tenant[other]) & (columns["peer"] != 0)).astype("u1")
        texts = {"host": host, "tenant": tenant, "network": people.network[own]}
        return Rows(table=self._table(columns, texts), columns=columns, vm=people.vm[own], tenant=tenant, slot=slot)

    def _order(self, slot: Array, host: Array) -> Array:
        """Order by time, and by host within a second: hosts are numbered in the order in which they tell."""
        key = slot.astype("<u4") * np.uint32(len(self._people.hosts)) + host.astype("<u4")
        if len(key) and int(key.max()) < _SMALL:
            key = key.astype("<u2")  # which is sorted in no time
        return np.argsort(key, kind="stable")

    def _judged(
        self, talks: Talks, talk: Array, direction: Array, own: Array, rng: np.random.Generator
    ) -> dict[str, Array]:
        people = self._people.ends
        denied = talks.denied[talk]
        mine = (denied != OPEN) & (denied == direction + 1)
        verdict = np.zeros(len(talk), "u1")
        bad = np.flatnonzero(mine)
        verdict[bad] = np.where(people.observes[own[bad]], np.uint8(Verdict.OBSERVED), np.uint8(Verdict.DENIED))
        reason = np.zeros(len(talk), "u1")
        reason[bad] = np.where(verdict[bad] == Verdict.OBSERVED, np.uint8(Reason.DENIED), talks.reason[talk[bad]])
        staged = verdict.copy()
        staged[np.flatnonzero(rng.random(len(talk), "f4") < _STAGED)] = Verdict.DENIED
        # Who is denied elsewhere is allowed here by the first rule there is.
        place = np.where((denied != OPEN) & ~mine, np.uint8(0), talks.place[talk])
        rule = self._people.books.rules[people.book[own] + direction * _OF_DIRECTION + place]
        rule[bad[(reason[bad] != Reason.DENIED)]] = 0
        return {"verdict": verdict, "staged": staged, "reason": reason, "rule": rule}

    def _counted(self, talks: Talks, side: Array, rng: np.random.Generator) -> dict[str, Array]:
        count = len(talks)
        unanswered = talks.fate == UNANSWERED
        unanswered &= ~((talks.denied == BY_OPENER) & self._people.ends.observes[talks.opener])
        unanswered &= ~((talks.denied == BY_TARGET) & self._people.ends.observes[talks.target])
        packets = np.empty((count, 2), "f4")
        usual = np.exp(rng.standard_normal(count, "f4") * np.float32(1.8) + np.float32(2.2)) * talks.scale
        np.minimum(usual, _MOST_PACKETS, out=usual)
        packets[:, 0] = usual + 1
        packets[:, 1] = usual * (np.float32(0.4) + np.float32(1.2) * rng.random(count, "f4")) + 1
        brief = np.flatnonzero(talks.fate != ANSWERED)
        packets[brief, 0] = rng.integers(1, 4, len(brief))
        packets[brief, 1] = 1
        packets[np.flatnonzero(unanswered), 1] = 0
        counted = packets.astype("<u8")
        sizes = np.empty((count, 2), "<u8")
        part = rng.random((count, 2), "f4")
        sizes[:, 0] = _HEADERS + (part[:, 0] ** 3 * _LARGE_OUT).astype("<u8")
        sizes[:, 1] = _HEADERS + (part[:, 1] * _LARGE_IN).astype("<u8")
        sizes[brief] = _HEADERS
        sizes *= counted
        told = {"packets": counted.reshape(-1), "bytes": sizes.reshape(-1)}
        return {
            f"{name}_{way}": both[of] for name, both in told.items() for way, of in (("out", side), ("in", side ^ 1))
        }

    def _table(self, columns: Mapping[str, Array], texts: Mapping[str, Array]) -> pa.Table:
        made: dict[str, pa.Array] = {}
        for name in (*FLOW_COLUMNS, *NAMED_COLUMNS):
            if name in texts:
                made[name] = pa.DictionaryArray.from_arrays(pa.array(texts[name]), self._texts[name])
            elif name in FLOW_COLUMNS and FLOW_COLUMNS[name].kind is Kind.ADDRESS:
                made[name] = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(16), len(columns[name]), [None, pa.py_buffer(columns[name])]
                )
            else:
                made[name] = pa.array(columns[name])
        return pa.table(made)


def _lived(talks: Talks, side: Array, columns: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Return the columns that tell of flows: dropped packets belong to none."""
    talk, mine = side >> 1, (side & 1) == 0
    alive = columns["verdict"] != Verdict.DENIED
    protocol, service = columns["protocol"], columns["service"]
    event = talks.event[talk] * alive
    begins = event & np.uint8(Event.BEGINS)
    tcp = (protocol == TCP) & alive
    with_ports = tcp | ((protocol == UDP) & alive)
    fate = talks.fate[talk]
    answers = np.where(mine, columns["packets_in"], columns["packets_out"])
    fate = np.where((answers != 0) & (fate == UNANSWERED), np.uint8(ANSWERED), fate)
    answered = fate == ANSWERED
    first = np.where(
        answered, np.where(event & np.uint8(Event.ENDS), np.uint8(_OVER), np.uint8(_RUNNING)), np.uint8(_ASKED)
    )
    second = np.where(answered, first, np.where(fate == REFUSED, np.uint8(_RESET), np.uint8(0)))
    opened = np.flatnonzero(tcp & (begins != 0) & answered)
    rtt = np.zeros(len(talk), "<u4")
    # A gate knows the way from itself to who answers: it is short where that is its own VM.
    rtt[opened] = np.exp(
        rng.standard_normal(len(opened), "f4") * np.float32(0.8)
        + np.where(mine[opened], np.float32(6.5), np.float32(4.5))
    )
    asked = columns["packets_out"] + columns["packets_in"]
    return {
        "event": event, "connections": begins.astype("<u4"), "local_port": np.where(mine, talks.port[talk], service) * with_ports,
        "remote_port": np.where(mine, service, talks.port[talk]) * with_ports, "age_ms": talks.age[talk], "idle_ms": talks.idle[talk],
        "flags_out": np.where(mine, first, second) * tcp, "flags_in": np.where(mine, second, first) * tcp, "rtt_us": rtt,
        "syn_repeats": np.where(tcp & (fate == UNANSWERED), asked - (asked > 0), np.uint64(0)).astype("<u2"),
        "unanswered": (tcp & (fate == UNANSWERED)).astype("u1"), "refused": (tcp & (fate == REFUSED)).astype("u1"),
    }  # fmt: skip
