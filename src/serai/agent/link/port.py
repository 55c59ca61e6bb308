"""What the link needs of the host that it speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serai.model.host_facts import HostFacts
from serai.wire.remote import Depart, Expect, Forget, Moving, Records, Sight


class HostPort(Protocol):
    """A host, as its link sees it."""

    def sight(self) -> Sight:
        """Whom it runs and guards."""

    def held(self) -> tuple[bytes | None, tuple[bytes, ...]]:
        """The digest of the ruleset that it holds, and those of its parts."""

    def facts(self) -> HostFacts | None:
        """What it is made of; None: that is not known yet."""

    def enforce(self, ruleset: bytes) -> bytes:
        """Enforce a ruleset (``HostRuleset.encode``), and return the digest of what is held then.

        Raises:
            RefusedError: it is not in force.
        """

    def change(self, delta: bytes) -> bytes:
        """Enforce what a change (``Delta.encode``) makes of the ruleset that is held; the same otherwise.

        Raises:
            RefusedError: it does not fit, or is not in force.
        """

    async def wait_changed(self) -> None:
        """Wait until ``sight``, ``held`` or ``facts`` may be another than when it was last waited for."""


class BatchPort(Protocol):
    """Where the host keeps what it has to tell of traffic."""

    def after(self, before: tuple[str, int] | None) -> Records | None:
        """Return the batch after that one (its spool and number; None: the oldest); None where there is no other."""

    def taken(self, spool: str, number: int) -> None:
        """A controller keeps the batches of ``spool`` up to ``number``."""

    async def wait_ready(self) -> None:
        """Wait until there is another batch than when it was last waited for."""


class MovePort(Protocol):
    """Who moves the host's VMs, and takes those that come."""

    def order(self, order: Expect | Depart | Forget) -> None:
        """Do this, and tell how far it has come."""

    def said(self) -> Sequence[Moving]:
        """Return the latest word about each move that is not forgotten."""

    async def next_word(self) -> Moving:
        """Wait for a word that nobody has waited for yet."""
