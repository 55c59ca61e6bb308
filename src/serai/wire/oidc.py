"""OpenID Connect, as far as both ends of a login need it: where a provider has what, and which answers are believed."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from urllib.parse import urlsplit

import msgspec


class OidcError(Exception):
    """A login by way of an OpenID provider fails; the text says why, and what to do."""


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of itself at ``/.well-known/openid-configuration``."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


def discovery_url(issuer: str) -> str:
    """Return where a provider says what it has."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def read_discovery(issuer: str, raw: bytes) -> Discovery:
    """Read what a provider says of itself.

    Raises:
        OidcError: it cannot be read, is another's, or names places that anybody could answer for.
    """
    try:
        found = msgspec.json.decode(raw, type=Discovery)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OidcError(f"{discovery_url(issuer)} is no OpenID configuration ({error}): check the issuer") from error
    if found.issuer != issuer:
        raise OidcError(f"{discovery_url(issuer)} speaks for the issuer {found.issuer!r}: write that one into [oidc]")
    for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
        if not is_safe(url):
            raise OidcError(f"the OpenID provider {issuer} names {url[:200]!r}, which is not https: it is not believed")
    return found


def is_safe(url: str) -> bool:
    """Say whether nobody on the way can answer for ``url``: it is https, or it never leaves this machine."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "https":
            return bool(parts.hostname)
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def hashed(secret: str) -> str:
    """Return what is shown of a secret first: PKCE's challenge (RFC 7636, S256), and the nonce of a login.

    The nonce in an ID token is the hash of what only the client knows that began the login. Whoever finds the token
    alone, in a log or at another service, cannot log in with it (OpenID Connect Core, section 15.5.2).
    """
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode().rstrip("=")
