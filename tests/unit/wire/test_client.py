"""The HTTP client of people and their tools: over real sockets and real TLS."""

from __future__ import annotations

import datetime as dt
import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fake_service import FakeService
from serai.controller.api.doorkeeper import Limits
from serai.wire import api
from serai.wire.client import Client, ClientError, resource_path
from serai.wire.profile import Profile
from serai.wire.trust import fetch_ca, fingerprint, is_vouched_for
from served import served

NOW = dt.datetime.now(dt.UTC)


def authority(directory: Path, name: str) -> tuple[Path, Path, Path]:
    """Make a CA, and a certificate for the loopback; returns the CA's, the server's, and its key."""
    key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    def certificate(of: x509.Name, public: ec.EllipticCurvePublicKey, *more: x509.ExtensionType) -> x509.Certificate:
        made = x509.CertificateBuilder(subject_name=of, issuer_name=subject, public_key=public)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(NOW - dt.timedelta(1)).not_valid_after(NOW + dt.timedelta(1))
        for extension in more:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(key, hashes.SHA256())

    ca = certificate(subject, key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate(x509.Name([]), server_key.public_key(), names)
    files = tuple(directory / f"{name}-{part}.pem" for part in ("ca", "server", "key"))
    files[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files[0], files[1], files[2]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


def refusal(at: Profile, method: str = "GET", path: str = "/v1/status") -> ClientError:
    with Client(at) as client, pytest.raises(ClientError) as caught:
        client.ask(method, path, api.Status)
    return caught.value


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# TLS


def test_only_whom_our_ca_vouches_for_is_asked(ours: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ca, *pair = ours
    other, *_ = authority(tmp_path, "other")
    with served(FakeService(), tls=(pair[0], pair[1])) as url:
        with Client(Profile(url=url, token="admin-token", ca=ca)) as client:  # noqa: S106
            assert client.ask("GET", "/v1/status", api.Status).revision == 0
        for wrong in (other, None):
            error = refusal(Profile(url=url, token="admin-token", ca=wrong))  # noqa: S106
            assert "does not vouch for" in str(error)
            assert "another controller, somebody in between" in str(error)
            assert error.name == "untrusted"
        named = url.replace("127.0.0.1", "localhost")
        assert "does not vouch for" in str(refusal(Profile(url=named, ca=ca)))
        assert not is_vouched_for(url)


def test_a_ca_is_known_by_its_fingerprint(ours: tuple[Path, Path, Path]) -> None:
    ca, *pair = ours
    service = FakeService()

    async def give() -> str:
        return ca.read_text()

    service.ca = give  # type: ignore[method-assign]
    with served(service, tls=(pair[0], pair[1])) as url:
        pem = fetch_ca(url)
    der = x509.load_pem_x509_certificate(ca.read_bytes())
    assert fingerprint(pem) == f"sha256:{der.fingerprint(hashes.SHA256()).hex()}"
    with pytest.raises(ClientError, match="no certificate"):
        fingerprint("nonsense")


def test_a_ca_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for file, text in ((tmp_path / "missing.pem", None), (tmp_path / "junk.pem", "junk")):
        if text:
            file.write_text(text)
        with pytest.raises(ClientError, match=r"the CA's certificate .* cannot be read"):
            Client(Profile(url="https://127.0.0.1:1", ca=file))


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "a:8743", "https://", "https://a/v1", "https://user@a", "http://controller:8743", "http://10.0.0.1"],
)
def test_a_token_goes_nowhere_in_the_clear(url: str) -> None:
    with pytest.raises(ClientError, match=r"is not the URL of a controller|in the clear"):
        Client(Profile(url=url))


# Connections


def test_nobody_there_is_said_and_reads_are_tried_again() -> None:
    port = free_port()
    at = Profile(url=f"http://127.0.0.1:{port}")
    began = time.monotonic()
    assert "cannot be reached: Connection refused" in str(refusal(at, "POST", "/v1/apply"))
    assert time.monotonic() - began < 0.2
    seen: list[bytes] = []

    def late() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(4096))
                body = b'{"revision": 7, "hosts": []}'
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=late)
    thread.start()
    with Client(at) as client:
        assert client.ask("GET", "/v1/status", api.Status).revision == 7
    thread.join()
    assert seen[0].startswith(b"GET /v1/status ")


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], Profile]]:
    """Answer every connection with the same bytes, and close."""
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answers[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def answer(raw: bytes) -> Profile:
        answers[:] = [raw]
        return Profile(url=f"http://127.0.0.1:{listener.getsockname()[1]}", token="t", origin="somewhere")  # noqa: S106

    yield answer
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "went away while it was asked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "went away while it was asked"),
        (b"SSH-2.0-OpenSSH_9\r\n", "went away while it was asked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is no controller, or speaks another version"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\nnope", "is no controller: it answers with status 502"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
            "is no controller, or speaks",
        ),
    ],
)
def test_whoever_is_no_controller_is_told_apart(answering: Callable[[bytes], Profile], raw: bytes, said: str) -> None:
    assert said in str(refusal(answering(raw)))


