"""Who this host is to controllers: its key, its certificate, whom it believes, and where they are.

host.key, host.pem   its key, which never leaves it, and its certificate
ca.pem               the authority of the site
controllers.json     where controllers are, for people (https) and for agents (wss)
host.key.next        a key whose certificate has been asked for
host.pem.next        its certificate, while one replaces the other
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import ssl
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature

from serai.wire import api
from serai.wire.keypair import PkiError, key_digest, key_pem, make_csr, new_key, prove, read_key
from serai.wire.pki import HostIdentity, identity_of, read_certificate
from serai.wire.private import PrivateFileError, read_private, sync_directory, write_private
from serai.wire.tls import TlsError, agents_context, host_context, peer_context


class IdentityError(RuntimeError):
    """What this host shows controllers cannot be used; the message says what is wrong and what to do."""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where controllers are."""

    controllers: list[str] = []
    """``https://name:port``."""
    agents: list[str] = []
    """``wss://name:port``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a host has joined as."""

    certificate: HostIdentity
    addresses: Addresses


class Identity:
    """The directory of a host's identity."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``; nothing is read yet."""
        self._directory = directory
        self._key, self._next_key = directory / "host.key", directory / "host.key.next"
        self._certificate, self._next_certificate = directory / "host.pem", directory / "host.pem.next"
        self._ca, self._addresses = directory / "ca.pem", directory / "controllers.json"

    @property
    def joined(self) -> bool:
        """Whether this host has joined."""
        return self._certificate.exists()

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """What tells one state of the files from another."""
        told = []
        for file in (self._certificate, self._addresses):
            with contextlib.suppress(OSError):
                status = file.stat()
                told.append((status.st_ino, status.st_mtime_ns))
        return tuple(told)

    def read(self) -> Joined:
        """Read what this host has joined as.

        Raises:
            IdentityError: it has not, or the files do not belong together.
        """
        try:
            self._finish()
            certificate = read_certificate(self._certificate.read_text())
            identity = identity_of(certificate)
            certificate.verify_directly_issued_by(read_certificate(self.ca()))
            if key_digest(read_key(read_private(self._key).decode()).public_key()) != identity.key:
                raise PkiError("host.key and host.pem do not belong together")  # noqa: TRY301
            return Joined(certificate=identity, addresses=self._read_addresses())
        except (PkiError, PrivateFileError, OSError, ValueError, TypeError, InvalidSignature) as error:
            why = str(error) or "the certificate was not signed by the authority in ca.pem"
            raise IdentityError(
                f"what this host shows controllers ({self._directory}) cannot be used: {why}; join it again"
            ) from error

    def ca(self) -> str:
        """The authority's certificate, PEM.

        Raises:
            OSError: it cannot be read.
        """
        return self._ca.read_text()

    def context(self) -> ssl.SSLContext:
        """Return how this host shows who it is.

        Raises:
            IdentityError: it cannot.
        """
        try:
            return host_context(self._certificate, self._key, self._ca)
        except TlsError as error:
            raise IdentityError(str(error)) from error

    def reaching(self) -> ssl.SSLContext:
        """Return how this host shows another host of the site who it is.

        Raises:
            IdentityError: it cannot.
        """
        try:
            return peer_context(self._certificate, self._key, self._ca)
        except TlsError as error:
            raise IdentityError(str(error)) from error

    def listening(self) -> ssl.SSLContext:
        """Return how this host lets other hosts of the site in.

        Raises:
            IdentityError: it cannot.
        """
        try:
            return agents_context(self._certificate, self._key, self._ca)
        except TlsError as error:
            raise IdentityError(str(error)) from error

    def request(self, host: str) -> str:
        """Ask for a certificate for a new key. It is the one asked for before, where no answer has come to that.

        Raises:
            IdentityError: the disk refuses.
        """
        try:
            if self._next_key.exists():
                key = read_key(read_private(self._next_key).decode())
            else:
                key = new_key()
                write_private(self._next_key, key_pem(key).encode())
        except (PrivateFileError, PkiError, ValueError) as error:
            raise IdentityError(f"a new key cannot be made: {error}") from error
        return make_csr(key, host)

    def renewal(self, host: str) -> api.RenewRequest:
        """Ask for a certificate with the one that there is.

        Raises:
            IdentityError: the disk refuses.
        """
        csr = self.request(host)
        try:
            signature = prove(csr, read_key(read_private(self._key).decode()))
            certificate = self._certificate.read_text()
        except (PrivateFileError, PkiError, OSError, ValueError) as error:
            raise IdentityError(f"the certificate cannot be renewed: {error}") from error
        return api.RenewRequest(certificate=certificate, csr=csr, signature=base64.b64encode(signature).decode())

    def install(self, certificate: str, host: str, *, ca: str | None = None) -> HostIdentity:
        """Use ``certificate``, which is for the key that was asked for, from now on; with it ``ca``, at the first time.

        Raises:
            IdentityError: it is not for this host and that key, or not of the authority; or the disk refuses.
        """
        try:
            read = read_certificate(certificate)
            identity = identity_of(read)
            read.verify_directly_issued_by(read_certificate(ca or self.ca()))
            wanted = key_digest(read_key(read_private(self._next_key).decode()).public_key())
            if (identity.host, identity.key) != (host, wanted):
                raise PkiError(f"it is for host {identity.host}, or for another key")  # noqa: TRY301
            if ca is not None:
                write_private(self._ca, ca.encode(), mode=0o644)
            write_private(self._next_certificate, certificate.encode())
            self._finish()
        except (PkiError, PrivateFileError, OSError, ValueError, TypeError, InvalidSignature) as error:
            why = str(error) or "another authority has signed it"
            raise IdentityError(f"the certificate that the controller has sent cannot be used: {why}") from error
        return identity

    def write_addresses(self, addresses: Addresses) -> None:
        """Keep where controllers are.

        Raises:
            IdentityError: the disk refuses.
        """
        try:
            write_private(self._addresses, msgspec.json.encode(addresses) + b"\n")
        except PrivateFileError as error:
            raise IdentityError(str(error)) from error

    def _read_addresses(self) -> Addresses:
        try:
            return msgspec.json.decode(self._addresses.read_bytes(), type=Addresses)
        except FileNotFoundError:
            return Addresses()

    def _finish(self) -> None:
        """Put a new key and its certificate in the place of the old ones; also where that was cut short before."""
        if not self._next_certificate.exists():
            return
        wanted = identity_of(read_certificate(self._next_certificate.read_text())).key
        for file in (self._next_key, self._key):
            if file.exists() and key_digest(read_key(read_private(file).decode()).public_key()) == wanted:
                file.replace(self._key)
                self._next_certificate.replace(self._certificate)
                sync_directory(self._directory)
                return
        self._next_certificate.unlink()
