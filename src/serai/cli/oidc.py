"""Logging in at an OpenID provider: authorization code with PKCE, and an answer on the loopback (RFC 8252)."""

from __future__ import annotations

import http.server
import secrets
import time
import webbrowser
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import msgspec

from serai.wire.oidc import OidcError, discovery_url, hashed, read_discovery

_WAIT_SECONDS: Final = 300.0
_SECONDS: Final = 20.0
_LONGEST_REASON: Final = 300
_PAGE: Final = b"<!doctype html><title>Serai</title><p>You may close this window and go back to the terminal."


def sign_in(issuer: str, client: str, tell: Callable[[str], object]) -> tuple[str, str]:
    """Have a person sign in with a browser; ``tell`` is given the address to open.

    Returns:
        The ID token, and the secret of which its nonce is the hash.

    Raises:
        OidcError: they did not, or the provider does not answer as it should.
    """
    with httpx2.Client(timeout=_SECONDS) as web, _Answer() as answer:
        found = read_discovery(issuer, _asked(web, "GET", discovery_url(issuer)))
        verifier, state, secret = (secrets.token_urlsafe(48) for _ in range(3))
        query = {
            "response_type": "code", "client_id": client, "redirect_uri": answer.url, "scope": "openid profile email",
            "state": state, "nonce": hashed(secret), "code_challenge": hashed(verifier), "code_challenge_method": "S256",
        }  # fmt: skip
        address = (
            f"{found.authorization_endpoint}{'&' if '?' in found.authorization_endpoint else '?'}{urlencode(query)}"
        )
        tell(address)
        webbrowser.open(address)
        form = {
            "grant_type": "authorization_code", "code": answer.code(state), "redirect_uri": answer.url, "client_id": client,
            "code_verifier": verifier,
        }  # fmt: skip
        try:
            return msgspec.json.decode(_asked(web, "POST", found.token_endpoint, form), type=_Tokens).id_token, secret
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise OidcError(f"the OpenID provider {issuer} gives no ID token: {error}") from error


class _Tokens(msgspec.Struct):
    """What a token endpoint gives, as far as anybody looks at it."""

    id_token: str


class _Answer:
    """Listens on the loopback for the browser to come back."""

    def __enter__(self) -> Self:
        outer = self
        self._query: dict[str, list[str]] | None = None

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                mine = parts.path == "/callback"
                self.send_response(200 if mine else 404)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                if mine:
                    self.wfile.write(_PAGE)
                    outer._query = parse_qs(parts.query)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 (as the library declares it)
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._server.timeout = 1.0
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def code(self, state: str) -> str:
        end = time.monotonic() + _WAIT_SECONDS
        while self._query is None:
            if time.monotonic() > end:
                raise OidcError("nobody signed in: the browser did not come back in time")
            self._server.handle_request()
        given = {name: values[0] for name, values in self._query.items()}
        if not secrets.compare_digest(given.get("state", ""), state):
            raise OidcError("the browser came back with another's answer: begin again")
        if "code" not in given:
            raise OidcError(
                f"the OpenID provider says no: {given.get('error_description') or given.get('error', 'without a reason')}"
            )
        return given["code"]


def _asked(web: httpx2.Client, method: str, url: str, form: dict[str, str] | None = None) -> bytes:
    try:
        response = web.request(method, url, data=form)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise OidcError(f"the OpenID provider does not answer at {url}: {error}") from error
    if response.status_code != httpx2.codes.OK:
        why = response.text[:_LONGEST_REASON].strip()
        raise OidcError(f"the OpenID provider answers with status {response.status_code} at {url}: {why}")
    return response.content
