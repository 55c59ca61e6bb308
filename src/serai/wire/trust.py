"""How somebody who knows nothing yet comes to trust a controller: by the fingerprint of its CA."""

from __future__ import annotations

import hashlib
import ssl

import httpx2

from serai.wire.client import Client, ClientError
from serai.wire.profile import Profile

_SECONDS = 10.0


def fingerprint(pem: str) -> str:
    """Write what a certificate is known by: ``sha256:`` and the digest of its DER, in hexadecimal.

    Raises:
        ClientError: it is no certificate.
    """
    try:
        return f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()}"
    except ValueError as error:
        raise ClientError("what the controller calls its CA is no certificate in PEM") from error


def fetch_ca(url: str) -> str:
    """Ask a controller for its CA's certificate, trusting nobody: what comes has to be compared with a fingerprint.

    Raises:
        ClientError: nobody answers there, or no controller does.
    """
    try:
        with httpx2.Client(verify=False, timeout=_SECONDS, trust_env=False) as http:
            response = http.get(f"{url}/v1/ca")
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise ClientError(f"{url} cannot be reached: {error}") from error
    if response.status_code != httpx2.codes.OK:
        raise ClientError(f"{url} is no controller: it answers with status {response.status_code}")
    return response.text


def is_vouched_for(url: str) -> bool:
    """Say whether this machine trusts a controller anyway, or its connection needs no certificate.

    Raises:
        ClientError: the URL makes no sense.
    """
    with Client(Profile(url=url)) as client:
        if url.startswith("http:"):
            return True
        try:
            client.text("/v1/ca")
        except ClientError as error:
            if error.name == "untrusted":
                return False
            raise
    return True
