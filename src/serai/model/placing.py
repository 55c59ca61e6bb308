"""Pools and placement rules as people write them."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from serai.model import fields
from serai.model.host_facts import Feature
from serai.model.placement import Profile
from serai.model.selectors import Part, Selector

MEMORY: Final = (1, 1 << 30)
"""The least and the most MiB that a host or a VM may be said to have."""
NICS: Final = (1, 64)
"""How many NICs the hosts of a pool may be told to have."""
NIC_SPEED: Final = (1, 10_000_000)
"""The same of their speed, in Mbit/s."""

Memory = Annotated[int, Field(ge=MEMORY[0], le=MEMORY[1])]
Tags = tuple[fields.Name, ...]


class RequirementsSpec(Part):
    """What every host of a pool must have at the least."""

    memory: Memory | None = None
    nics: Annotated[int, Field(ge=NICS[0], le=NICS[1])] | None = None
    nic_speed: Annotated[int, Field(ge=NIC_SPEED[0], le=NIC_SPEED[1])] | None = None
    agent: fields.Version | None = None
    features: tuple[Feature, ...] = ()


class PoolSpec(Part):
    """Hosts that VMs may move between, and what they must be like."""

    hosts: tuple[fields.Name, ...] = ()
    profile: Profile = Profile.COMPATIBLE
    requires: RequirementsSpec = RequirementsSpec()


class KeepApartSpec(Part):
    """VMs of which no host runs two; nothing said: all VMs."""

    scope: fields.ScopePath | None = None
    selector: Selector | None = None


class PlacementRuleSpec(Part):
    """What has to hold wherever VMs run."""

    exclusive: fields.Name | None = None
    keep_apart: KeepApartSpec | None = None

    @model_validator(mode="after")
    def _check_one_thing(self) -> Self:
        said = [self.exclusive, self.keep_apart]
        if said.count(None) != 1:
            message = f"must say one thing: exclusive or keepApart, not {'both' if None not in said else 'nothing'}"
            raise ValueError(message)
        return self
