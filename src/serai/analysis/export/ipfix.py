"""Flow records as IPFIX messages (RFC 7011): biflows (RFC 5103) whose source is who opened the conversation.

A host is an observation domain, a vNIC an observation point. What does not depend on the collector, the records' bytes, is made once
(``streams``); a ``Session`` puts them into messages for one.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serai.analysis.columns import Array, addresses, is_mapped, numbers, places
from serai.analysis.export.elements import (
    BARE,
    HOST_SPECIFIER,
    HOST_TEMPLATE,
    MESSAGES,
    OPTIONS_SET,
    PORTS,
    SET_HEADER_BYTES,
    TEMPLATE_SET,
    TEMPLATES,
    Template,
    place_of,
)
from serai.analysis.export.names import Names
from serai.model.flow_record import Event, Verdict
from serai.model.ports import ICMP, ICMPV6, TCP, WITH_PORTS
from serai.model.reasons import Reason
from serai.model.tenancy import content_id

UDP_BYTES: Final = 1400
"""Of a message over UDP at the most: no path that collectors are on breaks it into fragments."""
TCP_BYTES: Final = 16_384
"""Over TCP; larger ones save nothing."""
PORT: Final = 4739
"""IANA's, of UDP and TCP alike."""

_VERSION, _HEADER_BYTES = 10, 16
_ETHERNET_BYTES: Final = 14
_MOST_NAME: Final = 500
"""Of a longer one the end is told: that is where the VM's own name stands."""
_SHORT, _LONG = 255, 65_536

