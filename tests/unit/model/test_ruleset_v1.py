"""Rulesets that version 1 wrote, byte for byte: an agent that was updated starts from one."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.model import records, ruleset_v1
from serai.model.inventory import PortSecurity
from serai.model.policy import Direction
from serai.model.ruleset import ENDPOINT, PREFIX, TABLES, HostRuleset
from serai.model.tenancy import Mode
from serai.policy.lookup import Lookup

RAW = bytes.fromhex((Path(__file__).parent / "ruleset-v1.hex").read_text())
"""Compiled and written by the last version 1, for two VMs: web (10.0.0.11, 10.0.0.111) and db (10.0.0.12).

Tenant policy /acme/shop:shop accepts from VMs with role web on tcp/5432, from 0.0.0.0/0 on tcp/80, and from
192.0.2.128/25 and 192.0.2.129/32 on udp/53.
"""
RULESET = HostRuleset.decode(RAW)
IN = Direction.INGRESS


def test_vnics_are_as_they_were() -> None:
    db, web = RULESET.vnics
    assert (db.path, web.path) == ("/acme/shop:db/eth0", "/acme/shop:web/eth0")
    assert (db.mode, web.mode) == (Mode.OBSERVE, Mode.ENFORCE)
    assert web.addresses == (IPv4Address("10.0.0.11"), IPv4Address("10.0.0.111"))
    assert db.security == web.security == PortSecurity()
    # What version 1 said: flows that were judged by it live on.
    assert (db.judged_by, web.judged_by) == (0x592DB83A20ED1A84, 0x35599C945E5705DD)


@pytest.mark.parametrize(
    ("remote", "protocol", "port", "rule"),
    [
        ("10.0.0.111", 6, 5432, "/acme/shop:shop/ingress/from-web"),
        ("10.0.0.99", 6, 5432, "unmatched/ingress"),
        ("10.0.0.99", 6, 80, "/acme/shop:shop/ingress/from-all"),
        ("192.0.2.129", 17, 53, "/acme/shop:shop/ingress/from-some"),
        ("192.0.2.200", 17, 53, "/acme/shop:shop/ingress/from-some"),
        ("192.0.2.127", 17, 53, "unmatched/ingress"),
    ],
)
def test_verdicts_are_as_they_were(remote: str, protocol: int, port: int, rule: str) -> None:
    db, _ = RULESET.vnics
    found = Lookup(RULESET).decide(db, IN, IPv4Address(remote), protocol, port)
    assert found
    assert found.rule == rule


def test_tables_are_as_if_written_now() -> None:
    old = msgspec.msgpack.decode(RAW)
    assert old["version"] == 1
    assert RULESET.rules == old["rules"]
    for name in ("lists", "pages"):
        assert RULESET.tables[name].tobytes() == old["tables"][name]
    for made in RULESET.tables.values():
        found = list(records.rows(made))
        assert found == sorted(set(found))
    assert HostRuleset.decode(RULESET.encode()).encode() == RULESET.encode()
    assert msgspec.msgpack.decode(RULESET.encode())["version"] == 3


numbers = st.integers(0, 2**64 - 1)
addresses = st.integers(0, 2**32 - 1).map(IPv4Address)


@given(st.lists(st.tuples(numbers, addresses, numbers)))
def test_endpoints(some: list[tuple[int, IPv4Address, int]]) -> None:
    old = b"".join(struct.pack("<Q4sIQ", view, address.packed, 0, identity) for view, address, identity in some)
    new = ruleset_v1.endpoints(np.frombuffer(old, ruleset_v1.ENDPOINT_V1))
    assert new.dtype == ENDPOINT
    assert list(records.rows(new)) == [records.endpoint(*each) for each in some]


@given(st.lists(st.tuples(numbers, addresses, st.integers(0, 32), numbers)))
def test_prefixes(some: list[tuple[int, IPv4Address, int, int]]) -> None:
    networks = [IPv4Network((address, length), strict=False) for _, address, length, _ in some]
    old = b"".join(
        struct.pack("<IQ4sQ", 64 + network.prefixlen, view, network.network_address.packed, identity)
        for network, (view, _, _, identity) in zip(networks, some, strict=True)
    )
    new = ruleset_v1.prefixes(np.frombuffer(old, ruleset_v1.PREFIX_V1))
    assert new.dtype == PREFIX
    assert list(records.rows(new)) == [
        records.prefix(view, network, identity) for network, (view, _, _, identity) in zip(networks, some, strict=True)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"vnics": [[1, "p", "52:54:00:00:00:01", [2**32], "enforce", 1, 1, 1, 1]]},
        {"vnics": [[1, "p", "52:54:00:00:00:01", [-1], "enforce", 1, 1, 1, 1]]},
        {"vnics": [[1, "p", "52:54:00:00:00:01", [], "enforce", 1, 1, 1]]},
        {"vnics": [[1, "p", "52:54:00:00:00:01", [], "enforce", 1, 1, 1, -1]]},
        {"tables": {**dict.fromkeys(TABLES, b""), "endpoints": bytes(25)}},
        {"tables": {"endpoints": b""}},
        {"version": 2}, {"version": 0}, {"version": 3}, {"version": 4}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_version_1_never_wrote_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ruleset"):
        HostRuleset.decode(msgspec.msgpack.encode({**msgspec.msgpack.decode(RAW), **changes}))
