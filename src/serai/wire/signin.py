"""A person signs in at an OpenID provider, with a browser, for a command: authorization code with PKCE (RFC 8252)."""

from __future__ import annotations

import dataclasses
import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import msgspec

from serai.wire.oidc import OidcError, discovery_url, hashed, read_discovery

_PATH: Final = "/callback"
_QUIET_SECONDS: Final = 5
"""Browsers open connections and say nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """What a controller takes for a login."""

    id_token: str = dataclasses.field(repr=False)
    secret: str = dataclasses.field(repr=False)
    """The nonce in the ID token is the hash of this."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    id_token: str


def sign_in(
    issuer: str, client_id: str, show: Callable[[str], object], *, http: httpx2.Client, seconds: float = 300.0
) -> SignedIn:
    """Have a person sign in: ``show`` is given the address that a browser shall open; the provider sends it back to us.

    Raises:
        OidcError: nobody signed in in time, the provider refused, or what it says is no answer.
    """
    discovery = read_discovery(issuer, _body(http, "GET", discovery_url(issuer)))
    verifier, secret, state = (secrets.token_urlsafe(32) for _ in range(3))
    with _Callback(state) as callback:
        query = {
            "response_type": "code", "client_id": client_id, "redirect_uri": callback.url, "scope": "openid profile email",
            "state": state, "nonce": hashed(secret), "code_challenge": hashed(verifier), "code_challenge_method": "S256",
        }  # fmt: skip
        joint = "&" if urlsplit(discovery.authorization_endpoint).query else "?"
        show(discovery.authorization_endpoint + joint + urlencode(query))
        code = callback.wait(seconds)
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": callback.url, "client_id": client_id,
            "code_verifier": verifier,
        }  # fmt: skip
        return SignedIn(id_token=_exchange(http, discovery.token_endpoint, form), secret=secret)


def _exchange(http: httpx2.Client, url: str, form: Mapping[str, str]) -> str:
    raw = _body(http, "POST", url, data=form)
    try:
        return msgspec.json.decode(raw, type=_Answer).id_token
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OidcError(f"{url} gives no ID token ({error}): is serai a client there?") from error


def _body(http: httpx2.Client, method: str, url: str, *, data: Mapping[str, Any] | None = None) -> bytes:
    try:
        response = http.request(method, url, data=data)
    except httpx2.HTTPError as error:
        raise OidcError(f"the OpenID provider does not answer at {url} ({error}): try again later") from error
    if response.status_code != 200:  # noqa: PLR2004  # OK
        said = response.text[:200]
        raise OidcError(f"the OpenID provider says {response.status_code} at {url}: {said!r}")
    return response.content


class _Callback:
    """Listens, on loopback alone, for the browser to come back."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._query: dict[str, list[str]] = {}
        self._came = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _QUIET_SECONDS

            def do_GET(self) -> None:  # http.server calls it so
                good = outer._take(self.path)
                text = b"Signed in; you may close this page.\n" if good else b"This is not what was waited for.\n"
                self.send_response(200 if good else 404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the code is in the path
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        port = self._server.server_port if self._server is not None else 0
        return f"http://127.0.0.1:{port}{_PATH}"

    def wait(self, seconds: float) -> str:
        """Wait for the code."""
        if not self._came.wait(seconds):
            raise OidcError(f"nobody signed in within {seconds:.0f} seconds: try again")
        if "error" in self._query:
            raise OidcError(f"the OpenID provider refused: {self._query['error'][0][:200]!r}")
        return self._query["code"][0]

    def _take(self, path: str) -> bool:
        """Take a request that answers ours, and the first of these alone."""
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        [state] = query.get("state", [""])[:1]
        mine = hmac.compare_digest(state.encode(), self._state.encode())
        if parts.path != _PATH or not mine or not {"code", "error"} & query.keys() or self._came.is_set():
            return False
        self._query = query
        self._came.set()
        return True
