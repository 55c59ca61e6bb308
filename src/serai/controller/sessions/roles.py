"""Whom the conversations with agents turn to: who lets them in, and who wants to know what they tell."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from serai.model.host_facts import HostFacts
from serai.wire.remote import Entering, Held, Hello, Moving, Records, Sight


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An agent is let in."""

    epoch: int
    """How its life is called."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """An agent is not let in."""

    reason: str
    fenced: bool = False
    """There is a newer one of its host: this one shall be silent for good."""
    epoch: int = 0
    """The newer one's."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who leads, as far as this controller knows."""

    leads: bool
    """It does itself."""
    url: str
    """Where the one that leads listens for agents; empty: nobody leads just now."""
    term: int


class Gatekeeper(Protocol):
    """Who may come in; what it says is so for all controllers of the site."""

    async def admit(self, host: str, serial: str, epoch: int) -> Admitted | Turned:
        """Say whether an agent with the certificate of this serial may come in.

        ``epoch`` is what it says its life is called: 0 begins a life, which gets the next epoch and ends all others of its host; one
        lower than the current is fenced; the current is the same life that connects again.

        Raises:
            ConnectionError: it cannot be said just now.
        """

    def leader(self) -> Leader:
        """Who leads."""

    async def outranked(self, term: int) -> None:
        """Take in that an agent has obeyed a leader of a higher ``term`` than this controller has.

        Either it leads no more, or the database is an older one. It must find out, and lead from now on in a higher term, or not at
        all.
        """

    async def renewed(self, host: str, csr: str) -> str:
        """Sign a new certificate, and write down that it was.

        Raises:
            PkiError: the request is none.
            PermissionError: the host is not to have one.
            ConnectionError: it cannot be written down just now.
        """

    def checkpoint(self) -> str:
        """The latest checkpoint of the audit log; empty: there is none."""


class Listener(Protocol):
    """Who wants to know what agents tell. Nothing of it may wait."""

    def arrived(self, host: str, hello: Hello) -> None:
        """An agent is there, perhaps again; the epoch is what it has been given."""

    def seen(self, host: str, sight: Sight) -> None:
        """A host runs others than before."""

    def described(self, host: str, facts: HostFacts) -> None:
        """A host tells what it is made of."""

    def held(self, host: str, held: Held) -> None:
        """A host holds a ruleset, or goes on with the one it had."""

    def told(self, host: str, records: Records) -> None:
        """A host tells what its gates have counted."""

    def entering(self, host: str, entering: Entering) -> None:
        """A host asks whether a VM may run there."""

    def moving(self, host: str, moving: Moving) -> None:
        """A host tells how far a move has come, perhaps again."""

    def left(self, host: str) -> None:
        """The agent is gone."""
