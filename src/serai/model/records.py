"""The tables of a ruleset, record by record, as they stand in the kernel maps of the same name.

Addresses are 16 bytes in the form of ``serai.model.address``, everything else is little-endian. Keys are the leading
fields of every record.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serai.model.address import Address, Prefix, pack, packed_length

Records = NDArray[np.void]
"""A one-dimensional structured array; the dtype is named where it is used."""

INTERVALS = 8
"""Port intervals on one page of a decision list."""


class Step(enum.IntEnum):
    """What an interval of a decision list says."""

    MISSING = 0
    """Nothing is written here: the gate is closed."""
    ACCEPT = 1
    DENY = 2
    DESCEND = 3
    """The list goes on at the page that ``rule`` names."""


ENDPOINT = np.dtype([("view", "<u8"), ("address", "u1", (16,)), ("identity", "<u8")])
"""Who holds an address, as seen by the vNICs of one view."""

PREFIX = np.dtype([("length", "<u4"), ("view", "<u4", (2,)), ("address", "u1", (16,)), ("identity", "<u8")])
"""The identity of addresses that no VM holds, by longest prefix. ``length`` counts the 64 bits of view too.

An IPv6 prefix short enough to cover the mapped addresses must not cover IPv4: a record of its own for
``address.MAPPED`` says otherwise.
"""

LIST = np.dtype([("ruleset", "<u8"), ("identity", "<u8"), ("list", "<u8")])
"""Which decision list a ruleset applies to an identity; identity 0 is everybody not listed."""

DECISION = np.dtype(
    [("rule", "<u8"), ("staged_rule", "<u8"), ("step", "u1"), ("staged_step", "u1"), ("pad", "u1", (6,))]
)
"""The verdict in force and the verdict with staged policies, each with the rule that gives it."""

PAGE = np.dtype(
    [
        ("list", "<u8"),
        ("protocol", "<u4"),
        ("pad", "<u4"),
        ("count", "<u2"),
        ("first", "<u2", (INTERVALS - 1,)),
        ("decisions", DECISION, (INTERVALS,)),
    ]
)
"""Port intervals of one protocol: interval i starts at ``first[i - 1]`` (65535 where unused), interval 0 at port 0."""

JUDGED = np.dtype(
    [("kind", "<u8"), ("view", "<u8"), ("members", "<u8"), ("egress", "<u8"), ("ingress", "<u8"), ("book", "u1", (32,))]
)
"""By what the vNICs of one kind are judged: not a table of the gate, which has these numbers in each vNIC's own record.

``book`` is the digest of the part that says what the two rulesets are; all zero where it is said otherwise.
"""

TABLES: Mapping[str, np.dtype[Any]] = {
    "endpoints": ENDPOINT,
    "prefixes": PREFIX,
    "lists": LIST,
    "pages": PAGE,
}
"""The tables of a ruleset and how a record of each is laid out."""

KEYS: Mapping[str, int] = {"endpoints": 24, "prefixes": 28, "lists": 16, "pages": 16}
"""How many leading bytes of each table's records are the key."""

CAPACITY: Mapping[str, int] = {"endpoints": 1 << 20, "prefixes": 1 << 18, "lists": 1 << 20, "pages": 1 << 19}
"""How many records of each table one host has room for."""

VNICS = 4095
"""How many vNICs one host has room for."""

_VIEW_BITS = 64


def endpoint(view: int, address: Address, identity: int) -> bytes:
    """Write a record of ``ENDPOINT``."""
    return _number(view) + pack(address) + _number(identity)


def prefix(view: int, addresses: Prefix, identity: int) -> bytes:
    """Write a record of ``PREFIX``."""
    length = (_VIEW_BITS + packed_length(addresses)).to_bytes(4, "little")
    return length + _number(view) + pack(addresses.network_address) + _number(identity)


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little")


def table(name: str, records: set[bytes]) -> Records:
    """Make the canonical table of ``records`` (each as long as the table's layout)."""
    return np.frombuffer(b"".join(sorted(records)), TABLES[name])


def rows(records: Records) -> Iterator[bytes]:
    """Go through a table's records as bytes."""
    raw, size = records.tobytes(), records.dtype.itemsize
    return (raw[at : at + size] for at in range(0, len(raw), size))
