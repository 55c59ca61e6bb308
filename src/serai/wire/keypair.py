"""Keys: one kind of them, ECDSA on P-256, made where they are used and never sent."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_RENEWAL = b"serai renewal\n"
"""What is signed here is nothing else elsewhere."""


class PkiError(ValueError):
    """A key, a certificate or a request for one is not what it must be; the message says which and why."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Write a private key down, unencrypted: who may read the file is what protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def read_key(pem: str) -> ec.EllipticCurvePrivateKey:
    """Read what ``key_pem`` wrote.

    Raises:
        PkiError: it is no such key.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"this is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("this private key is not one for ECDSA on P-256")
    return key


def make_csr(key: ec.EllipticCurvePrivateKey, host: str) -> str:
    """Ask for a certificate for ``key``. What it says of the host tells people who asks; nobody believes it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(named(f"Serai host {host}"))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def requested_key(csr: str) -> ec.EllipticCurvePublicKey:
    """Return the key that a certificate is asked for; whoever asked holds it.

    Raises:
        PkiError: it is no request, or its signature is not of that key.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        public, signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"this is no request for a certificate: {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise PkiError("a certificate is asked for another kind of key than ECDSA on P-256")
    if not signed:
        raise PkiError("a certificate is asked for a key that the one who asks does not hold")
    return public


def key_digest(public: ec.EllipticCurvePublicKey) -> bytes:
    """Name a key: SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(public_bytes(public)).digest()


def public_bytes(public: object) -> bytes:
    """Write a public key down.

    Raises:
        PkiError: it is not one of those that are used here.
    """
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise PkiError("this key is not one for ECDSA on P-256")
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def prove(csr: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign a request for a certificate with the key of the certificate before."""
    return key.sign(_RENEWAL + csr.encode(), ec.ECDSA(hashes.SHA256()))


def check_proof(csr: str, signature: bytes, public: ec.EllipticCurvePublicKey) -> None:
    """Accept what ``prove`` made with the private half of ``public``.

    Raises:
        PkiError: it did not.
    """
    try:
        public.verify(signature, _RENEWAL + csr.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise PkiError("this proof was not made with that key") from error


def named(name: str) -> x509.Name:
    """Return a name as certificates have it."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
