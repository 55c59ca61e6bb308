"""What a controller is told about moves: how many at once, and how long each part of one may take."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 60 * 60)]


class MoveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[moves]`` of a controller's config file."""

    at_once: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    """Moves that one host takes part in at a time, from it or to it; others wait in order."""
    wait_seconds: _Seconds = 24 * 60 * 60.0
    """How long a move may wait for its turn."""
    ticket_seconds: _Seconds = 60.0
    """How long a ticket is good: within that time the destination must be ready, and the source begin."""
    copy_seconds: _Seconds = 4 * 60 * 60.0
    """How long flows and the guest's memory may take before the guest is stopped at the source."""
    switch_seconds: _Seconds = 60.0
    """How long it may take from then on until the destination's gate forwards."""
    finish_seconds: _Seconds = 30.0
    """How long the hosts may take to tell the rest; what they do not tell by then stays unknown."""
    abort_seconds: _Seconds = 30.0
    """How long the source may take to say what became of a move that is aborted."""
