"""What a controller knows when a plan is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from serai.controller.planning.config import PlanningSettings
from serai.controller.whereabouts import Sign
from serai.model.host_facts import HostFacts
from serai.model.world import World
from serai.store.records import HostState


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All of one moment."""

    world: World
    """The resources in force."""
    revision: int
    """Of these."""
    states: Mapping[str, HostState]
    """The hosts that have joined and are not revoked, by name."""
    signs: Mapping[str, frozenset[Sign]]
    """What each of them has reported since this controller leads."""
    facts: Mapping[str, HostFacts]
    """What hosts have told of themselves."""
    moves: Mapping[str, str]
    """Where VMs shall go whose moves are not over, those that wait included; by path."""
    version: str
    """Of this controller."""
    settings: PlanningSettings
