"""A live migration: the leave to make it, how far it has come, and what was proven about it."""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

MOST_VNICS: Final = 64
"""vNICs of one VM that moves."""

MoveId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
"""Names a move; nobody can guess one."""
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Step(enum.StrEnum):
    """How far a move has come. In order; each one includes those before it."""

    PLANNED = "planned"
    """There is a ticket, and the destination is being sent the VM's rules."""
    PREPARED = "prepared"
    """The destination's kernel holds them (the digest is the controller's), and it takes flows from the source."""
    COPIED = "copied"
    """The destination has the flows that there were; the guest's memory follows, and more flows with it."""
    SWITCHED = "switched"
    """The guest is stopped at the source, and will not run there again unless the move fails yet."""
    LIVE = "live"
    """The destination's gate forwards, and the source's no more."""
    CARRIED = "carried"
    """The destination has the flows that changed while it went on."""
    FENCED = "fenced"
    """The source's gate is closed for good."""
    DONE = "done"
    """Both hosts have told so; there is a receipt."""
    ABORTED = "aborted"
    """Nothing has moved: the VM is, protected, where it was."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The controller's leave to move one VM, once, from one host to another."""

    move: MoveId
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    """Counts the moves of this VM: of two gates that guard it the one of the later move forwards."""
    vm: _Name
    """Its path."""
    domain: _Name
    """What the hypervisors call it."""
    vnics: Annotated[list[Annotated[int, msgspec.Meta(ge=1)]], msgspec.Meta(min_length=1, max_length=MOST_VNICS)]
    """The numbers of its vNICs."""
    source: _Name
    to: _Name
    until: float
    """Seconds since 1970: what has not begun by then may not begin any more."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was counted while a VM moved; what a host does not know is left out."""

    digest: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?\\Z")] = ""
    """Of the ruleset that the destination's kernel held before the guest ran there."""
    flows_first: _Count = 0
    """Flows that were carried before the guest was stopped."""
    flows_later: _Count = 0
    """Flows carried after it, or once more because they had changed."""
    refused: _Count = 0
    """Flows that the destination did not take, because its rules allow no such connection."""
    unprotected: _Count = 0
    """Packets that a gate has forwarded while it guarded nobody, or before it was its turn."""
    encrypted: bool | None = None
    """The guest's memory went over TLS; None: that is not known."""
    gap_us: _Count | None = None
    """From the guest's stop at the source to its start at the destination, by the source's clock; microseconds."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was proven about one move that has ended."""

    ticket: Ticket
    by: _Text
    """Who asked for it; of a move that was begun at a hypervisor, that hypervisor."""
    began: float
    """Seconds since 1970, by the controller's clock; the same of ``ended``."""
    ended: float
    made: bool
    """The VM is at its destination; otherwise it is where it was."""
    reached: Step
    """How far it had come when it ended well, or was aborted."""
    facts: Facts
    why: _Text = ""
    """Why it was aborted; of one that was made, what of it could not be done."""
    unheard: list[_Name] = []
    """Hosts that have not told how it ended: what they counted is not in ``facts``."""
