"""Resources that stand together: the world that they make, and what is looked up when they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from serai.model import resources
from serai.model.buckets import Index
from serai.model.definitions import Definition
from serai.model.holders import Holders
from serai.model.invariant import Invariant
from serai.model.key import Key
from serai.model.policy import Policy
from serai.model.resolve_security import Allowances
from serai.model.resources import Resource
from serai.model.tenancy import ROOT, Mode, Scope
from serai.model.world import World

Changes = Mapping[Key, Definition[Resource] | None]
"""What resources shall be; None: gone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """Resources that stand together, the world that they make, and what is looked up when they change."""

    definitions: Mapping[Key, Definition[Resource]]
    world: World
    modes: Mapping[Scope, Mode | None]
    """The scopes that are declared, each with the mode that it sets."""
    services: Mapping[str, resources.Service]
    """By path."""
    policies: Mapping[str, Policy]
    """By path."""
    invariants: Mapping[str, Invariant]
    """By path."""
    holders: Holders
    allowances: Allowances
    dependents: Index[Key, Key]
    """Which resources look at a name."""


NOTHING: Final = Standing(
    definitions={}, world=World(), modes={ROOT: None}, services={}, policies={}, invariants={}, holders=Holders(),
    allowances=Allowances(), dependents=Index(),
)  # fmt: skip
"""No resources at all."""
