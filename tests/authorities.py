"""CAs that tests make for themselves."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
