from __future__ import annotations

import collections
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import ovn_content
from bench.ovn_content import PROVIDER_RULES, RULES, TENANT_PORTS

PORTS = 3 * TENANT_PORTS


def tables(ports: int = PORTS) -> dict[str, dict[str, Any]]:
    """All rows by table and UUID; none is added twice."""
    found: dict[str, dict[str, Any]] = collections.defaultdict(dict)
    for record in ovn_content.records(ports):
        for table, rows in record.items():
            assert not found[table].keys() & rows.keys()
            found[table] |= rows
    return found


def referenced(row: Any, column: str) -> list[str]:
    kind, members = row[column]
    assert kind == "set"
    return [name for what, name in members if what == "uuid"]


def named(rows: dict[str, Any], name: str) -> Any:
    (found,) = (row for row in rows.values() if row["name"] == name)
    return found


def test_as_many_rows_as_tenants_make() -> None:
    assert {table: len(rows) for table, rows in tables().items()} == {
        "Logical_Switch": 3,
        "Logical_Switch_Port": 3 * 40,
        "Port_Group": 3 * 5 + 1,
        "Address_Set": 3 + 2,
        "ACL": 3 * 10 + 4,
        "NB_Global": 1,
    }


def test_every_reference_leads_to_a_row_that_is_there_by_then() -> None:
    there: dict[str, set[str]] = collections.defaultdict(set)
    for record in ovn_content.records(PORTS):
        for table, rows in record.items():
            there[table] |= rows.keys()
        switched = {port for row in record.get("Logical_Switch", {}).values() for port in referenced(row, "ports")}
        assert switched == record.get("Logical_Switch_Port", {}).keys(), "a server drops ports of no switch"
        grouped = [acl for row in record["Port_Group"].values() for acl in referenced(row, "acls")]
        assert sorted(grouped) == sorted(record["ACL"]), "each rule is that of one group"
        for row in record["Port_Group"].values():
            assert there["Logical_Switch_Port"].issuperset(referenced(row, "ports"))


def test_what_a_rule_names_exists() -> None:
    found = tables()
    groups = {row["name"] for row in found["Port_Group"].values()}
    # OVN itself makes a set of the addresses of each group.
    sets = {row["name"] for row in found["Address_Set"].values()} | {f"{group}_ip4" for group in groups}
    for row in found["ACL"].values():
        side, group = re.match(r"(inport|outport) == @(\w+) && ", row["match"]).groups()  # type: ignore[union-attr]
        assert side == {"to-lport": "outport", "from-lport": "inport"}[row["direction"]]
        assert group in groups
        assert "@" not in row["match"].split("&&", 1)[1]
        assert set(re.findall(r"\$(\w+)", row["match"])) <= sets


def test_the_rules_of_a_tenant_stay_within_it() -> None:
    rows = tables()["ACL"]
    for tenant in range(3):
        own = [rows[ovn_content.row_id("rule", tenant, rule.name)] for rule in RULES]
        assert {word for row in own for word in re.findall(r"pg_t\d+", row["match"])} == {f"pg_t{tenant}"}
    assert not any("pg_t" in rows[ovn_content.row_id("rule", rule.name)]["match"] for rule in PROVIDER_RULES)


def test_rules_read_as_ovn_writes_them() -> None:
    texts = {rule.name: ovn_content.match(rule, 7) for rule in RULES}
    assert texts["A1"] == "outport == @pg_t7_web && ip4.src == $pg_t7_corp && tcp.dst == {80, 443}"
    assert texts["T3"] == "inport == @pg_t7_all && ip4.dst == $pg_t7_all_ip4"
    assert texts["D2"] == "inport == @pg_t7_all && ip"


def test_eight_rules_allow_and_two_deny_by_default() -> None:
    assert collections.Counter(rule.action for rule in RULES) == {"allow-related": 8, "drop": 2}
    last = min(rule.priority for rule in RULES if rule.action != "drop")
    assert all(rule.priority < last for rule in RULES if rule.action == "drop")
    assert min(rule.priority for rule in PROVIDER_RULES) > max(rule.priority for rule in RULES)


def test_a_port_has_its_vms_role() -> None:
    found = tables()
    names = {port: row["name"] for port, row in found["Logical_Switch_Port"].items()}
    for vm, role in enumerate(["web", "app", "db", "mgmt"]):
        members = referenced(named(found["Port_Group"], f"pg_t2_{role}"), "ports")
        assert [names[port] for port in members] == [ovn_content.port(2, 10 * vm + nic) for nic in range(10)]
    assert len(referenced(named(found["Port_Group"], "pg_t2_all"), "ports")) == 40
    assert len(referenced(named(found["Port_Group"], "pg_global"), "ports")) == PORTS


def test_every_tenant_has_the_same_addresses_and_other_macs() -> None:
    ports = tables()["Logical_Switch_Port"].values()
    macs, addresses = zip(*(row["addresses"].split() for row in ports), strict=True)
    assert len(set(macs)) == PORTS
    assert collections.Counter(addresses) == {f"10.0.0.{10 + number}": 3 for number in range(40)}
    assert all(row["port_security"] == row["addresses"] for row in ports)


@pytest.mark.parametrize(("ports", "hosts"), [(4_000, 4), (16_000, 5), (64_000, 20)])
def test_hosts_carry_alike(ports: int, hosts: int) -> None:
    assert ovn_content.hosts(ports) == hosts
    carried = collections.Counter(
        ovn_content.host(ports, tenant, vm) for tenant in range(ports // TENANT_PORTS) for vm in range(4)
    )
    assert set(carried) == set(range(hosts))
    assert max(carried.values()) - min(carried.values()) <= 1
    if ports == 64_000:
        assert len({ovn_content.host(ports, 9, vm) for vm in range(4)}) == 4, "a tenant's VMs are on different hosts"


def test_the_offices_of_tenants_differ() -> None:
    assert ovn_content.corp(300) == ["172.17.44.0/24", "192.168.44.0/24"]
    assert len({tuple(ovn_content.corp(tenant)) for tenant in range(1600)}) == 1600


def test_ids_are_spread_like_random_ones() -> None:
    # The servers' hash of a UUID is its first 32 bits: all of a tenant's alike would make long chains.
    ids = [found for rows in tables().values() for found in rows]
    assert len({found[:8] for found in ids}) == len(ids)


def read(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while header := file.readline():
            *magic, length, digest = header.split()
            assert magic == [b"OVSDB", b"JSON"]
            text = file.read(int(length))
            assert hashlib.sha1(text, usedforsecurity=False).hexdigest().encode() == digest
            assert text.endswith(b"\n")
            yield json.loads(text)


def test_the_file_is_a_schema_and_records_and_always_the_same(tmp_path: Path) -> None:
    schema = b'{"name": "OVN_Northbound"}'
    for name in ("one", "other"):
        ovn_content.write(tmp_path / name, schema, ovn_content.records(PORTS))
    first, *others = read(tmp_path / "one")
    assert first == {"name": "OVN_Northbound"}
    assert others == json.loads(json.dumps(list(ovn_content.records(PORTS))))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