def test_a_controller_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = Profile(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with Client(at) as client, pytest.raises(ClientError, match="does not answer in time"):
            client.ask("GET", "/v1/status", api.Status, seconds=0.1)


def test_a_stream_that_is_cut_off_is_said(answering: Callable[[bytes], Profile]) -> None:
    at = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n1\r\n\n\r\n3\r\n[")
    told = []
    with Client(at) as client, pytest.raises(ClientError, match="went away"):
        told.extend(client.lines("/v1/watch"))
    assert told == [b"{}"]


# Problems


def test_no_is_said_in_the_controllers_words() -> None:
    service = FakeService()
    with served(service, limits=Limits(strangers_burst=4, strangers_per_second=0.1)) as url:
        admin = Profile(url=url, token="admin-token")  # noqa: S106
        wrong = refusal(Profile(url=url, token="nobody's", origin="/etc/serai/client.toml"))  # noqa: S106
        assert wrong.status == 401
        assert str(wrong).endswith("(the token is from /etc/serai/client.toml)")
        assert "send `Bearer TOKEN`" in str(refusal(Profile(url=url)))
        viewer = refusal(Profile(url=url, token="viewer-token"), "GET", "/v1/audit")  # noqa: S106
        assert (viewer.status, viewer.name) == (403, "forbidden")
        assert refusal(admin, "GET", "/v1/revisions/9").name == "not-found"
        service.in_force["Tenant", "acme"] = api.Resource(kind="Tenant", path="acme", scope="/", revision=3, body={})
        text = "{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: acme}}"
        with Client(admin) as client, pytest.raises(ClientError) as caught:
            client.either(
                "POST", "/v1/apply", api.Applied, api.Proposed, body=api.ChangeRequest(files={"a": text}, base=1)
            )
        assert (caught.value.status, caught.value.name) == (409, "stale")
        assert "Tenant acme: was changed since" in str(caught.value)
        for _ in range(4):
            last = refusal(Profile(url=url))
        assert last.status == 429
        assert "you ask too often: wait for" in str(last)


def test_what_is_invalid_is_listed_once() -> None:
    faults = tuple(
        api.Fault(where=f"a.yaml:{n}", resource="Policy /a:b", field="spec", message="is wrong") for n in (1, 2)
    )
    error = ClientError("a.yaml:1: Policy /a:b: spec: is wrong (and 1 more)", status=422, name="invalid", faults=faults)
    assert str(error).splitlines() == [f"a.yaml:{n}: Policy /a:b: spec: is wrong" for n in (1, 2)]


def test_paths_of_resources_are_written_as_they_are_read() -> None:
    assert resource_path("Policy", "/acme/shop:web") == "/v1/resources/Policy/acme/shop:web"
    assert resource_path("Policy", "/:all") == "/v1/resources/Policy/:all"
    assert resource_path("Host", "a?b#c%") == "/v1/resources/Host/a%3Fb%23c%25"


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Proxy) as proxy, served(FakeService()) as url:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        with Client(Profile(url=url, token="admin-token")) as client:  # noqa: S106
            assert client.ask("GET", "/v1/status", api.Status).revision == 0
    assert not asked
