"""Logging in at an OpenID provider: authorization code with PKCE, and an answer on the loopback (RFC 8252)."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import time
import webbrowser
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

_WAIT_SECONDS: Final = 300.0
_SECONDS: Final = 20.0
_PAGE: Final = b"<!doctype html><title>Serai</title><p>You may close this window and go back to the terminal."


class SignInError(RuntimeError):
    """The provider did not say who this is."""


def sign_in(issuer: str, client: str, tell: Callable[[str], object]) -> str:
    """Have a person sign in with a browser; return the ID token. ``tell`` is given the address to open.

    Raises:
        SignInError: they did not, or the provider does not answer as it should.
    """
    with httpx2.Client(timeout=_SECONDS) as web, _Answer() as answer:
        found = _json(web, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise SignInError(f"the OpenID provider calls itself {found.get('issuer')!r}, and not {issuer!r}")
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        challenge = _base64(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code", "client_id": client, "redirect_uri": answer.url, "scope": "openid profile email groups",
            "state": state, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        address = f"{found['authorization_endpoint']}?{urlencode(query)}"
        tell(address)
        webbrowser.open(address)
        code = answer.code(state)
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": answer.url, "client_id": client,
            "code_verifier": verifier,
        }  # fmt: skip
        token = _json(web, "POST", found["token_endpoint"], form).get("id_token")
    if not isinstance(token, str):
        raise SignInError("the OpenID provider gives no ID token")
    # The controller verifies the token; that it answers this very question only this program can tell.
    if not secrets.compare_digest(str(_claims(token).get("nonce")), nonce):
        raise SignInError("the OpenID provider answers a question that was not asked: its nonce is another")
    return token


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
                raise SignInError("nobody signed in: the browser did not come back in time")
            self._server.handle_request()
        given = {name: values[0] for name, values in self._query.items()}
        if not secrets.compare_digest(given.get("state", ""), state):
            raise SignInError("the browser came back with another's answer: begin again")
        if "code" not in given:
            raise SignInError(
                f"the OpenID provider says no: {given.get('error_description') or given.get('error', 'without a reason')}"
            )
        return given["code"]


def _json(web: httpx2.Client, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
    try:
        response = web.request(method, url, data=form)
        found = response.json()
    except (httpx2.TransportError, httpx2.InvalidURL, ValueError) as error:
        raise SignInError(f"the OpenID provider does not answer at {url}: {error}") from error
    if response.status_code != httpx2.codes.OK or not isinstance(found, dict):
        why = found.get("error_description") or found.get("error") if isinstance(found, dict) else None
        raise SignInError(
            f"the OpenID provider answers with status {response.status_code} at {url}{f': {why}' if why else ''}"
        )
    return found


def _claims(token: str) -> dict[str, Any]:
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError) as error:
        raise SignInError("what the OpenID provider gives is no ID token") from error
    return found if isinstance(found, dict) else {}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
