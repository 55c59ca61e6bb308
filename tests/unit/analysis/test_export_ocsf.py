"""OCSF events against the schema 1.5.0, written down by hand: what must be there, what may be, and what values mean."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pyarrow as pa
import pytest

from flowing import RULES, SCHEMA, Row, traffic
from serai.analysis.export.names import Names
from serai.analysis.export.ocsf import CLASS, Activity, lines
from serai.analysis.register import Endpoint
from serai.model.address import pack
from serai.model.reasons import Reason

INTEGER, TEXT, LONG, BOOL, OBJECT, TEXTS = "integer", "text", "long", "bool", "object", "texts"
REQUIRED = True

EVENT = {
    "activity_id": (INTEGER, REQUIRED), "activity_name": (TEXT, False), "category_uid": (INTEGER, REQUIRED), "category_name": (TEXT, False), "class_uid": (INTEGER, REQUIRED),
    "class_name": (TEXT, False), "type_uid": (LONG, REQUIRED), "type_name": (TEXT, False), "severity_id": (INTEGER, REQUIRED), "severity": (TEXT, False), "time": (LONG, REQUIRED),
    "start_time": (LONG, False), "end_time": (LONG, False), "metadata": (OBJECT, REQUIRED), "src_endpoint": (OBJECT, False), "dst_endpoint": (OBJECT, False),
    "connection_info": (OBJECT, False), "traffic": (OBJECT, False), "unmapped": (OBJECT, False), "device": (OBJECT, False), "action_id": (INTEGER, False), "action": (TEXT, False),
    "disposition_id": (INTEGER, False), "disposition": (TEXT, False), "firewall_rule": (OBJECT, False),
}  # fmt: skip
ENDPOINT = {
    "ip": (TEXT, False), "port": (INTEGER, False), "name": (TEXT, False), "uid": (TEXT, False), "hostname": (TEXT, False), "interface_uid": (TEXT, False),
    "zone": (TEXT, False), "type_id": (INTEGER, False), "type": (TEXT, False),
}  # fmt: skip
OBJECTS: dict[str, dict[str, tuple[str, bool]]] = {
    "metadata": {
        "version": (TEXT, REQUIRED), "product": (OBJECT, REQUIRED), "profiles": (TEXTS, False), "uid": (TEXT, False), "tenant_uid": (TEXT, False),
    },
    "src_endpoint": ENDPOINT, "dst_endpoint": ENDPOINT,
    "connection_info": {
        "direction_id": (INTEGER, REQUIRED), "direction": (TEXT, False), "boundary_id": (INTEGER, False), "boundary": (TEXT, False), "protocol_num": (INTEGER, False),
        "protocol_name": (TEXT, False), "protocol_ver_id": (INTEGER, False), "protocol_ver": (TEXT, False), "tcp_flags": (INTEGER, False),
    },
    "traffic": {f"{what}{way}": (LONG, False) for what in ("bytes", "packets") for way in ("", "_in", "_out")},
    "device": {"hostname": (TEXT, False), "type_id": (INTEGER, REQUIRED), "type": (TEXT, False)},
    "firewall_rule": {"uid": (TEXT, False), "name": (TEXT, False)},
}  # fmt: skip
VALUES: dict[tuple[str, ...], dict[int, str]] = {
    ("activity",): {1: "Open", 2: "Close", 3: "Reset", 4: "Fail", 5: "Refuse", 6: "Traffic"},
    ("severity",): {1: "Informational", 2: "Low", 3: "Medium"},
    ("action",): {1: "Allowed", 2: "Denied", 3: "Observed"},
    ("disposition",): {1: "Allowed", 2: "Blocked", 17: "Logged"},
    ("connection_info", "direction"): {1: "Inbound", 2: "Outbound", 3: "Lateral"},
    ("connection_info", "boundary"): {2: "Internal", 3: "External"},
    ("connection_info", "protocol_ver"): {4: "IPv4", 6: "IPv6"},
    ("device", "type"): {9: "Firewall"},
    ("src_endpoint", "type"): {6: "Virtual"}, ("dst_endpoint", "type"): {6: "Virtual"},
}  # fmt: skip
ENDPOINT_NEEDS = {"ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "interface_name"}  # fmt: skip

NAMES = Names(
    endpoints={
        1: Endpoint(number=1, path="/acme/shop:web-1", labels={"tier": "web"}),
        2: Endpoint(number=2, path="/:dns", labels={}),
    },
    vnics={7: "/acme/shop:web-1/nic0"},
    rules={9: "/acme/shop:web/egress/db"},
)


def fits(found: dict[str, Any], schema: dict[str, tuple[str, bool]]) -> None:
    assert not found.keys() - schema.keys()
    assert not {name for name, (_, required) in schema.items() if required} - found.keys()
    for name, value in found.items():
        match schema[name][0]:
            case "integer":
                assert type(value) is int
                assert -(2**31) <= value < 2**31
            case "long":
                assert type(value) is int
                assert 0 <= value < 2**63
            case "text":
                assert isinstance(value, str)
                assert value
            case "texts":
                assert all(isinstance(each, str) for each in value)
            case "object":
                assert isinstance(value, dict)
                assert value


def check(event: dict[str, Any]) -> None:
    fits(event, EVENT)
    for name, schema in OBJECTS.items():
        if name in event:
            fits(event[name], schema)
    assert event["category_uid"] == 4
    assert event["class_uid"] == 4001
    assert event["type_uid"] == 400100 + event["activity_id"]
    assert event["type_name"] == f"{event['class_name']}: {event['activity_name']}"
    assert event["metadata"]["product"] == {"name": "Serai", "vendor_name": "Serai", "version": "1.2.3"}
    assert event["metadata"]["version"] == "1.5.0"
    assert event["metadata"]["profiles"] == [
        "host",
        "security_control",
    ]  # device; action, disposition and firewall rule
    for (*where, name), captions in VALUES.items():
        holder = event
        for each in where:
            holder = holder[each]
        key = f"{name}_name" if name == "activity" else name
        if f"{name}_id" in holder or key in holder:
            assert captions[holder[f"{name}_id"]] == holder[key]
    for end in ("src_endpoint", "dst_endpoint"):
        assert event[end].keys() & ENDPOINT_NEEDS
        if "ip" in event[end]:
            ip_address(event[end]["ip"])
        assert 0 < event[end].get("port", 1) < 65536
    sums = event["traffic"]
    assert all(sums[what] == sums[f"{what}_in"] + sums[f"{what}_out"] for what in ("bytes", "packets"))


def told(*rows: Row, names: Names = NAMES) -> list[dict[str, Any]]:
    found = [
        json.loads(line) for line in lines(pa.Table.from_pylist(rows, SCHEMA), names, version="1.2.3").splitlines()
    ]
    for event in found:
        check(event)
    return found


def a_row(**given: Any) -> Row:
    zeros = dict.fromkeys(SCHEMA.names, 0)
    ends = {"local": pack(ip_address("10.0.0.1")), "remote": pack(ip_address("192.0.2.9")), "local_port": 40000, "remote_port": 443, "service": 443}  # fmt: skip
    return zeros | ends | {
        "host": "host-1", "tenant": "acme", "network": "/acme:front", "protocol": 6, "at": 1_795_560_000, "vnic": 7, "vm": 1, "age_ms": 5000, "idle_ms": 10, "packets_out": 3,
        "packets_in": 2, "bytes_out": 300, "bytes_in": 9000, "flags_out": 0x1A, "flags_in": 0x12, "own_identity": 2**63, "identity": 5,
    } | given  # fmt: skip


def test_all_of_random_traffic_fits_the_schema() -> None:
    made = traffic(5, conversations=500)
    names = Names()
    names.learn(made.names())
    rows = made.rows
    found = told(*rows, names=names)
    assert len(found) == len(rows)
    assert len({event["metadata"]["uid"] for event in found}) == len({str(sorted(row.items())) for row in rows})
    for event, row in zip(found, rows, strict=True):
        near = event["dst_endpoint" if row["direction"] else "src_endpoint"]
        assert near["uid"] == made.endpoints[row["vm"]].path
        assert near["interface_uid"] == near["uid"] + "/nic0"
        assert event["unmapped"]["labels"] == made.endpoints[row["vm"]].labels
        assert event["firewall_rule"]["name"] in {rule.text for rule in RULES}


def test_one_event_in_full() -> None:
    (event,) = told(a_row(peer=2, rule=9, abroad=1))
    del event["metadata"]["uid"]
    assert event == {
        "activity_id": 6, "activity_name": "Traffic", "category_uid": 4, "category_name": "Network Activity", "class_uid": 4001, "class_name": "Network Activity",
        "type_uid": 400106, "type_name": "Network Activity: Traffic", "severity_id": 1, "severity": "Informational",
        "time": 1_795_560_000_000, "start_time": 1_795_559_995_000, "end_time": 1_795_559_999_990,
        "src_endpoint": {
            "ip": "10.0.0.1", "port": 40000, "name": "web-1", "uid": "/acme/shop:web-1", "type_id": 6, "type": "Virtual", "interface_uid": "/acme/shop:web-1/nic0", "zone": "/acme:front",
        },
        "dst_endpoint": {"ip": "192.0.2.9", "port": 443, "name": "dns", "uid": "/:dns", "type_id": 6, "type": "Virtual"},
        "connection_info": {
            "direction_id": 3, "direction": "Lateral", "boundary_id": 2, "boundary": "Internal", "protocol_num": 6, "protocol_name": "tcp", "protocol_ver_id": 4, "protocol_ver": "IPv4",
            "tcp_flags": 0x1A,
        },
        "traffic": {"bytes": 9300, "bytes_in": 9000, "bytes_out": 300, "packets": 5, "packets_in": 2, "packets_out": 3},
        "device": {"hostname": "host-1", "type_id": 9, "type": "Firewall"},
        "metadata": {"version": "1.5.0", "product": {"name": "Serai", "vendor_name": "Serai", "version": "1.2.3"}, "profiles": ["host", "security_control"], "tenant_uid": "acme"},
        "action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed", "firewall_rule": {"uid": "0x9", "name": "/acme/shop:web/egress/db"},
        "unmapped": {
            "tenant": "acme", "network": "/acme:front", "vnic": "0x7", "own_identity": "0x8000000000000000", "identity": "0x5", "told_by": "source", "verdict": "accepted",
            "staged": "accepted", "reason": "none", "abroad": True, "connections": 0, "rtt_us": 0, "syn_repeats": 0, "unanswered": False, "refused": False, "flags_out": 0x1A, "flags_in": 0x12,
            "scope": "/acme/shop", "labels": {"tier": "web"}, "peer_tenant": "", "peer_scope": "/", "peer_labels": {},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "activity"),
    [
        ({}, Activity.TRAFFIC),
        ({"event": 1}, Activity.OPEN),
        ({"event": 2}, Activity.CLOSE),
        ({"event": 3}, Activity.CLOSE),
        ({"event": 2, "flags_in": 0x14}, Activity.RESET),
        ({"event": 2, "flags_in": 0x14, "protocol": 17}, Activity.CLOSE),
        ({"event": 1, "unanswered": 1}, Activity.FAIL),
        ({"event": 3, "refused": 1, "flags_in": 0x14}, Activity.REFUSE),
        ({"verdict": 1}, Activity.REFUSE),
        ({"verdict": 2, "event": 1}, Activity.OPEN),
    ],
)
def test_activities(given: dict[str, int], activity: Activity) -> None:
    (event,) = told(a_row(**given))
    assert event["activity_id"] == activity
    assert event["type_uid"] == CLASS * 100 + activity


@pytest.mark.parametrize(
    ("given", "action", "severity"),
    [
        ({"verdict": 0}, "Allowed", 1),
        ({"verdict": 1, "reason": Reason.DENIED}, "Denied", 2),
        ({"verdict": 2, "reason": Reason.DENIED}, "Observed", 2),
        ({"verdict": 1, "reason": Reason.FOREIGN_IP}, "Denied", 3),
        ({"verdict": 1, "reason": 250}, "Denied", 2),
    ],
)
def test_actions_and_severities(given: dict[str, int], action: str, severity: int) -> None:
    (event,) = told(a_row(**given))
    assert (event["action"], event["severity_id"]) == (action, severity)


def test_who_opened_it_is_the_source() -> None:
    (event,) = told(a_row(direction=1, local_port=443, remote_port=40000))
    assert event["src_endpoint"] == {"ip": "192.0.2.9", "port": 40000}
    assert event["dst_endpoint"]["name"] == "web-1"
    assert event["connection_info"]["direction"] == "Inbound"
    assert (event["traffic"]["bytes_out"], event["traffic"]["bytes_in"]) == (9000, 300)  # out is from the source
    assert told(a_row())[0]["connection_info"]["direction"] == "Outbound"


def test_a_drop_has_the_port_that_was_judged() -> None:
    (event,) = told(a_row(verdict=1, local_port=0, remote_port=0))
    assert event["dst_endpoint"]["port"] == 443
    assert "port" not in event["src_endpoint"]


def test_messages_and_frames_that_are_not_ip() -> None:
    sixth = {end: ip_address(text).packed for end, text in (("local", "2001:db8::1"), ("remote", "2001:db8::2"))}
    nothing = {"local_port": 0, "remote_port": 0}
    ping, frame = told(
        a_row(**sixth, **nothing, protocol=58, service=128 << 8),
        a_row(
            local=bytes(16), remote=bytes(16), protocol=0, service=0, vm=0, tenant="", network="", verdict=1, **nothing
        ),
    )
    assert (ping["unmapped"]["icmp_type"], ping["unmapped"]["icmp_code"]) == (128, 0)
    assert ping["connection_info"]["protocol_name"] == "ipv6-icmp"
    assert ping["src_endpoint"]["ip"] == "2001:db8::1"
    assert "port" not in ping["dst_endpoint"]
    assert frame["src_endpoint"] == {"interface_uid": "/acme/shop:web-1/nic0"}
    assert frame["dst_endpoint"] == {"name": "unknown"}
    assert "protocol_num" not in frame["connection_info"]


def test_one_record_has_one_name() -> None:
    first, second, third = told(a_row(), a_row(), a_row(host="host-2"))
    assert first["metadata"]["uid"] == second["metadata"]["uid"] != third["metadata"]["uid"]


def test_no_records_are_no_lines() -> None:
    assert lines(pa.Table.from_pylist([], SCHEMA), NAMES, version="1") == b""
