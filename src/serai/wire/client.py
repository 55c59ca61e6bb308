"""The HTTP client of people and their tools: typed bodies, and a sentence for whatever goes wrong."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from serai.wire.api import Fault, Health, Problem
from serai.wire.profile import Profile

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 60.0
_TRIES: Final = 4
_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_MOST_FAULTS: Final = 50

T = TypeVar("T")
U = TypeVar("U")


class ClientError(RuntimeError):
    """The controller does not answer, or says no; the text is a sentence, with a line before it for each fault."""

    def __init__(
        self, message: str, *, status: int | None = None, name: str = "", faults: tuple[Fault, ...] = ()
    ) -> None:
        """Take the sentence, the status and the name of the problem where there was an answer, and its faults."""
        self.status, self.name, self.faults, self.sentence = status, name, faults, message
        listed = [describe(fault) for fault in faults[:_MOST_FAULTS]]
        if len(faults) > _MOST_FAULTS:
            listed.append(f"and {len(faults) - _MOST_FAULTS} more")
        if len(listed) == 1 and listed[0] in message:
            listed = []
        # What is invalid is listed as `serai check` lists it; the sentence would only say the first of it again.
        super().__init__("\n".join(listed if name == "invalid" and listed else [*listed, message]))


class Client:
    """Asks one controller. Use it as a context manager."""

    def __init__(self, profile: Profile, *, transport: httpx2.BaseTransport | None = None) -> None:
        """Connect to nobody yet.

        Raises:
            ClientError: the profile makes no sense.
        """
        self.profile = profile
        self.url = profile.url.rstrip("/")
        _require_url(self.url)
        self._http = httpx2.Client(
            base_url=self.url,
            verify=_trust(profile) if transport is None and self.url.startswith("https:") else False,
            headers={"Authorization": f"Bearer {profile.token}"} if profile.token else {},
            timeout=httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            transport=transport,
            trust_env=False,  # a proxy has no business between an operator and the controller
        )

    def __enter__(self) -> Self:
        """Be used."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: msgspec.Struct | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> T:
        """Ask for something that comes as ``kind``.

        Raises:
            ClientError: there is no answer, or it is no.
        """
        return self._decoded(
            self._request(method, path, body=body, params=params, headers=headers, seconds=seconds), kind
        )

    def either(
        self, method: str, path: str, done: type[T], waits: type[U], *, body: msgspec.Struct | None = None
    ) -> T | U:
        """Ask for something that is done, or waits for somebody.

        Raises:
            ClientError: there is no answer, or it is no.
        """
        response = self._request(method, path, body=body)
        if response.status_code == HTTPStatus.ACCEPTED:
            return self._decoded(response, waits)
        return self._decoded(response, done)

    def tell(self, method: str, path: str, *, body: msgspec.Struct | None = None) -> None:
        """Ask for something that has no answer.

        Raises:
            ClientError: it is not done.
        """
        self._request(method, path, body=body)

    def text(self, path: str) -> str:
        """Ask for a text.

        Raises:
            ClientError: there is no answer, or it is no.
        """
        return self._request("GET", path).text

    def health(self) -> Health:
        """Ask whether the controller does what it should; that it does not is an answer too.

        Raises:
            ClientError: there is none.
        """
        with self._translated():
            response = self._http.get("/readyz", timeout=httpx2.Timeout(_CONNECT_SECONDS))
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}:
            raise self._refusal(response)
        return self._decoded(response, Health)

    def lines(
        self, path: str, params: Mapping[str, Any] | None = None, *, seconds: float | None = None
    ) -> Iterator[bytes]:
        """Read lines as they come; empty ones are left out. ``seconds``: how long nothing may come.

        Raises:
            ClientError: there is no answer, it is no, or it is cut off.
        """
        timeout = httpx2.Timeout(seconds or _ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        with self._translated(), self._http.stream("GET", path, params=_texts(params), timeout=timeout) as response:
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                response.read()
                raise self._refusal(response)
            for line in response.iter_lines():
                if line:
                    yield line.encode()

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: msgspec.Struct | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> httpx2.Response:
        content = msgspec.json.encode(body) if body is not None else None
        all_headers = dict(headers or {}) | ({"Content-Type": "application/json"} if content is not None else {})
        for attempt in range(_TRIES):
            pause = _PAUSE_SECONDS * 2**attempt
            with self._translated():
                try:
                    response = self._http.request(
                        method, path, content=content, params=_texts(params), headers=all_headers,
                        timeout=httpx2.Timeout(seconds or _ANSWER_SECONDS, connect=_CONNECT_SECONDS),
                    )  # fmt: skip
                except httpx2.ConnectError as error:
                    # Only what changes nothing is asked again, and only where nobody listens: it may be starting.
                    if method != "GET" or attempt + 1 == _TRIES or _tls_error(error):
                        raise
                else:
                    # Who asks too often is told when to come again, and nothing has been done.
                    pause = _told_pause(response) if response.status_code == HTTPStatus.TOO_MANY_REQUESTS else None
                    if pause is None or attempt + 1 == _TRIES:
                        break
            time.sleep(pause)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(response)
        return response

    def _decoded(self, response: httpx2.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ClientError(f"{self.url} is no controller, or speaks another version: {error}") from error

    def _refusal(self, response: httpx2.Response) -> ClientError:
        status = response.status_code
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ClientError(f"{self.url} is no controller: it answers with status {status}", status=status)
        name = problem.type.rpartition(":")[2]
        sentence = problem.detail
        if status == HTTPStatus.UNAUTHORIZED and self.profile.token:
            sentence = f"{sentence} (the token is from {self.profile.origin or 'this command'})"
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            sentence = f"{self.url}: {sentence}"
        elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
            sentence = f"{sentence} ({response.headers.get('X-Request-Id', '?')})"
        return ClientError(sentence, status=status, name=name, faults=tuple(problem.errors))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Put what the library raises into a sentence."""
        try:
            yield
        except httpx2.ConnectError as error:
            if tls := _tls_error(error):
                by = self.profile.ca or "this machine"
                raise ClientError(
                    f"{self.url} shows a certificate that {by} does not vouch for ({tls}): this is another controller, somebody "
                    "in between, or a CA that is out of date; `serai login URL` asks again",
                    name="untrusted",
                ) from error
            raise ClientError(
                f"{self.url} cannot be reached: {_reason(error)}: is `serai controller run` (or `serai up`) running there?"
            ) from error
        except httpx2.TimeoutException as error:
            raise ClientError(
                f"{self.url} does not answer in time: what was asked may or may not have been done"
            ) from error
        except httpx2.TransportError as error:
            raise ClientError(f"{self.url} went away while it was asked: {_reason(error)}") from error


def segment(text: str) -> str:
    """Write a text as one part of a path."""
    return quote(text, safe="")


def resource_path(kind: str, path: str) -> str:
    """Write the path of a resource's route."""
    return f"/v1/resources/{segment(kind)}/{quote(path.lstrip('/'), safe='/:')}"


def describe(fault: Fault) -> str:
    """Write a fault as errors in files are written."""
    return ": ".join(part for part in (fault.where, fault.resource, fault.field, fault.message) if part)


def _texts(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _require_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.username:
        raise ClientError(f"{url!r} is not the URL of a controller: write https://NAME:8743")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ClientError(f"{url} would send your token in the clear: write https")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _trust(profile: Profile) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(profile.ca) if profile.ca else None)
    except (OSError, ssl.SSLError) as error:
        raise ClientError(f"the CA's certificate {profile.ca} cannot be read: {error.strerror or error}") from error


def _told_pause(response: httpx2.Response) -> float | None:
    """Return how long to wait before asking again, where that is worth while."""
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() and float(told) <= _LONGEST_PAUSE_SECONDS else None


def _tls_error(error: Exception) -> str | None:
    """Say what is wrong with a certificate, where that is what is wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _reason(error: Exception) -> str:
    """Find the words of the operating system."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
