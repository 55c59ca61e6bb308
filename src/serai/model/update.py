"""What changes in a data center, all at once or bit by bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Self, TypeVar

from serai.model.address import Prefix
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action, Direction, Policy
from serai.model.world import World

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What is otherwise from now on. What is not mentioned stays as it is."""

    policies: Mapping[str, Policy | None] = dataclasses.field(default_factory=dict)
    """By path (scope and name); None: it is gone."""
    vms: Mapping[str, VirtualMachine | None] = dataclasses.field(default_factory=dict)
    """By path; None: it is gone."""
    places: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    """The hosts that need a VM's rules, by the VM's path: several while it moves, none while it runs nowhere."""
    last_word: Mapping[Direction, Action] | None = None
    quarantine: tuple[Prefix, ...] | None = None

    @classmethod
    def between(cls, old: World, new: World) -> Self:
        """Return what is otherwise in ``new``. Places are nobody's business here."""
        return cls(
            policies=_differences(_by_path(old), _by_path(new)),
            vms=_differences(old.vms, new.vms),
            last_word=None if old.last_word == new.last_word else new.last_word,
            quarantine=None if old.quarantine == new.quarantine else new.quarantine,
        )

    def then(self, later: Self) -> Self:
        """Return both, one after the other, in one."""
        return type(self)(
            policies={**self.policies, **later.policies},
            vms={**self.vms, **later.vms},
            places={**self.places, **later.places},
            last_word=self.last_word if later.last_word is None else later.last_word,
            quarantine=self.quarantine if later.quarantine is None else later.quarantine,
        )


def _by_path(world: World) -> dict[str, Policy]:
    return {f"{policy.scope}:{policy.name}": policy for policy in world.policies}


def _differences(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T | None]:
    # Most things are the very same ones as before: to see that costs nothing.
    changed: dict[str, T | None] = {
        key: thing for key, thing in new.items() if (was := old.get(key)) is not thing and was != thing
    }
    return changed | dict.fromkeys(old.keys() - new.keys())
