"""The compiled form of policy: tables of numbers that one host's gates look things up in.

Every number is derived from content (see ``content_id``), so equal things are equal on every host and a
change renumbers nobody. The record layouts are those of the kernel maps of the same name; addresses are
16 bytes in the form of ``serai.model.address``, everything else is little-endian.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from serai.model.address import Address
from serai.model.inventory import Mac, PortSecurity, VnicId
from serai.model.tenancy import Mode

Records = NDArray[np.void]
"""A one-dimensional structured array; the dtype is named where it is used."""

_NUMBERS = 1 << 64

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

TABLES: Mapping[str, np.dtype[Any]] = {
    "endpoints": ENDPOINT,
    "prefixes": PREFIX,
    "lists": LIST,
    "pages": PAGE,
}
"""The tables of a ruleset and how a record of each is laid out."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardedVnic:
    """What one gate is told about its vNIC."""

    id: VnicId
    path: str
    """The VM's path and the vNIC's name, e.g. ``/acme/shop:web/eth0``."""
    mac: Mac
    addresses: tuple[Address, ...]
    """All that it holds (see ``Vnic.held``)."""
    security: PortSecurity
    mode: Mode
    view: int
    """Which endpoints and prefixes it sees: one per routing domain and set of policies in force."""
    members: int
    """Names who is who in the view at the moment."""
    egress: int
    """The ruleset for connections that it opens."""
    ingress: int
    """The ruleset for connections that are opened to it."""

    @property
    def judged_by(self) -> int:
        """What its flows are judged by; a flow that carries another number is judged again."""
        digest = hashlib.blake2b(digest_size=8)
        for number in (self.view, self.members, self.egress, self.ingress):
            digest.update(number.to_bytes(8, "little"))
        digest.update(self.mode.encode())
        return int.from_bytes(digest.digest(), "little") or 1


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A HostRuleset as it is written down."""

    version: int
    host: str
    vnics: list[tuple[int, str, str, list[int], str, int, int, int, int]]
    rules: dict[str, int]
    tables: dict[str, bytes]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HostRuleset:
    """Everything one host's gates need, and nothing that its VMs cannot meet."""

    VERSION: ClassVar[int] = 1

    host: str
    vnics: tuple[GuardedVnic, ...]
    """In order of id."""
    rules: Mapping[str, int]
    """The text of every rule that can decide here, and its number."""
    tables: Mapping[str, Records]
    """The four tables by name (see ``TABLES``), each sorted by its bytes, no record twice."""

    def encode(self) -> bytes:
        """Write it down; equal rulesets give equal bytes on every machine."""
        return msgspec.msgpack.encode(
            _Frozen(
                version=self.VERSION,
                host=self.host,
                vnics=[
                    (
                        v.id, v.path, str(v.mac), [int(a) for a in v.addresses],
                        v.mode.value, v.view, v.members, v.egress, v.ingress,
                    )
                    for v in self.vnics
                ],
                rules=dict(sorted(self.rules.items())),
                tables={name: self.tables[name].tobytes() for name in TABLES},
            )
        )  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote.

        Raises:
            ValueError: the bytes are not a ruleset of this version.
        """
        try:
            frozen = msgspec.msgpack.decode(raw, type=_Frozen)
            if frozen.version == cls.VERSION:
                return cls._thaw(frozen)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"these bytes are not a ruleset: {error}") from error
        raise ValueError(f"this ruleset is of version {frozen.version}, and version {cls.VERSION} is understood")

    @classmethod
    def _thaw(cls, frozen: _Frozen) -> Self:
        numbers = [n for vnic in frozen.vnics for n in (vnic[0], *vnic[5:])]
        if frozen.tables.keys() != TABLES.keys() or not all(0 <= n < _NUMBERS for n in numbers):
            raise ValueError("tables are missing, or a number is out of range")
        return cls(
            host=frozen.host,
            vnics=tuple(
                GuardedVnic(
                    id=VnicId(number), path=path, mac=Mac(mac), addresses=tuple(map(IPv4Address, addresses)),
                    mode=Mode(mode), view=view, members=members, egress=egress, ingress=ingress,
                )
                for number, path, mac, addresses, mode, view, members, egress, ingress in frozen.vnics
            ),
            rules=frozen.rules,
            tables={name: np.frombuffer(frozen.tables[name], dtype) for name, dtype in TABLES.items()},
        )  # fmt: skip

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of what ``encode`` writes, in hexadecimal; worked out once, because it is asked for often."""
        return hashlib.sha256(self.encode()).hexdigest()

    def rule_texts(self) -> dict[int, str]:
        """The rules by their number."""
        return {number: text for text, number in self.rules.items()}


def table(name: str, records: set[bytes]) -> Records:
    """Make the canonical table of ``records`` (each as long as the table's layout)."""
    return np.frombuffer(b"".join(sorted(records)), TABLES[name])


def rows(records: Records) -> Iterator[bytes]:
    """Go through a table's records as bytes."""
    raw, size = records.tobytes(), records.dtype.itemsize
    return (raw[at : at + size] for at in range(0, len(raw), size))
