"""The directory of a controller's keys: made at the first start, kept from then on, copied to the site's other controllers.

ca.pem, ca.key          the site's authority; without it no host can join or renew
audit.key               what checkpoints of the audit log are signed with (Ed25519)
server.pem, server.key  this controller's own; made anew when it is half over, or its names have changed
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serai.wire.keypair import PkiError, key_pem, new_key, public_bytes, read_key
from serai.wire.pki import SERVER_LIFE, Authority, ca_hash, names_of, read_certificate
from serai.wire.private import PrivateFileError, read_private, write_private

_CA, _CA_KEY, _AUDIT_KEY, _SERVER, _SERVER_KEY = "ca.pem", "ca.key", "audit.key", "server.pem", "server.key"
_READABLE: Final = 0o644


class KeysError(RuntimeError):
    """The keys of a controller cannot be used; the message says what is wrong and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditSigner:
    """Signs checkpoints of the audit log, and knows its own signatures."""

    origin: str
    """Names the log."""
    key: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The public key: 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature: 64 bytes."""
        return self.key.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Say whether this key has signed that."""
        try:
            self.key.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a controller must keep to itself."""

    directory: Path
    authority: Authority
    audit: Ed25519PrivateKey

    @classmethod
    def open(cls, directory: Path, *, names: Sequence[str], now: datetime) -> Self:
        """Read the keys of a controller that is reached by ``names``, and make those that are missing.

        Raises:
            KeysError: others may read them, they do not belong together, or a part of what was there is gone.
        """
        try:
            with _alone(directory):
                authority = _authority(directory, now)
                audit = _audit_key(directory)
                _server(directory, authority, names, now)
        except (PkiError, PrivateFileError) as error:
            raise KeysError(f"the keys in {directory} cannot be used: {error}") from error
        except OSError as error:
            raise KeysError(f"the keys in {directory} cannot be used: {error.strerror or error}") from error
        return cls(directory=directory, authority=authority, audit=audit)

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / _CA

    @property
    def server(self) -> Path:
        """This controller's certificate."""
        return self.directory / _SERVER

    @property
    def server_key(self) -> Path:
        """This controller's key."""
        return self.directory / _SERVER_KEY

    def audit_signer(self, origin: str | None = None) -> AuditSigner:
        """Return what signs the audit log, which is called after the authority where it has no name of its own."""
        named = origin or f"serai/{ca_hash(self.authority.pem).removeprefix('sha256:')[:16]}"
        return AuditSigner(origin=named, key=self.audit)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two controllers that start in one directory must not each make an authority."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _authority(directory: Path, now: datetime) -> Authority:
    certificate, key = directory / _CA, directory / _CA_KEY
    if not certificate.exists() and not key.exists():
        authority = Authority.make(now)
        write_private(key, key_pem(authority.key).encode())
        write_private(certificate, authority.pem.encode(), mode=_READABLE)
        return authority
    for file in (certificate, key):
        if not file.exists():  # making another would lock out every host that has joined
            raise PkiError(f"{file.name} is gone: bring it back from a backup or from another controller of the site")
    authority = Authority.read(_text(certificate.read_bytes()), _text(read_private(key)))
    if now > authority.certificate.not_valid_after_utc:
        raise PkiError(f"{certificate.name} ended on {authority.certificate.not_valid_after_utc:%Y-%m-%d}")
    return authority


def _audit_key(directory: Path) -> Ed25519PrivateKey:
    file = directory / _AUDIT_KEY
    if not file.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(file, pem)
        return made
    try:
        key = serialization.load_pem_private_key(read_private(file), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{file.name} is no private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PkiError(f"{file.name} is not an Ed25519 key")
    return key


def _server(directory: Path, authority: Authority, names: Sequence[str], now: datetime) -> None:
    certificate, key = directory / _SERVER, directory / _SERVER_KEY
    if certificate.exists() and key.exists():
        held = read_key(_text(read_private(key)))
        if _still_good(
            read_certificate(_text(certificate.read_bytes())), public_bytes(held.public_key()), authority, names, now
        ):
            return
    fresh = new_key()
    signed = authority.sign_server(fresh.public_key(), names, now)
    certificate.unlink(missing_ok=True)  # a crash in between leaves none, which is made at the next start
    write_private(key, key_pem(fresh).encode())
    write_private(certificate, signed.encode(), mode=_READABLE)


def _still_good(
    certificate: x509.Certificate, public: bytes, authority: Authority, names: Sequence[str], now: datetime
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    fresh = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - SERVER_LIFE / 2
    return (
        fresh
        and public_bytes(certificate.public_key()) == public
        and names_of(certificate) == {n.lower() for n in names}
    )


def _text(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise PkiError("a file that should be PEM is none") from None
