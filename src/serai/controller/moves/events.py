"""What happens to moves, and what is done about it; and what must be known of the site to decide that."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Protocol

from serai.model.inventory import VirtualMachine
from serai.model.migration import Receipt
from serai.store.records import MoveRecord
from serai.wire.remote import Depart, Expect, Forget, Moving


class Site(Protocol):
    """What this controller knows of hosts and VMs just now."""

    def vm(self, path: str) -> VirtualMachine | None:
        """Return a VM by its path; None: there is none."""

    def connected(self, host: str) -> bool:
        """Say whether the agent of a host is there."""

    def holds(self, host: str) -> str | None:
        """Return the digest of the ruleset that a host's kernel holds, as its agent says."""

    def wanted(self, host: str) -> str | None:
        """Return the digest of the one that it should hold; None: nobody knows yet."""

    def trouble(self, host: str) -> str:
        """Return what a host has said against what it was sent."""

    def places(self, vm: str, vnics: Collection[int]) -> frozenset[str]:
        """Return the hosts that tell of any of these vNICs of a VM: their hypervisors, or their gates. Of silent hosts it is what they told last."""

    def obstacles(self, vm: str, to: str) -> Sequence[str]:
        """Return what tags, rules and pools say against it that a VM goes to a host; nothing: it may."""

    def guards(self, host: str, vnics: Collection[int]) -> bool:
        """Say whether the gates of a host guard all of these."""


# Events


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """This controller leads from now on: these moves are open."""

    moves: Sequence[MoveRecord]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Somebody wants a VM to move; it is written down, and waits."""

    move: MoveRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A hypervisor is about to take the VM of a move in, that nobody here has asked it to move."""

    move: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AbortWanted:
    """Somebody wants a move to end."""

    move: str
    by: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A host tells how far a move has come."""

    host: str
    moving: Moving


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostCame:
    """The agent of a host is there, perhaps again."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostLeft:
    """It is gone."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """A host runs others than before, or holds another ruleset, or should."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlanTaken:
    """What the destination should hold has the rules of the VM in it from now on."""

    vm: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlanRefused:
    """It cannot have them."""

    vm: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed."""


Event = (
    Resumed
    | Asked
    | Entered
    | AbortWanted
    | Told
    | HostCame
    | HostLeft
    | HostChanged
    | PlanTaken
    | PlanRefused
    | Ticked
)


# Commands


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Write down how far a move has come, before anything that follows is done."""

    move: MoveRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Write down how it ended, before anything that follows is done."""

    move: MoveRecord
    receipt: Receipt | None
    """None: it never had a ticket."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Have the destination sent the VM's rules."""

    vm: str
    to: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unplan:
    """Where the VM is, the hosts' reports tell from now on."""

    vm: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Say something to the agent of a host, if it is there."""

    host: str
    message: Expect | Depart | Forget


Command = Keep | End | Plan | Unplan | Say
