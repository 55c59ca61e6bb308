"""Rulesets of version 1, which knew IPv4 only: what an agent may still have on disk, and in the kernel's pinned maps."""

from __future__ import annotations

import ipaddress

import msgspec
import numpy as np

from serai.model.address import IPV4_AT, MAPPED, pack
from serai.model.records import ENDPOINT, PREFIX, Records
from serai.model.ruleset_form import FrozenSecurity
from serai.model.ruleset_v2 import FrozenRulesetV2, FrozenVnicV2

ENDPOINT_V1 = np.dtype([("view", "<u8"), ("address", ">u4"), ("pad", "<u4"), ("identity", "<u8")])
PREFIX_V1 = np.dtype([("length", "<u4"), ("view", "<u4", (2,)), ("address", ">u4"), ("identity", "<u8")])
"""Its ``length`` counts the 64 bits of view and up to 32 of address."""


class FrozenRulesetV1(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ruleset as version 1 wrote it down."""

    version: int
    host: str
    vnics: list[tuple[int, str, str, list[int], str, int, int, int, int]]
    """Number, path, MAC, addresses, mode, view, members, and the rulesets of egress and ingress."""
    rules: dict[str, int]
    tables: dict[str, bytes]


def endpoints(records: Records) -> Records:
    """Turn records of ``ENDPOINT_V1`` into records of ``ENDPOINT``, in the same order."""
    converted = np.zeros(len(records), ENDPOINT)
    for field in ("view", "identity"):
        converted[field] = records[field]
    converted["address"] = mapped(records["address"])
    return converted


def prefixes(records: Records) -> Records:
    """Turn records of ``PREFIX_V1`` into records of ``PREFIX``, in the same order."""
    converted = np.zeros(len(records), PREFIX)
    for field in ("view", "identity"):
        converted[field] = records[field]
    converted["length"] = records["length"] + IPV4_AT
    converted["address"] = mapped(records["address"])
    return converted


def mapped(addresses: Records) -> Records:
    """Addresses of four bytes in network byte order, 16 bytes each."""
    wide = np.tile(np.frombuffer(MAPPED.network_address.packed, "u1"), (len(addresses), 1))
    wide[:, IPV4_AT // 8 :] = np.ascontiguousarray(addresses).view("u1").reshape(-1, 4)
    return wide


def upgrade(old: FrozenRulesetV1) -> FrozenRulesetV2:
    """Write an old ruleset in the form of version 2. Every number in it stays: it judges as it did, and so do its flows.

    Raises:
        ValueError: an address or a table is not what version 1 wrote.
    """
    tables = dict(old.tables)
    for name, layout, convert in (("endpoints", ENDPOINT_V1, endpoints), ("prefixes", PREFIX_V1, prefixes)):
        if name in tables:
            tables[name] = convert(np.frombuffer(tables[name], layout)).tobytes()
    return FrozenRulesetV2(
        version=2,
        host=old.host,
        vnics=[
            FrozenVnicV2(
                number, path, mac, [pack(ipaddress.IPv4Address(address)) for address in addresses], FrozenSecurity(),
                mode, view, members, egress, ingress,
            )
            for number, path, mac, addresses, mode, view, members, egress, ingress in old.vnics
        ],
        rules=old.rules,
        tables=tables,
    )  # fmt: skip
