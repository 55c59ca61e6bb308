"""The site's authority: what it signs, what it refuses, and what is read out of certificates."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.wire import pki
from serai.wire.jointoken import JoinToken, JoinTokenError
from serai.wire.keypair import PkiError, key_digest, key_pem, make_csr, new_key, prove, read_key, requested_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHORITY = pki.Authority.make(NOW)
OTHER = pki.Authority.make(NOW)
KEY = new_key()
CSR = make_csr(KEY, "a")


def test_a_host_certificate_says_which_host_and_nothing_else_of_the_request() -> None:
    wish = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://serai/host/b")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(KEY, hashes.SHA256())
    )  # fmt: skip
    signed = AUTHORITY.sign_host(wish.public_bytes(serialization.Encoding.PEM).decode(), "a", NOW)
    certificate = pki.read_certificate(signed)
    assert pki.identity_of(certificate) == pki.HostIdentity(
        host="a", serial=f"{certificate.serial_number:x}", key=key_digest(KEY.public_key()),
        since=NOW - timedelta(hours=2), until=NOW + timedelta(hours=24),
    )  # fmt: skip
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert pki.names_of(certificate) == set(), "nobody looks for a controller and finds it"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "b" not in certificate.subject.rfc4514_string().split()
    certificate.verify_directly_issued_by(AUTHORITY.certificate)


def test_what_is_not_proven_to_be_held_is_not_signed() -> None:
    theirs = x509.load_pem_x509_csr(make_csr(new_key(), "a").encode())
    body = bytearray(theirs.public_bytes(serialization.Encoding.DER))
    body[-3] ^= 1
    spoiled = (
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.b64encode(bytes(body)).decode()
        + "\n-----END CERTIFICATE REQUEST-----\n"
    )
    with pytest.raises(PkiError, match="does not hold"):
        AUTHORITY.sign_host(spoiled, "a", NOW)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_other_kinds_of_keys_are_not_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(PkiError, match="another kind of key"):
        requested_key(csr.public_bytes(serialization.Encoding.PEM).decode())


@pytest.mark.parametrize("host", ["", "A", "a/b", "a b", "-a", "a.b", "a" * 64, "\x00"])
def test_only_hosts_names_are_signed(host: str) -> None:
    with pytest.raises(PkiError, match="not a host's name"):
        AUTHORITY.sign_host(CSR, host, NOW)


@pytest.mark.parametrize("names", [[], ["a b"], ["*.example"], ["a\n"], ["http://c1"], [""]])
def test_a_controller_must_have_names_that_can_be_reached(names: list[str]) -> None:
    with pytest.raises(PkiError, match=r"name|address"):
        AUTHORITY.sign_server(KEY.public_key(), names, NOW)


def test_a_controller_is_no_host_and_a_host_no_controller() -> None:
    server = pki.read_certificate(AUTHORITY.sign_server(KEY.public_key(), ["c1", "127.0.0.1", "::1"], NOW))
    assert pki.names_of(server) == {"c1", "127.0.0.1", "::1"}
    with pytest.raises(PkiError, match="not a host's"):
        pki.identity_of(server)
    with pytest.raises(PkiError, match="not a host's"):
        pki.identity_of(AUTHORITY.certificate)


def host_for(*purposes: x509.ObjectIdentifier) -> x509.Certificate:
    """A host's certificate that is good for these things."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "_BOTH", purposes)
        return pki.read_certificate(AUTHORITY.sign_host(CSR, "a", NOW))


SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def test_a_certificate_of_before_still_says_which_host() -> None:
    before, now = pki.identity_of(host_for(CLIENT)), pki.identity_of(host_for(SERVER, CLIENT))
    assert (before.host, before.listens) == ("a", False)
    assert (now.host, now.listens) == ("a", True)


