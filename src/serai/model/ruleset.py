"""The compiled form of policy: tables of numbers that one host's gates look things up in.

Every number is derived from content (see ``content_id``), so equal things are equal on every host and a
change renumbers nobody. The records of the tables stand in ``serai.model.records``, the bytes on disk and on the wire in
``serai.model.ruleset_form``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import ClassVar, Self

import msgspec
import numpy as np

from serai.model.address import Address, pack, unpack
from serai.model.inventory import ORDINARY, Mac, PortSecurity, VnicId
from serai.model.records import (
    DECISION,
    ENDPOINT,
    INTERVALS,
    LIST,
    PAGE,
    PREFIX,
    TABLES,
    Records,
    Step,
    rows,
    table,
)
from serai.model.ruleset_form import (
    VERSION,
    FrozenRuleset,
    FrozenVnic,
    Version,
    freeze_security,
    thaw_security,
)
from serai.model.ruleset_v1 import FrozenRulesetV1, upgrade
from serai.model.tenancy import Mode

__all__ = [
    "DECISION", "ENDPOINT", "INTERVALS", "LIST", "PAGE", "PREFIX", "TABLES", "GuardedVnic", "HostRuleset", "Records", "Step",
    "rows", "table",
]  # fmt: skip

_NUMBERS = 1 << 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardedVnic:
    """What one gate is told about its vNIC."""

    id: VnicId
    path: str
    """The VM's path and the vNIC's name, e.g. ``/acme/shop:web/eth0``."""
    mac: Mac
    addresses: tuple[Address, ...]
    """All that it holds (see ``Vnic.held``)."""
    security: PortSecurity = ORDINARY
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


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HostRuleset:
    """Everything one host's gates need, and nothing that its VMs cannot meet."""

    VERSION: ClassVar[int] = VERSION

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
            FrozenRuleset(
                version=VERSION,
                host=self.host,
                vnics=list(map(_freeze, self.vnics)),
                rules=dict(sorted(self.rules.items())),
                tables={name: self.tables[name].tobytes() for name in TABLES},
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote, in this version or an earlier one.

        Raises:
            ValueError: the bytes are not a ruleset of a version that is understood.
        """
        try:
            match msgspec.msgpack.decode(raw, type=Version).version:
                case 1:
                    return cls._thaw(upgrade(msgspec.msgpack.decode(raw, type=FrozenRulesetV1)))
                case 2:
                    return cls._thaw(msgspec.msgpack.decode(raw, type=FrozenRuleset))
                case other:
                    version = other
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"these bytes are not a ruleset: {error}") from error
        raise ValueError(f"this ruleset is of version {version}, and versions 1 to {VERSION} are understood")

    @classmethod
    def _thaw(cls, frozen: FrozenRuleset) -> Self:
        if frozen.tables.keys() != TABLES.keys():
            raise ValueError("tables are missing, or too many")
        return cls(
            host=frozen.host,
            vnics=tuple(map(_thaw, frozen.vnics)),
            rules=frozen.rules,
            tables={name: np.frombuffer(frozen.tables[name], dtype) for name, dtype in TABLES.items()},
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of what ``encode`` writes, in hexadecimal; worked out once, because it is asked for often."""
        return hashlib.sha256(self.encode()).hexdigest()

    def rule_texts(self) -> dict[int, str]:
        """The rules by their number."""
        return {number: text for text, number in self.rules.items()}


def _freeze(vnic: GuardedVnic) -> FrozenVnic:
    return FrozenVnic(
        vnic.id, vnic.path, str(vnic.mac), list(map(pack, vnic.addresses)), freeze_security(vnic.security), vnic.mode.value,
        vnic.view, vnic.members, vnic.egress, vnic.ingress,
    )  # fmt: skip


def _thaw(frozen: FrozenVnic) -> GuardedVnic:
    numbers = (frozen.id, frozen.view, frozen.members, frozen.egress, frozen.ingress)
    if not all(0 <= number < _NUMBERS for number in numbers):
        raise ValueError("a number is out of range")
    return GuardedVnic(
        id=VnicId(frozen.id), path=frozen.path, mac=Mac(frozen.mac), addresses=tuple(map(unpack, frozen.addresses)),
        security=thaw_security(frozen.security), mode=Mode(frozen.mode), view=frozen.view, members=frozen.members,
        egress=frozen.egress, ingress=frozen.ingress,
    )  # fmt: skip
