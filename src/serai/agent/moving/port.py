"""What moves need of the host that they go from or come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What has become of flows of another host."""

    flows: int
    """Taken over."""
    refused: int
    """Not taken, because the rules allow no such connection."""
    unprotected: int
    """Packets that gates here have let pass since the last time."""


class Leaving(Protocol):
    """The flows of a VM that leaves."""

    def copy(self, *, whole: bool) -> tuple[Sequence[bytes], int]:
        """Write down all, or those that were active since the last time: parts of one vNIC each, and how many flows they are."""

    def end(self) -> int:
        """Another host has them; return how many packets gates here have let pass since they were last written down."""

    def drop(self) -> None:
        """Nothing more is to be done with them."""


class Coming(Protocol):
    """The flows of a VM that comes."""

    def take(self, parts: Sequence[bytes]) -> Took:
        """Take over what another host has written down.

        Raises:
            RefusedError: it is nothing of the kind, or of another VM; what stands before it is taken.
        """


class GatePort(Protocol):
    """The gates of a host."""

    def guarded(self, vnics: Collection[int]) -> bool:
        """Say whether gates here guard all of them."""

    def withhold(self, vnics: Collection[int]) -> None:
        """Let no gate forward for them."""

    def release(self, vnics: Collection[int], *, amid: bool) -> None:
        """Let gates forward for them, where they are.

        ``amid``: for a while also connections that policy accepts and whose beginning no gate here has seen.
        """

    def leaving(self, vnics: Collection[int]) -> Leaving:
        """Begin to hand their flows over."""

    def coming(self, vnics: Collection[int]) -> Coming:
        """Begin to take their flows over."""


class Hypervisor(Protocol):
    """Who moves guests; each call takes its time, and is made in a thread of its own."""

    def migrate(self, domain: str, *, host: str, address: str) -> str:
        """Move a guest to ``host``, which takes its memory at ``address``, and wait for the end; return why it was not moved, if so."""

    def leaving(self, domain: str) -> str:
        """Say why it is not so that a guest is being moved away just now, by whomever; empty: it is so."""

    def stop(self, domain: str) -> None:
        """Stop moving a guest, where that can be done still, and wait until nothing is under way."""
