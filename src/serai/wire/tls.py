"""TLS contexts: who must show what to whom.

Nothing here trusts the authorities of the world: controllers and hosts know one, their site's.
"""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsError(RuntimeError):
    """A certificate or key cannot be used; the message names the file and says what to do."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return how a controller shows people and tools who it is. They show nothing.

    Raises:
        TlsError: the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return _shown(context, certificate, key)


def agents_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return how a controller, or a host that others hand something to, lets in whom ``ca`` has signed, and nobody else.

    Raises:
        TlsError: the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # a session that is resumed is not looked at again: every connection shows its certificate
    return _shown(_trusting(context, _read(ca)), certificate, key)


def host_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return how a host shows a controller of ``ca`` who it is.

    Raises:
        TlsError: the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return _shown(_trusting(context, _read(ca)), certificate, key)


def peer_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return how a host shows another host of ``ca`` who it is.

    Hosts have no names in their certificates: which one was reached is for the caller to look at (``identity_of_der``).

    Raises:
        TlsError: the files cannot be used.
    """
    context = host_context(certificate, key, ca)
    context.check_hostname = False
    return context


def pinned_context(ca: str) -> ssl.SSLContext:
    """Return how to talk to controllers of this authority (PEM), and to nobody else, showing nothing.

    Raises:
        TlsError: it is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return _trusting(context, ca)


def blind_context() -> ssl.SSLContext:
    """Return how to ask whoever answers for what is then checked otherwise: the authority's certificate, against its hash."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def explain(error: ssl.SSLError) -> str:
    """Say what a failed handshake most likely means."""
    reason = (error.reason or "").lower().replace("_", " ")
    told = (error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "") or reason or str(error)
    hints = (
        ("certificate expired", "it finds this host's certificate expired"),
        ("not yet valid", "its certificate is of a time to come: see to this machine's clock"),
        ("has expired", "its certificate is over, or this machine's clock is wrong"),
        ("self-signed", "it is of another site, or somebody is in between"),
        ("unable to get local issuer", "it is of another site, or somebody is in between"),
        ("certificate signature failure", "it is of another site, or somebody is in between"),
        ("mismatch", "its certificate does not name it so: start the controller with this name among its names"),
        ("not valid for", "its certificate does not name it so: start the controller with this name among its names"),
        ("unknown ca", "the other end belongs to another site"),
        ("unsuitable certificate purpose", "it shows a certificate that is not good for being reached"),
    )
    return next((f"{means} ({told})" for part, means in hints if part in told.lower()), told)


def _read(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise TlsError(f"{file} cannot be read: {error}") from error


def _trusting(context: ssl.SSLContext, ca: str) -> ssl.SSLContext:
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"the authority's certificate cannot be used: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    return context


def _shown(context: ssl.SSLContext, certificate: Path, key: Path) -> ssl.SSLContext:
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise TlsError(f"{certificate} and {key} cannot be used: {error}") from error
    return context
