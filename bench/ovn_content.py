"""The data center that both compilers get, as OVN's northbound database: tenants with the same addresses each.

Every tenant has one switch and four VMs with ten vNICs; what a VM is for is the role of all its vNICs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROLES: Final = ("web", "app", "db", "mgmt")
"""Of a tenant's VMs, in order."""

VNICS: Final = 10
"""Of a VM."""

TENANT_PORTS: Final = len(ROLES) * VNICS

BAD: Final = tuple(f"198.18.{n}.0/24" for n in range(64))
"""Nobody may talk with these."""

INFRA: Final = tuple(f"172.31.0.{n}" for n in range(10, 18))
"""The provider's name servers and monitors."""

FIRST: Final = 1
"""What the configuration is numbered as at first (``nb_cfg``)."""

Row = Mapping[str, object]
Records = dict[str, dict[str, Row]]
"""Rows by table and by UUID: what a record of the database's file adds."""

_PROVIDER: Final = "pg_global"


class Rule(NamedTuple):
    """An access control list's entry, as OVN has them."""

    name: str
    priority: int
    direction: str
    group: str
    """To whose ports it is applied."""
    match: str
    """Behind the group's ports; ``{t}`` is what the tenant's names begin with."""
    action: str


RULES: Final = (
    Rule("T1", 20000, "to-lport", "all", "ip4.src == ${t}_all_ip4 && icmp4", "allow-related"),
    Rule("T2", 20000, "to-lport", "all", "ip4.src == ${t}_mgmt_ip4 && tcp.dst == 22", "allow-related"),
    Rule("T3", 20000, "from-lport", "all", "ip4.dst == ${t}_all_ip4", "allow-related"),
    Rule("A1", 10000, "to-lport", "web", "ip4.src == ${t}_corp && tcp.dst == {{80, 443}}", "allow-related"),
    Rule("A2", 10000, "to-lport", "app", "ip4.src == ${t}_web_ip4 && tcp.dst == 8080", "allow-related"),
    Rule("A3", 10000, "to-lport", "db", "ip4.src == ${t}_app_ip4 && tcp.dst == 5432", "allow-related"),
    Rule("A4", 10000, "to-lport", "db", "ip4.src == ${t}_db_ip4 && tcp.dst == 5433", "allow-related"),
    Rule("A5", 10000, "from-lport", "app", "ip4.dst == ${t}_corp && tcp.dst == 443", "allow-related"),
    Rule("D1", 1000, "to-lport", "all", "ip", "drop"),
    Rule("D2", 1000, "from-lport", "all", "ip", "drop"),
)
"""Of every tenant."""

PROVIDER_RULES: Final = (
    Rule("G1", 30000, "to-lport", "", "ip4.src == $as_bad", "drop"),
    Rule("G2", 30000, "from-lport", "", "ip4.dst == $as_bad", "drop"),
    Rule("G3", 29000, "from-lport", "", "ip4.dst == $as_infra && udp.dst == 53", "allow-related"),
    Rule("G4", 29000, "to-lport", "", "ip4.src == $as_infra && tcp.dst == 9100", "allow-related"),
)
"""Of all ports."""


def hosts(ports: int) -> int:
    """How many hosts there are."""
    return max(4, ports // 3200)


def host(ports: int, tenant: int, vm: int) -> int:
    """The number of the host on which a VM runs."""
    count = hosts(ports)
    return (tenant + vm * (count // 4)) % count


def corp(tenant: int) -> list[str]:
    """The prefixes of the tenant's own offices."""
    return [f"172.{16 + (tenant >> 8) % 8}.{tenant & 255}.0/24", f"192.168.{tenant & 255}.0/24"]


def port(tenant: int, number: int) -> str:
    """What a vNIC's port is called; the tenant's ports are numbered VM by VM."""
    return f"t{tenant}p{number}"


def match(rule: Rule, tenant: int) -> str:
    """What OVN compares packets with."""
    owner = f"pg_t{tenant}"
    side = "outport" if rule.direction == "to-lport" else "inport"
    return f"{side} == @{owner}_{rule.group} && {rule.match.format(t=owner)}"


def row_id(*names: object) -> str:
    """The UUID of a row: always the same, and as evenly spread as random ones, which OVN's tables count on."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(map(str, names))))


def write(path: Path, schema: bytes, added: Iterable[Records]) -> None:
    """Write a database's file, so that a server only has to load it."""
    with path.open("wb") as file:
        for record in itertools.chain([json.loads(schema)], added):
            text = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
            file.write(f"OVSDB JSON {len(text)} {digest}\n".encode() + text)


def records(ports: int) -> Iterator[Records]:
    """All rows, tenant by tenant: a server drops what its own record does not tie to a switch or a group."""
    tenants = range(ports // TENANT_PORTS)
    yield from map(_tenant, tenants)
    yield _provider(tenants)


def _tenant(tenant: int) -> Records:
    ids = [row_id("port", tenant, number) for number in range(TENANT_PORTS)]
    members = {"all": ids} | {role: ids[VNICS * vm : VNICS * (vm + 1)] for vm, role in enumerate(ROLES)}
    rules = {rule: row_id("rule", tenant, rule.name) for rule in RULES}
    owner = f"pg_t{tenant}"
    groups: dict[str, Row] = {
        row_id("group", tenant, group): {
            "name": f"{owner}_{group}",
            "ports": _references(ports),
            "acls": _references([found for rule, found in rules.items() if rule.group == group]),
        }
        for group, ports in members.items()
    }
    return {
        "Logical_Switch": {row_id("switch", tenant): {"name": f"ls_t{tenant}", "ports": _references(ids)}},
        "Logical_Switch_Port": {found: _port(tenant, number) for number, found in enumerate(ids)},
        "Port_Group": groups,
        "Address_Set": {row_id("corp", tenant): {"name": f"{owner}_corp", "addresses": ["set", corp(tenant)]}},
        "ACL": {found: _rule(rule, match(rule, tenant)) for rule, found in rules.items()},
    }


def _provider(tenants: Sequence[int]) -> Records:
    ports = [row_id("port", tenant, number) for tenant in tenants for number in range(TENANT_PORTS)]
    rules = {row_id("rule", rule.name): rule for rule in PROVIDER_RULES}
    sides = {"to-lport": "outport", "from-lport": "inport"}
    return {
        "Address_Set": {
            row_id("bad"): {"name": "as_bad", "addresses": ["set", BAD]},
            row_id("infra"): {"name": "as_infra", "addresses": ["set", INFRA]},
        },
        "ACL": {
            found: _rule(rule, f"{sides[rule.direction]} == @{_PROVIDER} && {rule.match}")
            for found, rule in rules.items()
        },
        "Port_Group": {
            row_id("group"): {"name": _PROVIDER, "ports": _references(ports), "acls": _references(list(rules))}
        },
        "NB_Global": {row_id("global"): {"nb_cfg": FIRST}},
    }


def _port(tenant: int, number: int) -> Row:
    mac = (0x02 << 40) + tenant * TENANT_PORTS + number
    addresses = f"{':'.join(f'{byte:02x}' for byte in mac.to_bytes(6, 'big'))} 10.0.0.{10 + number}"
    return {"name": port(tenant, number), "addresses": addresses, "port_security": addresses}


def _rule(rule: Rule, compared: str) -> Row:
    return {"priority": rule.priority, "direction": rule.direction, "match": compared, "action": rule.action}


def _references(ids: Sequence[str]) -> list[Any]:
    return ["set", [["uuid", found] for found in ids]]
