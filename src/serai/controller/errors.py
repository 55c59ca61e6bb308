"""What a controller cannot, or will not, do: each is one sentence for whoever asked, and a status of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from serai.model.definitions import DefinitionErrors
from serai.wire.api import Fault


class ServiceError(Exception):
    """Something that was asked for is not done; the text says why, and what to do."""

    status: ClassVar = 500
    name: ClassVar = "internal"
    """Of the type of the problem: ``urn:serai:problem:NAME``."""
    title: ClassVar = "Something went wrong"

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), retry_seconds: int | None = None) -> None:
        """Take the sentence, what exactly is wrong, and when it is worth while to ask again."""
        super().__init__(message)
        self.faults = tuple(faults)
        self.retry_seconds = retry_seconds


class MalformedError(ServiceError):
    """What was sent is no request: a field has the wrong type, or is unknown."""

    status = 400
    name = "malformed"
    title = "This is not a request"


class NotAuthenticatedError(ServiceError):
    """Nobody knows who asks."""

    status = 401
    name = "not-authenticated"
    title = "Who are you?"


class ForbiddenError(ServiceError):
    """Whoever asks may not."""

    status = 403
    name = "forbidden"
    title = "You may not do this"


class NotFoundError(ServiceError):
    """There is no such thing, or whoever asks may not know of it."""

    status = 404
    name = "not-found"
    title = "There is no such thing"


class ConflictError(ServiceError):
    """It would contradict what is in force, or what somebody else does."""

    status = 409
    name = "conflict"
    title = "This contradicts what is"


class StaleError(ConflictError):
    """What is to be changed was changed since its author saw it. The faults say what."""

    name = "stale"
    title = "It was changed meanwhile"


class PendingError(ConflictError):
    """A change before this one waits to be confirmed."""

    name = "pending"
    title = "A change waits to be confirmed"


class ProposalClosedError(ConflictError):
    """The proposal is not open any more, is not what was seen, or its author cannot approve it."""

    name = "proposal"
    title = "This proposal cannot be decided so"


class GoneAheadError(ServiceError):
    """The resource is not at the revision that ``If-Match`` names."""

    status = 412
    name = "precondition"
    title = "It was changed meanwhile"


class TooLargeError(ServiceError):
    """It is more than a controller takes in, or calculates, at once."""

    status = 413
    name = "too-large"
    title = "That is too much at once"


class InvalidError(ServiceError):
    """What was sent cannot come into force. The faults say where and why."""

    status = 422
    name = "invalid"
    title = "This cannot come into force"

    @classmethod
    def of(cls, errors: DefinitionErrors) -> InvalidError:
        """Tell what is wrong with definitions."""
        faults = [
            Fault(where=each.place, resource=each.resource, field=each.field, message=each.message)
            for each in errors.errors
        ]
        first, *others = map(str, errors.errors)
        return cls(first + (f" (and {len(others)} more)" if others else ""), faults=faults)


class TooMuchError(ServiceError):
    """Whoever asks asks too often."""

    status = 429
    name = "too-many"
    title = "Too many requests"


class UnavailableError(ServiceError):
    """This controller cannot do it now: its database does not answer, or is full; or there is no leader."""

    status = 503
    name = "unavailable"
    title = "Not now"


class BusyError(UnavailableError):
    """This controller has too much to do."""

    name = "busy"
    title = "Busy"
