"""A little OpenID provider on loopback: real HTTP, real keys; and it lies when it is told to."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from serai.wire.oidc import hashed

CLIENT = "serai"
Key = RSAKey | ECKey | OctKey


def rsa(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


class Provider:
    """Signs what it is told to, and answers those who come with a code."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys: list[Key] = [rsa("one")]
        self.documents: dict[str, bytes] = {}
        """What it says instead, by path."""
        self.asked: list[str] = []
        self.claims: dict[str, Any] = {}
        """What it says of whoever signs in."""
        self.error: str | None = None
        self._codes: dict[str, dict[str, str]] = {}

    def token(self, claims: Mapping[str, Any], key: Key | None = None, **header: Any) -> str:
        signer = key or self.keys[0]
        return jwt.encode(
            {"alg": "RS256", "kid": signer.kid} | header, dict(claims), signer, algorithms=[header.get("alg", "RS256")]
        )

    def get(self, path: str, query: dict[str, str]) -> tuple[int, bytes, str | None]:
        self.asked.append(path)
        if path in self.documents:
            return 200, self.documents[path], None
        match path:
            case "/.well-known/openid-configuration":
                places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
                found = {"issuer": self.issuer} | {name: f"{self.issuer}/{place}" for name, place in places.items()}
                return 200, json.dumps(found).encode(), None
            case "/jwks":
                return 200, json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode(), None
            case "/authorize":
                return 302, b"", f"{query['redirect_uri']}?{urlencode(self._sign_in(query))}"
        return 404, b"", None

    def _sign_in(self, query: dict[str, str]) -> dict[str, str]:
        if self.error:
            return {"error": self.error, "state": query["state"]}
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_hex(8)
        self._codes[code] = query
        return {"code": code, "state": query["state"]}

    def exchange(self, form: dict[str, str]) -> tuple[int, bytes]:
        query = self._codes.pop(form.get("code", ""), None)
        fits = query and all(form[name] == query[name] for name in ("client_id", "redirect_uri"))
        if not query or not fits or hashed(form["code_verifier"]) != query["code_challenge"]:
            return 400, b'{"error": "invalid_grant"}'
        return 200, json.dumps({"id_token": self.token(self.claims | {"nonce": query["nonce"]})}).encode()


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body, location = found.get(parts.path, dict(parse_qsl(parts.query)))
            self._answer(status, body, location)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*found.exchange(dict(parse_qsl(body.decode()))), None)

        def _answer(self, status: int, body: bytes, location: str | None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Provider(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
