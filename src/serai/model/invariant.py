"""Invariants: what policies have to keep true, whoever writes them."""

from __future__ import annotations

import dataclasses
import enum

from serai.model.policy import Clause, Peer
from serai.model.tenancy import Scope


class Claim(enum.StrEnum):
    """What an invariant says of the connections that it is about."""

    NEVER = "never"
    """None of them is accepted."""
    ONLY = "only"
    """None is accepted but from these sources."""
    ALWAYS = "always"
    """Every one is accepted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A claim about all connections from some ends to others."""

    path: str
    """Scope and name, e.g. ``/:tenants-apart``."""
    scope: Scope
    """Whose it is."""
    description: str
    """In the words of whoever wrote it; empty where there are none."""
    claim: Claim
    sources: tuple[Peer | None, ...]
    """Who opens the connections: any of these. None means anybody."""
    targets: tuple[Clause, ...]
    """What they are opened to: any of these peers, each on its ports."""
