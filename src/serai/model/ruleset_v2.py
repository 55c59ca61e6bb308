"""Rulesets of version 2, which were written in one piece: what an agent may still have on disk."""

from __future__ import annotations

import msgspec

from serai.model.ruleset_form import FrozenSecurity


class FrozenVnicV2(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A vNIC as version 2 wrote it down."""

    id: int
    path: str
    mac: str
    addresses: list[bytes]
    security: FrozenSecurity
    mode: str
    view: int
    members: int
    egress: int
    ingress: int


class FrozenRulesetV2(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ruleset as version 2 wrote it down."""

    version: int
    host: str
    vnics: list[FrozenVnicV2]
    rules: dict[str, int]
    tables: dict[str, bytes]
    """The records of each table, one behind the other."""
