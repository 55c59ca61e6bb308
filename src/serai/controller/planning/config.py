"""What a controller is told about plans of moves."""

from __future__ import annotations

from typing import Annotated

import msgspec


class PlanningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[planning]`` of a controller's config file."""

    headroom: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    """The share of a host's memory that plans leave free: the kernel, QEMU and the agent need it."""
    within: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    """A pool is level when no host is fuller, or emptier, than all together by more than this share of its memory."""
    most_moves: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    """Moves that level a pool at the most."""
