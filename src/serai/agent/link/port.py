"""What the link needs of the host that it speaks for."""

from __future__ import annotations

from typing import Protocol

from serai.wire.remote import Sight


class HostPort(Protocol):
    """A host, as its link sees it."""

    def sight(self) -> Sight:
        """Whom it runs and guards."""

    def held(self) -> tuple[bytes | None, tuple[bytes, ...]]:
        """The digest of the ruleset that it holds, and those of its parts."""

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
        """Wait until ``sight`` or ``held`` may be another than when it was last waited for."""
