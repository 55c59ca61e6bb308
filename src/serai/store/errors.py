"""What the store cannot do; each is one sentence."""

from __future__ import annotations


class StoreError(RuntimeError):
    """The database does not do what it should; nothing has been changed, unless a subclass says otherwise."""


class UnavailableError(StoreError):
    """The database does not answer. What it was told last it may have done: it can be lost between doing it and saying so."""


class FullError(StoreError):
    """The disk of the database is full."""


class SchemaError(StoreError):
    """The database was written by a newer version, or is none of ours."""


class UrlError(ValueError):
    """That is no address of a database."""


class BehindError(StoreError):
    """Something was committed since what this was checked against."""

    def __init__(self, head: int) -> None:
        """``head`` is the latest revision."""
        super().__init__(f"revision {head} was committed meanwhile")
        self.head = head


class ProposalError(ValueError):
    """A proposal cannot be approved, or closed; the message says why."""


class JoinError(ValueError):
    """A host cannot join, or renew; the message says why."""


class NotWaitingError(ValueError):
    """A revision does not wait to be confirmed."""


class DeposedError(StoreError):
    """A controller that leads no more has tried to change something."""


class PersonError(ValueError):
    """A person cannot be made so; the message says why."""


class MoveError(ValueError):
    """A move cannot be begun, or aborted; the message says why."""


class RelocationError(ValueError):
    """A relocation cannot be begun, or stopped; the message says why."""
