"""Believes an OpenID provider: what its ID tokens must be, and what the people are that it speaks for."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import httpx2
import msgspec
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from serai.access.roles import Grant
from serai.wire.oidc import OidcError, discovery_url, hashed, is_safe, read_discovery

_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
"""Those with a public key. What is signed with a shared secret, or not at all, is nobody's word."""
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
_LEEWAY_SECONDS: Final = 60
_LONGEST_SUBJECT: Final = 255
_KEPT: Final = timedelta(hours=1)
"""So long the provider's keys are believed without asking again."""
_AGAIN: Final = timedelta(seconds=10)
"""So often at the most it is asked because a token names a key that nobody knows."""
_LARGEST: Final = 1 << 20
"""Bytes of an answer."""


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[oidc]`` of a controller's config file."""

    issuer: str
    client_id: str
    claim: str | None = None
    """A claim that holds words, such as ``groups``."""
    grants: Mapping[str, Sequence[str]] = {}
    """What each of these words gives: ``netops = ["operator:/"]``."""

    def __post_init__(self) -> None:
        """Refuse what could not be believed, and grants that are none."""
        if not is_safe(self.issuer) or " " in self.issuer:
            raise ValueError(f"issuer must be an https address, not {self.issuer!r}")
        if self.grants and self.claim is None:
            raise ValueError("grants need a claim that holds their words, such as claim = 'groups'")
        for grant in (grant for grants in self.grants.values() for grant in grants):
            Grant.read(grant)

    def given(self, claims: Mapping[str, Any]) -> tuple[Grant, ...]:
        """Return what somebody with these claims may do."""
        said = claims.get(self.claim) if self.claim is not None else None
        words = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        texts = (grant for word in words if isinstance(word, str) for grant in self.grants.get(word, ()))
        return tuple(dict.fromkeys(map(Grant.read, texts)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody for whom the provider speaks."""

    issuer: str
    subject: str
    username: str
    """What the provider calls them; may change, and may be anybody's tomorrow."""
    grants: tuple[Grant, ...]
    """By the claims."""

    @property
    def oidc(self) -> str:
        """How a person's record names them."""
        return f"{self.issuer} {self.subject}"


class Oidc:
    """Checks ID tokens of one provider."""

    def __init__(self, settings: OidcSettings, http: httpx2.AsyncClient) -> None:
        """Ask the provider by way of ``http``; nothing is asked yet."""
        self.settings = settings
        self._http = http
        self._keys: KeySet | None = None
        self._asked: datetime | None = None
        self._asking = asyncio.Lock()

    async def identify(self, id_token: str, secret: str, now: datetime) -> Identity:
        """Say who logs in. ``secret``: that of which the token's nonce is the hash.

        Raises:
            OidcError: the token is not the provider's word, not for us, not now, or not for whoever brings it;
                or the provider's keys cannot be had.
        """
        try:
            claims = await self._claims(id_token, now)
            self._registry(now).validate(claims)
        except ExpiredTokenError as error:
            raise OidcError("the ID token has expired: log in again") from error
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise OidcError(f"the ID token is not believed ({str(error)[:200]}): log in again") from error
        self._check_receiver(claims)
        if not 0 < len(claims["sub"]) <= _LONGEST_SUBJECT or not claims["sub"].isprintable():
            raise OidcError("the ID token names a subject that is none: ask whoever runs the OpenID provider")
        if not hmac.compare_digest(str(claims["nonce"]).encode(errors="replace"), hashed(secret).encode()):
            raise OidcError("the ID token was made for another login: log in again")
        return Identity(
            issuer=self.settings.issuer,
            subject=claims["sub"],
            username=str(claims.get("preferred_username") or claims.get("email") or claims["sub"]),
            grants=self.settings.given(claims),
        )

    def _registry(self, now: datetime) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True},
        )

    def _check_receiver(self, claims: Mapping[str, Any]) -> None:
        """Refuse a token that was handed to another client, though we are among those for whom it is."""
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != self.settings.client_id:
            raise OidcError("the ID token was given to another client: log in here")

    async def _claims(self, id_token: str, now: datetime) -> dict[str, Any]:
        try:
            return jwt.decode(id_token, await self._current(now), algorithms=_ALGORITHMS).claims
        except InvalidKeyIdError:
            # Perhaps the provider signs with another key since we asked.
            return jwt.decode(id_token, await self._current(now, older_than=_AGAIN), algorithms=_ALGORITHMS).claims

    async def _current(self, now: datetime, older_than: timedelta = _KEPT) -> KeySet:
        async with self._asking:
            fresh = self._asked is not None and timedelta(0) <= now - self._asked < older_than
            if self._keys is None or not fresh:
                self._keys = await self._fetch()
                self._asked = now
            return self._keys

    async def _fetch(self) -> KeySet:
        issuer = self.settings.issuer
        discovery = read_discovery(issuer, await self._get(discovery_url(issuer)))
        raw = await self._get(discovery.jwks_uri)
        try:
            document = msgspec.json.decode(raw, type=dict[str, Any])
            keys = [key for key in document["keys"] if key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"]
            return KeySet.import_key_set({"keys": keys})
        except (msgspec.MsgspecError, JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise OidcError(f"the OpenID provider {issuer} shows no keys that can be used ({error})") from error

    async def _get(self, url: str) -> bytes:
        body = bytearray()
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != 200:  # noqa: PLR2004  # OK
                    raise OidcError(f"the OpenID provider says {response.status_code} at {url}: try again later")
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _LARGEST:
                        raise OidcError(
                            f"the OpenID provider says more than {_LARGEST} bytes at {url}: it is not believed"
                        )
        except httpx2.HTTPError as error:
            raise OidcError(f"the OpenID provider does not answer at {url} ({error}): try again later") from error
        return bytes(body)
