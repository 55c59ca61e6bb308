"""How errors are told: as problems (RFC 9457), each with a sentence, and with the field where it is about one."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from serai.controller.errors import InvalidError, MalformedError, ServiceError, UnavailableError
from serai.model.definitions import DefinitionErrors
from serai.policy.questions.question import QuestionError
from serai.wire.api import BODY_LIMIT, Fault, Problem

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:serai:problem:"
_NAMES: Final = {404: "no-route", 405: "no-method", 413: "too-large", 429: "too-many", 503: "unavailable"}
_SENTENCES: Final = {
    404: "there is nothing at this path: see /openapi for what there is",
    405: "this path does not take this method: see /openapi for what it takes",
    413: f"a request has at most {BODY_LIMIT:,} bytes: send less at once",
}

_log = structlog.get_logger(__name__)

AnyRequest = Request[Any, Any, Any]


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """Tell an error, with the headers that go with it."""
    known = _known(error)
    headers: dict[str, str] = {}
    if isinstance(known, ServiceError):
        if known.retry_seconds is not None:
            headers["Retry-After"] = str(known.retry_seconds)
        if known.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="serai"'
        return _problem(known.name, known.title, known.status, str(known), known.faults), headers
    if isinstance(known, HTTPException):
        status = known.status_code
        headers |= {name: value for name, value in (known.headers or {}).items() if name.lower() == "allow"}
        title = HTTPStatus(status).phrase
        return _problem(_NAMES.get(status, "malformed"), title, status, _SENTENCES.get(status, known.detail)), headers
    detail = "this is a fault of the controller, and in its log: look for the request's id there"
    return _problem("internal", "Something went wrong", 500, detail), headers


def respond(request: AnyRequest, error: Exception) -> Response[Problem]:
    """Answer a request that has failed."""
    problem, headers = problem_of(error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("a request failed", path=request.url.path, method=request.method, exc_info=error)
    headers["X-Request-Id"] = request.scope["state"].get("request_id", "") or secrets.token_hex(8)
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _known(error: Exception) -> Exception:
    """Put an error that somebody else raised into our words, where it is one that we expect."""
    match error:
        case DefinitionErrors():
            return InvalidError.of(error)
        case QuestionError():
            return InvalidError(str(error))
        case ValidationException():
            faults = [_fault(each) for each in error.extra or () if isinstance(each, dict)]
            first = f"{faults[0].field}: {faults[0].message}" if faults else error.detail
            return MalformedError(first, faults=faults)
        case RecursionError():
            return MalformedError("it is nested too deeply")
        case UnicodeDecodeError():
            return MalformedError("it is not written in UTF-8")
        case TimeoutError():
            sentence = "it took too long and was given up: ask what is in force before you try it again"
            return UnavailableError(sentence, retry_seconds=5)
        case _:
            return error


def _fault(extra: dict[str, Any]) -> Fault:
    """Take over what the framework says of one field."""
    key, message = str(extra.get("key", "")), str(extra.get("message", ""))
    source = extra.get("source", "body")
    where = str(getattr(source, "value", source))
    if key == "data":  # it calls the body so
        key = ""
        message = "there is no body" if message == "'data'" else message
    return Fault(where=where, field=key or where, message=message)


def _problem(name: str, title: str, status: int, detail: str, errors: tuple[Fault, ...] = ()) -> Problem:
    return Problem(type=_TYPE + name, title=title, status=status, detail=detail, errors=errors)
