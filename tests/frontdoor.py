"""A controller's front door for tests, as far as hosts need it: /v1/ca, /v1/join and /v1/renew over HTTPS."""

from __future__ import annotations

import base64
import contextlib
import http.server
import secrets
import threading
from collections.abc import Iterator

import msgspec

from credentials import Site, now
from serai.wire import api
from serai.wire.jointoken import JoinToken
from serai.wire.keypair import PkiError, key_digest, requested_key
from serai.wire.pki import ca_hash, identity_of, proven, read_certificate
from serai.wire.tls import server_context


class FrontDoor:
    def __init__(self, site: Site, agents: list[str]) -> None:
        self.site = site
        self.agents = agents
        self.ca = site.keys.authority.pem
        self.tokens: dict[bytes, str] = {}
        """The host that each is for, by the digest of its secret."""
        self.keys: dict[str, bytes] = {}
        """The key on record of each host."""
        self.revoked: set[str] = set()
        self.asked: list[str] = []
        self.lose_answer = False
        self.sent_host: str | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def token(self, host: str) -> str:
        made = JoinToken(id="t1", secret=secrets.token_bytes(32), ca_hash=ca_hash(self.site.keys.authority.pem))
        self.tokens[made.secret_digest] = host
        return str(made)

    def know(self, host: str) -> None:
        """Take the key of a host that ``Site.identity`` has made for the one on record."""
        pem = (self.site.directory / host / "identity" / "host.pem").read_text()
        self.keys[host] = identity_of(read_certificate(pem)).key

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(path)
        try:
            if path == "/v1/ca":
                return 200, self.ca.encode()
            if path == "/v1/join":
                return self._join(msgspec.json.decode(body, type=api.JoinRequest))
            if path == "/v1/renew":
                return self._renew(msgspec.json.decode(body, type=api.RenewRequest))
        except (PkiError, msgspec.ValidationError) as error:
            return problem(400, str(error))
        return problem(404, "nothing is here")

    def _join(self, request: api.JoinRequest) -> tuple[int, bytes]:
        digest = JoinToken.parse(request.token).secret_digest
        host = self.tokens.get(digest)
        if host is None:
            return problem(403, "this join token was used before, or is over: ask for another")
        if request.host and request.host != host and self.sent_host is None:
            return problem(403, f"this join token is for host {host}")
        del self.tokens[digest]
        return self._sign(request.csr, self.sent_host or host)

    def _renew(self, request: api.RenewRequest) -> tuple[int, bytes]:
        signature = base64.b64decode(request.signature)
        old = proven(request.csr, signature, request.certificate, self.site.keys.authority.certificate, now())
        if old.host in self.revoked:
            return problem(403, f"host {old.host} is revoked: join it again")
        if self.keys[old.host] not in {old.key, key_digest(requested_key(request.csr))}:
            return problem(403, "another key of this host is on record")
        return self._sign(request.csr, old.host)

    def _sign(self, csr: str, host: str) -> tuple[int, bytes]:
        certificate = self.site.keys.authority.sign_host(csr, host, now())
        signed = identity_of(read_certificate(certificate))
        self.keys[host] = signed.key
        sent = api.Certificate(host=host, certificate=certificate, ca=self.ca, until=signed.until, agents=self.agents)
        return (0 if self.lose_answer else 200), msgspec.json.encode(sent)


def problem(status: int, detail: str) -> tuple[int, bytes]:
    return status, msgspec.json.encode(api.Problem(type="urn:x", title="no", status=status, detail=detail))


@contextlib.contextmanager
def front_door(site: Site, agents: list[str] | None = None) -> Iterator[FrontDoor]:
    """Answer hosts on a port of this machine."""
    door = FrontDoor(site, agents or [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = door.answer(self.path, self.rfile.read(int(self.headers.get("content-length") or 0)))
            if status:  # else the answer is lost on the way
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  (the library's names)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = server_context(site.keys.server, site.keys.server_key).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    door.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