@pytest.mark.parametrize(
    "purposes",
    [(SERVER,), (SERVER, CLIENT, ExtendedKeyUsageOID.CODE_SIGNING), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)],
)
def test_what_is_good_for_other_things_is_no_hosts(purposes: tuple[x509.ObjectIdentifier, ...]) -> None:
    with pytest.raises(PkiError, match="not a host's"):
        pki.identity_of(host_for(*purposes))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=50, deadline=None)
def test_what_is_no_pem_is_said_to_be_none(text: str) -> None:
    for read in (pki.read_certificate, read_key, requested_key, pki.ca_hash):
        with pytest.raises(PkiError):
            read(text)


def test_an_authority_is_read_back_and_its_parts_must_fit() -> None:
    again = pki.Authority.read(AUTHORITY.pem, key_pem(AUTHORITY.key))
    assert again.certificate == AUTHORITY.certificate
    with pytest.raises(PkiError, match="belong together"):
        pki.Authority.read(AUTHORITY.pem, key_pem(OTHER.key))
    host = AUTHORITY.sign_host(CSR, "a", NOW)
    with pytest.raises(PkiError, match="not an authority's"):
        pki.Authority.read(host, key_pem(KEY))


class TestRenewal:
    OLD = AUTHORITY.sign_host(CSR, "a", NOW)
    NEW_CSR = make_csr(new_key(), "a")

    def check(
        self, *, at: datetime, certificate: str = OLD, csr: str = NEW_CSR, proof: bytes | None = None
    ) -> pki.HostIdentity:
        return pki.proven(csr, prove(csr, KEY) if proof is None else proof, certificate, AUTHORITY.certificate, at)

    @pytest.mark.parametrize("after", [timedelta(0), timedelta(hours=25), timedelta(days=31) - timedelta(seconds=1)])
    def test_a_certificate_is_good_for_the_next_until_thirty_days_after(self, after: timedelta) -> None:
        assert self.check(at=NOW + after).host == "a"

    def test_not_later(self) -> None:
        with pytest.raises(PkiError, match="join it again"):
            self.check(at=NOW + timedelta(days=31, seconds=1))

    def test_not_before_its_time(self) -> None:
        with pytest.raises(PkiError, match="time to come"):
            self.check(at=NOW - timedelta(hours=3))

    def test_not_with_another_key(self) -> None:
        with pytest.raises(PkiError, match="does not hold its key"):
            self.check(at=NOW, proof=prove(self.NEW_CSR, new_key()))

    def test_not_for_another_request(self) -> None:
        with pytest.raises(PkiError, match="does not hold its key"):
            self.check(at=NOW, csr=make_csr(new_key(), "a"), proof=prove(self.NEW_CSR, KEY))

    def test_not_of_another_site(self) -> None:
        with pytest.raises(PkiError, match="not signed here"):
            self.check(at=NOW, certificate=OTHER.sign_host(CSR, "a", NOW))

    def test_not_for_a_controller(self) -> None:
        with pytest.raises(PkiError, match="not a host's"):
            self.check(at=NOW, certificate=AUTHORITY.sign_server(KEY.public_key(), ["c1"], NOW))


class TestJoinToken:
    TOKEN = JoinToken(id="t-1_x", secret=bytes(range(32)), ca_hash=pki.ca_hash(AUTHORITY.pem))

    @given(st.binary(min_size=32, max_size=32))
    def test_it_is_read_back(self, secret: bytes) -> None:
        token = JoinToken(id="x", secret=secret, ca_hash=self.TOKEN.ca_hash)
        assert JoinToken.parse(f" {token}\n") == token
        assert len(token.secret_digest) == 32

    @pytest.mark.parametrize("at", ["end", "start", "version", "hash"])
    def test_half_of_it_is_none(self, at: str) -> None:
        text = str(self.TOKEN)
        spoiled = {"end": text[:-1], "start": text[1:], "version": "serai2" + text[6:], "hash": text[:-1] + "G"}[at]
        with pytest.raises(JoinTokenError, match="no join token"):
            JoinToken.parse(spoiled)

    def test_its_secret_is_not_shown_by_chance(self) -> None:
        assert "secret" not in repr(self.TOKEN)
