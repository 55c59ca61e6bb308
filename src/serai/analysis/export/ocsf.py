"""Flow records as events of the Open Cybersecurity Schema Framework: Network Activity (class 4001), one JSON object a line."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from serai.analysis.columns import addresses, numbers, places
from serai.analysis.export.names import Names
from serai.model.address import unpack
from serai.model.flow_record import FLOW_COLUMNS, Event, Kind, Verdict
from serai.model.ports import ICMP, ICMPV6, SCTP, TCP, UDP, WITH_PORTS
from serai.model.reasons import Reason

SCHEMA_VERSION: Final = "1.5.0"
"""The earliest in which an action may be "Observed"."""
CLASS, CATEGORY = 4001, 4
PROFILES: Final = ("host", "security_control")
"""Profiles whose attributes events have beside those of their class."""


class Activity(enum.IntEnum):
    """What happened to a connection: ``activity_id``, with its captions."""

    OPEN = 1
    CLOSE = 2
    RESET = 3
    FAIL = 4
    REFUSE = 5
    TRAFFIC = 6


class Severity(enum.IntEnum):
    """How grave it is: ``severity_id``, with its captions."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3


_RST: Final = 4
_VIRTUAL, _FIREWALL = 6, 9
_INBOUND, _OUTBOUND, _LATERAL = 1, 2, 3
_INTERNAL, _EXTERNAL = 2, 3
_DIRECTIONS: Final = {_INBOUND: "Inbound", _OUTBOUND: "Outbound", _LATERAL: "Lateral"}
_BOUNDARIES: Final = {_INTERNAL: "Internal", _EXTERNAL: "External"}
_PROTOCOLS: Final = {ICMP: "icmp", TCP: "tcp", UDP: "udp", 47: "gre", 50: "esp", 51: "ah", ICMPV6: "ipv6-icmp", SCTP: "sctp"}  # fmt: skip
"""As IANA writes them, in lower case."""
_OUTCOMES: Final = {
    Verdict.ACCEPTED: {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"},
    Verdict.DENIED: {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"},
    Verdict.OBSERVED: {"action_id": 3, "action": "Observed", "disposition_id": 17, "disposition": "Logged"},
}
_FORGED: Final = frozenset(
    {
        Reason.FOREIGN_MAC, Reason.FOREIGN_IP, Reason.FOREIGN_ARP, Reason.FOREIGN_ND, Reason.FOREIGN_DHCP, Reason.DHCP_SERVER, Reason.ROUTER,
        Reason.IP_OPTIONS, Reason.FRAGMENT_OVERLAP, Reason.ND_UNSAFE,
    }
)  # fmt: skip
"""Drops that no mistake in a policy explains: somebody claims to be somebody else, or hides what it sends."""
_VERDICTS: Final = {each.value: each.name.lower() for each in Verdict}
_REASONS: Final = {each.value: each.name.lower() for each in Reason}

_encoder: Final = msgspec.json.Encoder()

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Vm:
    """What events tell of a VM, found out once for many of them."""

    described: Mapping[str, Any]
    tenant: str
    scope: str
    labels: Mapping[str, str]


_Vms = Mapping[int, _Vm]


def lines(table: pa.Table, names: Names, *, version: str) -> bytes:
    """Return events as lines; ``version`` is that of this program. Names that are not known are left out."""
    return _encoder.encode_lines(list(events(table, names, version=version)))


def events(table: pa.Table, names: Names, *, version: str) -> Iterator[dict[str, Any]]:
    """Go through the events of stored records, all that have FLOW_COLUMNS and NAMED_COLUMNS."""
    product = {"name": "Serai", "vendor_name": "Serai", "version": version}
    vms = _vms(table, names)
    texts: dict[bytes, str] = {}
    for row, uid in zip(_rows(table), _uids(table), strict=True):
        for end in ("local", "remote"):
            raw = row[end]
            if raw not in texts:
                texts[raw] = str(unpack(raw)) if any(raw) else ""
            row[end] = texts[raw]
        yield _event(row, names, vms, product, uid)


def _event(row: Row, names: Names, vms: _Vms, product: Mapping[str, str], uid: str) -> dict[str, Any]:
    activity, severity = _activity(row), _severity(row)
    mine = row["direction"] == 0
    near, far = _near(row, names, vms), _far(row, vms)
    out, into = ("out", "in") if mine else ("in", "out")
    metadata: dict[str, Any] = {"version": SCHEMA_VERSION, "product": product, "profiles": PROFILES, "uid": uid}
    if row["tenant"]:
        metadata["tenant_uid"] = row["tenant"]
    at = row["at"] * 1000
    event: dict[str, Any] = {
        "activity_id": activity.value, "activity_name": activity.name.capitalize(), "category_uid": CATEGORY, "category_name": "Network Activity",
        "class_uid": CLASS, "class_name": "Network Activity", "type_uid": CLASS * 100 + activity, "type_name": f"Network Activity: {activity.name.capitalize()}",
        "severity_id": severity.value, "severity": severity.name.capitalize(),
        "time": at, "start_time": max(at - row["age_ms"], 0), "end_time": max(at - row["idle_ms"], 0),
        "src_endpoint": near if mine else far, "dst_endpoint": far if mine else near, "connection_info": _connection(row),
        "traffic": {
            "bytes": row["bytes_out"] + row["bytes_in"], "bytes_in": row[f"bytes_{into}"], "bytes_out": row[f"bytes_{out}"],
            "packets": row["packets_out"] + row["packets_in"], "packets_in": row[f"packets_{into}"], "packets_out": row[f"packets_{out}"],
        },
        "device": {"hostname": row["host"], "type_id": _FIREWALL, "type": "Firewall"},
        "metadata": metadata, "unmapped": _unmapped(row, vms),
    }  # fmt: skip
    event |= _OUTCOMES.get(row["verdict"], _OUTCOMES[Verdict.DENIED])
    if row["rule"]:
        event["firewall_rule"] = {"uid": f"{row['rule']:#x}"}
        if text := names.rules.get(row["rule"]):
            event["firewall_rule"]["name"] = text
    return event


def _activity(row: Row) -> Activity:
    """Say what a record tells of, the most telling first: it may tell that a connection began and that it ended."""
    if row["verdict"] == Verdict.DENIED or row["refused"]:
        return Activity.REFUSE
    if row["unanswered"]:
        return Activity.FAIL
    if row["event"] & Event.ENDS:
        reset = row["protocol"] == TCP and (row["flags_out"] | row["flags_in"]) & _RST
        return Activity.RESET if reset else Activity.CLOSE
    return Activity.OPEN if row["event"] & Event.BEGINS else Activity.TRAFFIC


def _severity(row: Row) -> Severity:
    if row["verdict"] == Verdict.ACCEPTED:
        return Severity.INFORMATIONAL
    return Severity.MEDIUM if row["reason"] in _FORGED else Severity.LOW


def _near(row: Row, names: Names, vms: _Vms) -> dict[str, Any]:
    """Describe the VM's end."""
    end = _end(row, "local", vms.get(row["vm"])) | {"interface_uid": names.vnics.get(row["vnic"], f"{row['vnic']:#x}")}
    if row["network"]:
        end["zone"] = row["network"]
    return end


def _far(row: Row, vms: _Vms) -> dict[str, Any]:
    """Describe the other end; what has neither an address nor a name is called unknown, for it may not be empty."""
    return _end(row, "remote", vms.get(row["peer"])) or {"name": "unknown"}


def _end(row: Row, side: str, vm: _Vm | None) -> dict[str, Any]:
    end: dict[str, Any] = {}
    if row[side]:
        end["ip"] = row[side]
    port = row[f"{side}_port"]
    if not port and row["protocol"] in WITH_PORTS and (side == "remote") == (row["direction"] == 0):
        port = row["service"]  # drops have no port but the one that policy judged
    if port:
        end["port"] = port
    if vm:
        end |= vm.described
    return end


def _connection(row: Row) -> dict[str, Any]:
    direction = _LATERAL if row["peer"] else _INBOUND if row["direction"] else _OUTBOUND
    boundary = _INTERNAL if row["peer"] else _EXTERNAL
    found = {
        "direction_id": direction, "direction": _DIRECTIONS[direction], "boundary_id": boundary, "boundary": _BOUNDARIES[boundary],
    }  # fmt: skip
    if row["protocol"]:
        sixth = ":" in (row["remote"] or row["local"])
        found |= {
            "protocol_num": row["protocol"],
            "protocol_ver_id": 6 if sixth else 4,
            "protocol_ver": "IPv6" if sixth else "IPv4",
        }
    if row["protocol"] in _PROTOCOLS:
        found["protocol_name"] = _PROTOCOLS[row["protocol"]]
    if row["protocol"] == TCP:
        found["tcp_flags"] = row["flags_out"] | row["flags_in"]
    return found


def _unmapped(row: Row, vms: _Vms) -> dict[str, Any]:
    """Return what the schema has no place for; numbers of 64 bits as texts, for JSON's are smaller."""
    found: dict[str, Any] = {
        "tenant": row["tenant"], "network": row["network"], "vnic": f"{row['vnic']:#x}", "own_identity": f"{row['own_identity']:#x}", "identity": f"{row['identity']:#x}",
        "told_by": "destination" if row["direction"] else "source", "verdict": _VERDICTS.get(row["verdict"], str(row["verdict"])),
        "staged": _VERDICTS.get(row["staged"], str(row["staged"])), "reason": _REASONS.get(row["reason"], str(row["reason"])), "abroad": bool(row["abroad"]),
        "connections": row["connections"], "rtt_us": row["rtt_us"], "syn_repeats": row["syn_repeats"], "unanswered": bool(row["unanswered"]), "refused": bool(row["refused"]),
        "flags_out": row["flags_out"], "flags_in": row["flags_in"],
    }  # fmt: skip
    if row["protocol"] in {ICMP, ICMPV6}:
        found |= {"icmp_type": row["service"] >> 8, "icmp_code": row["service"] & 255}
    if vm := vms.get(row["vm"]):
        found |= {"scope": vm.scope, "labels": vm.labels}
    if peer := vms.get(row["peer"]):
        found |= {"peer_tenant": peer.tenant, "peer_scope": peer.scope, "peer_labels": peer.labels}
    return found


def _vms(table: pa.Table, names: Names) -> _Vms:
    wanted = np.union1d(numbers(table, "vm"), numbers(table, "peer")).tolist()
    found = [names.endpoints[number] for number in wanted if number in names.endpoints]
    return {
        each.number: _Vm(
            described={"name": each.name, "uid": each.path, "type_id": _VIRTUAL, "type": "Virtual"}, tenant=each.tenant, scope=str(each.scope), labels=each.labels
        )
        for each in found
    }  # fmt: skip


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    columns = {name: numbers(table, name).tolist() for name in (*_NUMBERS, "vm", "peer", "abroad")}
    columns |= {name: [each.tobytes() for each in addresses(table, name)] for name in _ADDRESSES}
    for name in ("host", "tenant", "network"):
        at, found = places(table, name)
        columns[name] = [found[each] for each in at.tolist()]
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _uids(table: pa.Table) -> Iterator[str]:
    """Name each record: one that is sent twice is known by it."""
    packed = np.empty(table.num_rows, [(name, FLOW_COLUMNS[name].kind.value) for name in FLOW_COLUMNS])
    for name in _NUMBERS:
        packed[name] = numbers(table, name)
    for name in _ADDRESSES:
        packed[name] = addresses(table, name).view("V16")[:, 0]
    at, hosts = places(table, "host")
    raw, size = packed.tobytes(), packed.dtype.itemsize
    for row, host in enumerate(at.tolist()):
        salted = raw[row * size : (row + 1) * size] + hosts[host].encode()
        yield hashlib.blake2b(salted, digest_size=16).hexdigest()


_ADDRESSES: Final = tuple(name for name, column in FLOW_COLUMNS.items() if column.kind is Kind.ADDRESS)
_NUMBERS: Final = tuple(name for name in FLOW_COLUMNS if name not in _ADDRESSES)
