"""Who is who: the site's own authority, and what it signs for controllers and for hosts.

There is one kind of key, ECDSA on P-256. A controller's certificate says under which names it is reached; a host's says which host
it is, in a URI and nowhere else: it has no name that anybody could reach it by, so that it is taken for no controller, and who
reaches a host asks for its URI. A host makes its key itself: of what it asks to be signed nothing but the public key is taken.
Times are arguments.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from serai.model.tenancy import is_name
from serai.wire.keypair import PkiError, check_proof, key_digest, named, new_key, public_bytes, read_key, requested_key

AUTHORITY_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=365)
HOST_LIFE: Final = timedelta(hours=24)
BACKDATED: Final = timedelta(hours=2)
"""How far behind the authority's a clock may be that must find a new certificate valid."""
RENEWABLE: Final = timedelta(days=30)
"""How long after its end a host's certificate is still good for asking for the next, and for nothing else."""

_HOST_URI: Final = "spiffe://serai/host/"
_CONTROLLER_URI: Final = "spiffe://serai/controller"
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_BOTH: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_BEFORE: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
"""What the certificates of hosts were good for before one host listened to another."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostIdentity:
    """What a host's certificate says."""

    host: str
    serial: str
    """In hexadecimal."""
    key: bytes
    """The digest of its public key (see ``key_digest``)."""
    listens: bool = True
    """Other hosts may find it with this certificate; one of before says only who it is where it connects itself."""
    since: datetime
    until: datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The site's authority: whom it has signed, everybody here trusts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, now: datetime) -> Self:
        """Make a new one: nobody trusts it yet."""
        key = new_key()
        name = f"Serai {key_digest(key.public_key()).hex()[:12]}"
        usage = _usage(signs_certificates=True)
        certificate = (
            _dated(name, key.public_key(), now, AUTHORITY_LIFE)
            .issuer_name(named(name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate=certificate, key=key)

    @classmethod
    def read(cls, certificate: str, key: str) -> Self:
        """Read PEM.

        Raises:
            PkiError: they are no certificate of an authority and its key.
        """
        read, private = read_certificate(certificate), read_key(key)
        if public_bytes(read.public_key()) != public_bytes(private.public_key()):
            raise PkiError("the authority's certificate and its key do not belong together")
        _require_authority(read)
        return cls(certificate=read, key=private)

    @property
    def pem(self) -> str:
        """The certificate."""
        return pem_of(self.certificate)

    def sign_server(self, public: ec.EllipticCurvePublicKey, names: Iterable[str], now: datetime) -> str:
        """Sign, for a controller, that it is reached by these names and addresses; returns PEM.

        Raises:
            PkiError: one of them is neither a host's name nor an IP address, or there is none.
        """
        called = [_general(name) for name in names]
        if not called:
            raise PkiError("a controller's certificate needs a name or an address by which agents and people reach it")
        alternatives = x509.SubjectAlternativeName([*called, x509.UniformResourceIdentifier(_CONTROLLER_URI)])
        made = _dated("Serai controller", public, now, SERVER_LIFE)
        return self._sign(made, alternatives, x509.ExtendedKeyUsage(_BOTH))

    def sign_host(self, csr: str, host: str, now: datetime) -> str:
        """Sign, for ``host``, the public key in a request, and nothing else of it; returns PEM.

        Raises:
            PkiError: the request is none, or whoever made it does not hold the key; or ``host`` is no host's name.
        """
        if not is_name(host):
            raise PkiError(f"{host!r} is not a host's name")
        alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_HOST_URI + host)])
        made = _dated(f"Serai host {host}", requested_key(csr), now, HOST_LIFE)
        return self._sign(made, alternatives, x509.ExtendedKeyUsage(_BOTH))

    def _sign(
        self, made: x509.CertificateBuilder, alternatives: x509.SubjectAlternativeName, purposes: x509.ExtendedKeyUsage
    ) -> str:
        mine = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        usage = _usage(signs_certificates=False)
        certificate = (
            made.issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(purposes, critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(mine, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return pem_of(certificate)


def read_certificate(pem: str) -> x509.Certificate:
    """Read PEM: one certificate.

    Raises:
        PkiError: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"this is no certificate: {error}") from error


def pem_of(certificate: x509.Certificate) -> str:
    """Write a certificate down."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def ca_hash(pem: str) -> str:
    """Name an authority by the hash of its certificate: ``sha256:`` and hexadecimal digits.

    Raises:
        PkiError: ``pem`` is no certificate.
    """
    return f"sha256:{hashlib.sha256(read_certificate(pem).public_bytes(serialization.Encoding.DER)).hexdigest()}"


def identity_of(certificate: x509.Certificate) -> HostIdentity:
    """Return what a host's certificate says. Who has signed it is for the caller to know.

    Raises:
        PkiError: it is not a host's.
    """
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        public = certificate.public_key()
    except (x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"this certificate is not a host's: {error}") from error
    uri, *others = list(alternatives) or [None]
    if others or not isinstance(uri, x509.UniformResourceIdentifier) or not uri.value.startswith(_HOST_URI):
        raise PkiError("this certificate is not a host's")
    host = uri.value.removeprefix(_HOST_URI)
    known = set(purposes) in (set(_BOTH), set(_BEFORE))
    if not is_name(host) or not known or not isinstance(public, ec.EllipticCurvePublicKey):
        raise PkiError("this certificate is not a host's")
    return HostIdentity(
        host=host,
        serial=f"{certificate.serial_number:x}",
        key=key_digest(public),
        listens=ExtendedKeyUsageOID.SERVER_AUTH in purposes,
        since=certificate.not_valid_before_utc,
        until=certificate.not_valid_after_utc,
    )


def identity_of_der(raw: bytes) -> HostIdentity:
    """The same of what a TLS connection tells of its peer.

    Raises:
        PkiError: it is not a host's certificate.
    """
    try:
        return identity_of(x509.load_der_x509_certificate(raw))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(str(error)) from error


def proven(csr: str, signature: bytes, certificate: str, authority: x509.Certificate, now: datetime) -> HostIdentity:
    """Return whose certificate the request replaces: one of this authority, over for at most ``RENEWABLE``.

    Raises:
        PkiError: it is not, or the request is not signed with its key.
    """
    before = read_certificate(certificate)
    try:
        before.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PkiError("the certificate to be renewed was not signed here: join this host again") from error
    identity = identity_of(before)
    if now > identity.until + RENEWABLE:
        raise PkiError(f"the certificate of host {identity.host} ended on {identity.until:%Y-%m-%d}: join it again")
    if now < identity.since:
        raise PkiError(f"the certificate of host {identity.host} is of a time to come: see to the controller's clock")
    public = before.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)  # noqa: S101  (identity_of has looked)
    try:
        check_proof(csr, signature, public)
    except PkiError as error:
        raise PkiError(
            f"whoever asks to renew the certificate of host {identity.host} does not hold its key"
        ) from error
    return identity


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses by which a controller is reached, as its certificate says."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return {
        *alternatives.get_values_for_type(x509.DNSName),
        *map(str, alternatives.get_values_for_type(x509.IPAddress)),
    }


def _require_authority(certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise PkiError("this certificate is not an authority's") from error
    if not constraints.ca:
        raise PkiError("this certificate is not an authority's")


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _DNS_NAME.fullmatch(name.lower()):
        raise PkiError(f"{name!r} is neither the name of a machine nor an IP address")
    return x509.DNSName(name.lower())


def _dated(name: str, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta) -> x509.CertificateBuilder:
    """What all certificates have; who issues it is still to be said."""
    now = now.astimezone(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