_FORWARDED, _DROPPED = 64, 128
_WHY: Final = {
    Reason.DENIED: 129,  # ACL deny
    Reason.FLOW_QUOTA: 138,  # policer
    Reason.FLOW_RATE: 138,
    Reason.FOREIGN_IP: 140,  # RPF: the source address cannot come from there
}
"""forwardingStatus (RFC 7270, 4.12) of drops; all others are dropped, and no more is said."""
_IDLE, _ACTIVE, _ENDED = 1, 2, 3
"""flowEndReason: nothing came any more; it goes on, this was only the interval; its end was seen."""
_FIN_OR_RST: Final = 0b101
_NAMED_EVERY: Final = 60
"""From one introduction that names the host to the next: collectors that know no options, as nfcapd, take that record for one that was lost."""
_INITIATOR: Final = 1
"""biflowDirection: the source is who opened it (RFC 5103, 6.3)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What goes into one message."""

    host: str
    sets: bytes
    records: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """Records of one host, encoded, in order of their templates."""

    host: str
    templates: Array
    """Of each record, its place in ``TEMPLATES``."""
    bodies: Array
    """Of each record, its bytes."""

    def cut(self, most_bytes: int) -> Iterator[Piece]:
        """Part them, so that no message is larger than ``most_bytes``."""
        room = most_bytes - _HEADER_BYTES - len(TEMPLATES) * SET_HEADER_BYTES
        ends = np.cumsum(np.fromiter(map(len, self.bodies), "i8", len(self.bodies)))
        start = done = 0
        while start < len(ends):
            stop = max(start + 1, int(np.searchsorted(ends, done + room, side="right")))
            yield Piece(host=self.host, sets=self._sets(start, stop), records=stop - start)
            start, done = stop, int(ends[stop - 1])

    def _sets(self, start: int, stop: int) -> bytes:
        changes = np.flatnonzero(np.diff(self.templates[start:stop])) + start + 1
        borders = [start, *changes.tolist(), stop]
        return b"".join(
            _set(TEMPLATES[self.templates[first]].number, b"".join(self.bodies[first:last]))
            for first, last in itertools.pairwise(borders)
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Records in bytes."""

    streams: list[Stream]
    left_out: int
    """Records of frames that were not IP: they are no IP flows."""


def domain_of(host: str) -> int:
    """Return the observation domain that a host is: the same wherever and whenever it is asked, and never 0, which means none."""
    return content_id("observation domain", host) & 0xFFFF_FFFF or 1


def encode(table: pa.Table, names: Names) -> Encoded:
    """Encode stored records, all that have FLOW_COLUMNS and NAMED_COLUMNS; ``names`` may lack some, which are left empty."""
    protocols = numbers(table, "protocol")
    chosen = protocols != 0
    left_out = len(protocols) - int(chosen.sum())
    if left_out:
        table = table.filter(pa.array(chosen))
        protocols = protocols[chosen]
    local, remote = addresses(table, "local"), addresses(table, "remote")
    templates = _places(protocols, is_mapped(local) | is_mapped(remote))
    texts = _texts(table, names)
    bodies = np.empty(len(protocols), object)
    for place in np.unique(templates):
        rows = np.flatnonzero(templates == place)
        fixed = _fixed(TEMPLATES[place], table, rows, local[rows], remote[rows])
        plain = fixed.view(f"V{fixed.dtype.itemsize}").tolist()
        bodies[rows] = [raw + text for raw, text in zip(plain, texts[rows], strict=True)]
    host, hosts = places(table, "host")
    order = np.lexsort((templates, host))
    borders = np.searchsorted(host[order], np.arange(len(hosts) + 1))
    streams = [
        Stream(host=hosts[each], templates=templates[rows], bodies=bodies[rows])
        for each in range(len(hosts))
        if len(rows := order[borders[each] : borders[each + 1]])
    ]
    return Encoded(streams=streams, left_out=left_out)


def _places(protocols: Array, fourth: Array) -> Array:
    """Say which templates records have, in ``TEMPLATES``; ``fourth``: those of IPv4."""
    kind = np.full(len(protocols), BARE)
    kind[np.isin(protocols, list(WITH_PORTS))] = PORTS
    kind[np.where(fourth, protocols == ICMP, protocols == ICMPV6)] = MESSAGES
    table = np.array([[place_of(each, version) for version in (6, 4)] for each in (PORTS, MESSAGES, BARE)])
    found: Array = table[kind, fourth.astype("i8")]
    return found


def _fixed(template: Template, table: pa.Table, rows: Array, local: Array, remote: Array) -> Array:
    """Return the parts of a fixed size."""

    def told(name: str) -> Array:
        return numbers(table, name)[rows]

    mine = told("direction") == 0
    found = np.zeros(len(rows), template.fixed)

    def both(there: str, back: str, out: Array, into: Array) -> None:
        found[there], found[back] = np.where(mine, out, into), np.where(mine, into, out)

    ends = template.ends
    width = template.elements[ends[0]].size
    near, far = (side[:, 16 - width :] for side in (local, remote))
    for name, first, second in zip(ends, (near, far), (far, near), strict=True):
        found[name] = np.ascontiguousarray(np.where(mine[:, None], first, second)).view(f"V{width}")[:, 0]
    at = told("at").astype("i8") * 1000
    found["flowStartMilliseconds"] = np.maximum(at - told("age_ms"), 0)
    found["flowEndMilliseconds"] = np.maximum(at - told("idle_ms"), 0)
    if "sourceTransportPort" in template.elements:
        both("sourceTransportPort", "destinationTransportPort", told("local_port"), told("remote_port"))
        # Drops have no port but the one that policy judged.
        asked = found["destinationTransportPort"]
        found["destinationTransportPort"] = np.where(asked == 0, told("service"), asked)
        both("tcpControlBits", "reverseTcpControlBits", told("flags_out"), told("flags_in"))
    if template.message:
        found[template.message] = told("service")
    packets, frames = ((told(f"{what}_out"), told(f"{what}_in")) for what in ("packets", "bytes"))
    both("packetDeltaCount", "reversePacketDeltaCount", *packets)
    both("layer2OctetDeltaCount", "reverseLayer2OctetDeltaCount", *frames)
    octets = (_octets(*each) for each in zip(packets, frames, strict=True))
    both("octetDeltaCount", "reverseOctetDeltaCount", *octets)
    protocol = told("protocol")
    found["protocolIdentifier"] = protocol
    found["flowDirection"] = mine
    found["biflowDirection"] = _INITIATOR
    found["forwardingStatus"] = np.where(told("verdict") == Verdict.DENIED, _STATUS[told("reason")], _FORWARDED)
    closed = (protocol == TCP) & (((told("flags_out") | told("flags_in")) & _FIN_OR_RST) != 0)
    ended = (told("event") & Event.ENDS) != 0
    found["flowEndReason"] = np.where(ended, np.where(closed, _ENDED, _IDLE), _ACTIVE)
    found["observationPointId"] = told("vnic")
    return found


def _octets(packets: Array, frames: Array) -> Array:
    """Return bytes of IP packets, which is what octetDeltaCount means, from bytes of frames."""
    headers = packets * np.uint64(_ETHERNET_BYTES)
    found: Array = np.where(frames > headers, frames - headers, 0)
    return found


def _texts(table: pa.Table, names: Names) -> Array:
    """Return what follows the fixed part of each record: names of its vNIC and of its VM."""
    known: dict[tuple[int, int], bytes] = {}
    pairs = list(zip(numbers(table, "vnic").tolist(), numbers(table, "vm").tolist(), strict=True))
    for pair in set(pairs):
        vnic, vm = pair
        known[pair] = _text(names.vnics.get(vnic, "")) + _text(names.vm(vm))
    found = np.empty(len(pairs), object)
    found[:] = [known[pair] for pair in pairs]
    return found


def _text(text: str) -> bytes:
    """Encode a text with its length (RFC 7011, 7)."""
    raw = text.encode()[-_MOST_NAME:].decode(errors="ignore").encode()
    return (bytes([len(raw)]) if len(raw) < _SHORT else struct.pack(">BH", _SHORT, len(raw))) + raw


def _set(number: int, content: bytes) -> bytes:
    return struct.pack(">HH", number, SET_HEADER_BYTES + len(content)) + content


def _statuses() -> np.ndarray[Any, Any]:
    found = np.full(256, _DROPPED, "u1")
    for reason, status in _WHY.items():
        found[reason] = status
    return found


_STATUS: Final = _statuses()
_SPECIFIERS: Final = _set(TEMPLATE_SET, b"".join(each.specifier for each in TEMPLATES)) + _set(
    OPTIONS_SET, HOST_SPECIFIER
)


class Session:
    """Messages for one collector: a transport session (RFC 7011, 2). Ask for a message, send it, and say that it was sent."""

    def __init__(self, *, again_seconds: float = 0, again_messages: int = 0) -> None:
        """Begin. Templates this old, or followed by this many messages, are told again, as UDP needs it (RFC 7011, 10.3.6); 0: never."""
        self._again_seconds, self._again_messages = again_seconds, again_messages
        self._sequence: dict[str, int] = {}
        self._told: dict[str, tuple[float, int]] = {}
        self._introductions: dict[str, int] = {}

    def due(self, host: str, now: float) -> bool:
        """Say whether a host's ``introduction`` must go first; ``now`` is seconds since 1970, here and below."""
        if host not in self._told:
            return True
        when, messages = self._told[host]
        old = 0 < self._again_seconds <= abs(now - when)
        return old or 0 < self._again_messages <= messages

    def introduction(self, host: str, now: float) -> bytes:
        """Return the message that tells what a host's records consist of and, the first time and then seldom, what it is called."""
        name = _set(HOST_TEMPLATE, struct.pack(">I", domain_of(host)) + _text(host))
        return self._message(host, _SPECIFIERS + (name if self._names(host) else b""), now)

    def introduced(self, host: str, now: float) -> None:
        """Know that the introduction was sent."""
        self._told[host] = now, 0
        self._advance(host, int(self._names(host)))
        self._introductions[host] = self._introductions.get(host, 0) + 1

    def message(self, piece: Piece, now: float) -> bytes:
        """Return the message of some records."""
        return self._message(piece.host, piece.sets, now)

    def sent(self, piece: Piece) -> None:
        """Know that it was sent."""
        when, messages = self._told.get(piece.host, (0.0, 0))
        self._told[piece.host] = when, messages + 1
        self._advance(piece.host, piece.records)

    def forget(self) -> None:
        """Introduce every host again: the collector may have started anew."""
        self._told.clear()
        self._introductions.clear()

    def _names(self, host: str) -> bool:
        """Say whether the next introduction names the host."""
        return self._introductions.get(host, 0) % _NAMED_EVERY == 0

    def _message(self, host: str, sets: bytes, now: float) -> bytes:
        sequence = self._sequence.get(host, 0)
        return struct.pack(">HHIII", _VERSION, _HEADER_BYTES + len(sets), int(now), sequence, domain_of(host)) + sets

    def _advance(self, host: str, records: int) -> None:
        self._sequence[host] = (self._sequence.get(host, 0) + records) & 0xFFFF_FFFF
