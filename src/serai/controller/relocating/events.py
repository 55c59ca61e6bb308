"""What happens to a relocation, and what is done about it; and what must be known of the site to decide that."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from serai.migration.relocation import Standing
from serai.store.records import MoveRecord


class Site(Protocol):
    """What this controller knows of hosts and VMs just now."""

    def origin(self, path: str, to: str) -> str:
        """Return the host from which a VM would move.

        Raises:
            NotNowError: it cannot be moved there just now, as far as hosts have told.
            CannotMoveError: it cannot be moved there.
        """


# Events


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Somebody wants it; or this controller leads from now on, and it is not over."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoveStands:
    """A move of it stands so; that may be told again and again."""

    move: MoveRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoveRefused:
    """A move of it could not be begun."""

    vm: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StopWanted:
    """Somebody wants no more moves to begin."""

    by: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed."""


Event = Begun | MoveStands | MoveRefused | StopWanted | Ticked


# Commands


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BeginMove:
    """Write down that a VM is to move, as part of this; who drives moves does the rest."""

    id: str
    vm: str
    to: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Write down why nothing begins just now; empty: nothing keeps it."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Write down how it ended. Nothing of it is under way."""

    state: Standing
    why: str


Command = BeginMove | Note | End
