"""Logins by way of an OpenID provider: what is believed, what is not, and whom it makes."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from people_memory import START, Memory, after, people_of

from oidc_provider import CLIENT, Provider, provider, rsa
from serai.access.decide import Caller
from serai.access.roles import Grant
from serai.controller.errors import NotAuthenticatedError, TooMuchError
from serai.controller.oidc import Oidc, OidcSettings
from serai.controller.people import People
from serai.wire import api
from serai.wire.oidc import OidcError, hashed

SECRET = "what only the client knows"  # noqa: S105  # of these tests alone
NOW = int(START.timestamp())
GIVES = {"netops": ["operator:/", "viewer:/"], "acme": ["policy-editor:/acme"]}


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as found:
        yield found


def claims(idp: Provider, **more: Any) -> dict[str, Any]:
    said = {
        "iss": idp.issuer, "aud": CLIENT, "sub": "007", "iat": NOW, "exp": NOW + 300, "nonce": hashed(SECRET),
        "preferred_username": "Ann Example", "groups": ["netops", "cooks"],
    } | more  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def settings(idp: Provider) -> OidcSettings:
    return OidcSettings(issuer=idp.issuer, client_id=CLIENT, claim="groups", grants=GIVES)


def with_people(idp: Provider, test: Callable[[People, Memory], Awaitable[None]]) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(timeout=5) as http:
            store = Memory()
            people = people_of(store, oidc=Oidc(settings(idp), http))
            await people.bootstrap(START)
            await test(people, store)

    asyncio.run(run())


def identify(idp: Provider, *tokens: str, secret: str = SECRET, seconds: float = 0) -> Any:
    async def run() -> Any:
        async with httpx2.AsyncClient(timeout=5) as http:
            oidc = Oidc(settings(idp), http)
            return [await oidc.identify(token, secret, after(seconds)) for token in tokens][-1]

    return asyncio.run(run())


def test_a_good_token_is_believed(idp: Provider) -> None:
    found = identify(idp, idp.token(claims(idp)))
    assert (found.oidc, found.username) == (f"{idp.issuer} 007", "Ann Example")
    assert found.grants == (Grant.read("operator:/"), Grant.read("viewer:/"))
    assert identify(idp, idp.token(claims(idp, aud=[CLIENT, "other"], azp=CLIENT))).subject == "007"
    assert identify(idp, idp.token(claims(idp)), seconds=359).subject == "007"
    assert identify(idp, idp.token(claims(idp, groups="acme"))).grants == (Grant.read("policy-editor:/acme"),)
    assert identify(idp, idp.token(claims(idp, groups=[7, None, {"netops": 1}]))).grants == ()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "issuer": ({"iss": "https://evil.example"}, "iss"),
    "no-issuer": ({"iss": None}, "iss"),
    "audience": ({"aud": "other"}, "aud"),
    "audience-list": ({"aud": ["other"]}, "aud"),
    "audience-like": ({"aud": CLIENT + "x"}, "aud"),
    "no-audience": ({"aud": None}, "aud"),
    "given-to-another": ({"aud": [CLIENT, "other"], "azp": "other"}, "another client"),
    "given-to-nobody": ({"aud": [CLIENT, "other"]}, "another client"),
    "alone-but-given-to-another": ({"azp": "other"}, "another client"),
    "expired": ({"iat": NOW - 900, "exp": NOW - 61}, "expired"),
    "no-expiry": ({"exp": None}, "exp"),
    "odd-expiry": ({"exp": "tomorrow"}, "exp"),
    "from-the-future": ({"iat": NOW + 120}, "iat|future"),
    "not-yet": ({"nbf": NOW + 120}, "nbf|yet"),
    "no-nonce": ({"nonce": None}, "nonce"),
    "nonce": ({"nonce": hashed("another secret")}, "another login"),
    "nonce-plain": ({"nonce": SECRET}, "another login"),
    "no-subject": ({"sub": None}, "sub"),
    "empty-subject": ({"sub": ""}, "sub"),
    "odd-subject": ({"sub": "a\0b"}, "subject"),
    "long-subject": ({"sub": "x" * 256}, "subject"),
    "number-as-subject": ({"sub": 7}, "sub"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_token_says_must_be_right(idp: Provider, wrong: str) -> None:
    said, why = WRONG[wrong]
    with pytest.raises(OidcError, match=why):
        identify(idp, idp.token(claims(idp, **said)))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unsigned(idp: Provider, alg: str) -> str:
    parts = ({"alg": alg, "kid": "one"}, claims(idp))
    return ".".join(b64(json.dumps(part).encode()) for part in parts) + "."


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "RS256"])
def test_what_nobody_signed_is_nobodys_word(idp: Provider, alg: str) -> None:
    with pytest.raises(OidcError):
        identify(idp, unsigned(idp, alg))


@pytest.mark.parametrize("form", ["pem", "der", "n"])
def test_the_public_key_is_no_shared_secret(idp: Provider, form: str) -> None:
    [key] = idp.keys
    assert isinstance(key, RSAKey)
    secrets = {
        "pem": key.as_pem(private=False),
        "der": key.as_der(private=False),
        "n": str(key.as_dict()["n"]).encode(),
    }
    # By hand, as whoever attacks does: joserfc makes no such key.
    head, body = (b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "one"}, claims(idp)))
    signature = hmac.digest(secrets[form], f"{head}.{body}".encode(), "sha256")
    with pytest.raises(OidcError, match="HS256"):
        identify(idp, f"{head}.{body}.{b64(signature)}")


def test_shared_secrets_that_the_provider_shows_are_not_used(idp: Provider) -> None:
    shared = OctKey.generate_key(256, {"kid": "shared"})
    idp.documents["/jwks"] = json.dumps(
        {"keys": [shared.as_dict(private=True), idp.keys[0].as_dict(private=False)]}
    ).encode()
    assert identify(idp, idp.token(claims(idp)))
    with pytest.raises(OidcError):
        identify(idp, idp.token(claims(idp), shared, alg="HS256"))


def test_a_key_of_another_is_none(idp: Provider) -> None:
    for kid in ("one", "two"):
        with pytest.raises(OidcError):
            identify(idp, idp.token(claims(idp), rsa(kid)))
    with pytest.raises(OidcError):
        identify(idp, idp.token(claims(idp), ECKey.generate_key("P-256", {"kid": "one"}), alg="ES256"))
    stranger = rsa("one")
    with pytest.raises(OidcError):
        identify(idp, idp.token(claims(idp), stranger, jwk=stranger.as_dict(private=False)))
    with pytest.raises(OidcError):
        identify(idp, idp.token(claims(idp), stranger, jku=f"{idp.issuer}/evil"))


def test_a_token_that_was_changed_is_none(idp: Provider) -> None:
    head, body, signature = idp.token(claims(idp)).split(".")
    other = b64(json.dumps(claims(idp, sub="1")).encode())
    for text in (
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "",
        ".",
        "a.b.c",
        "\ud800",
        head * 10000,
    ):
        with pytest.raises(OidcError):
            identify(idp, text)


def test_keys_are_asked_for_once_and_again_when_they_rotate(idp: Provider) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(timeout=5) as http:
            oidc = Oidc(settings(idp), http)
            old = idp.token(claims(idp))
            for _ in range(3):
                await oidc.identify(old, SECRET, START)
            assert idp.asked.count("/jwks") == 1
            idp.keys = [rsa("two")]
            new = idp.token(claims(idp))
            with pytest.raises(OidcError):
                await oidc.identify(new, SECRET, after(9))
            assert idp.asked.count("/jwks") == 1, "asked a moment ago"
            assert await oidc.identify(new, SECRET, after(11))
            assert idp.asked.count("/jwks") == 2
            with pytest.raises(OidcError):
                await oidc.identify(old, SECRET, after(12))
            idp.keys = [rsa("two")]
            with pytest.raises(OidcError):  # the same name for another key
                await oidc.identify(idp.token(claims(idp)), SECRET, after(60))
            assert await oidc.identify(idp.token(claims(idp, iat=NOW + 3620, exp=NOW + 4000)), SECRET, after(3620))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/.well-known/openid-configuration", b"<html>", "no OpenID configuration"),
        ("/.well-known/openid-configuration", b"\xff", "no OpenID configuration"),
        ("/.well-known/openid-configuration", b"{}", "no OpenID configuration"),
        ("/jwks", b"[]", "no keys"),
        ("/jwks", b'{"keys": []}', "no keys"),
        ("/jwks", b'{"keys": [7]}', "no keys"),
        ("/jwks", b'{"keys": [{"kty": "RSA"}]}', "no keys"),
        ("/jwks", b" " * (1 << 20) + b"{}", "more than"),
    ],
)
def test_a_provider_that_talks_nonsense_is_told_so(idp: Provider, path: str, body: bytes, why: str) -> None:
    idp.documents[path] = body
    with pytest.raises(OidcError, match=why):
        identify(idp, idp.token(claims(idp)))


def test_a_provider_that_speaks_for_another_is_not_believed(idp: Provider) -> None:
    told = {
        "issuer": "https://evil.example",
        "authorization_endpoint": "https://a",
        "token_endpoint": "https://a",
        "jwks_uri": "https://a",
    }
    idp.documents["/.well-known/openid-configuration"] = json.dumps(told).encode()
    with pytest.raises(OidcError, match="evil"):
        identify(idp, "a.b.c")
    told |= {"issuer": idp.issuer, "jwks_uri": "http://192.0.2.1/jwks"}
    idp.documents["/.well-known/openid-configuration"] = json.dumps(told).encode()
    with pytest.raises(OidcError, match="not https"):
        identify(idp, "a.b.c")


def test_a_provider_that_is_away_is_told_so() -> None:
    with provider() as gone:
        token = gone.token(claims(gone))
    with pytest.raises(OidcError, match="does not answer"):
        identify(gone, token)


# Whom it makes


def test_people_of_the_provider_are_what_it_says_today(idp: Provider) -> None:
    async def test(people: People, store: Memory) -> None:
        first = await people.login_oidc(idp.token(claims(idp)), SECRET, "192.0.2.1", START)
        assert (first.person, first.grants[0]) == ("ann-example@oidc", api.GrantBody(role="operator", scope="/"))
        caller = await people.authenticate(first.secret or "", START)
        assert caller == Caller(name="ann-example@oidc", grants=caller.grants, token=first.id) if caller else False
        await people.login_oidc(idp.token(claims(idp, groups=["acme"])), SECRET, "192.0.2.1", START)
        later = await people.authenticate(first.secret or "", START)
        assert later
        assert later.grants == (Grant.read("policy-editor:/acme"),)
        with pytest.raises(NotAuthenticatedError, match="no rights"):
            await people.login_oidc(idp.token(claims(idp, groups=[])), SECRET, "192.0.2.1", START)
        assert store.persons["ann-example@oidc"].grants == ()
        assert [entry.verb for entry in store.entries].count("follow-claims") == 3

    with_people(idp, test)


def test_nobody_takes_the_name_of_another(idp: Provider) -> None:
    async def test(people: People, store: Memory) -> None:
        names = set()
        for sub, username in [
            ("1", "admin"),
            ("2", "admin"),
            ("3", "admin@evil.example"),
            ("4", "\u202eadmin"),
            ("5", "!"),
        ]:
            token = idp.token(claims(idp, sub=sub, preferred_username=username))
            names.add((await people.login_oidc(token, SECRET, "192.0.2.1", START)).person)
        assert len(names) == 5
        assert all(name.endswith("@oidc") for name in names)
        assert Grant.read("security-admin:/") in store.persons["admin"].grants

    with_people(idp, test)


def test_people_whom_an_admin_binds_keep_the_admins_grants(idp: Provider) -> None:
    async def test(people: People, store: Memory) -> None:
        admin = Caller(name="admin", grants=store.persons["admin"].grants)
        grants = [api.GrantBody(role="viewer", scope="/acme")]
        await people.put_person(admin, api.PersonRequest(name="ann", grants=grants, oidc=f"{idp.issuer} 007"), START)
        token = await people.login_oidc(idp.token(claims(idp)), SECRET, "192.0.2.1", START)
        assert (token.person, token.grants) == ("ann", grants)
        off = api.PersonRequest(name="ann", grants=grants, disabled=True)
        await people.put_person(admin, off, START)
        assert await people.authenticate(token.secret or "", START) is None
        with pytest.raises(NotAuthenticatedError, match="disabled"):
            await people.login_oidc(idp.token(claims(idp)), SECRET, "192.0.2.1", START)

    with_people(idp, test)


def test_whoever_is_in_no_group_is_nobody(idp: Provider) -> None:
    async def test(people: People, store: Memory) -> None:
        with pytest.raises(NotAuthenticatedError, match="nobody here"):
            await people.login_oidc(idp.token(claims(idp, groups=["cooks"])), SECRET, "192.0.2.1", START)
        assert set(store.persons) == {"admin"}
        assert store.told[-1] == ("?", "login", "session", "failed")

    with_people(idp, test)


def test_bad_tokens_are_counted_as_guesses(idp: Provider) -> None:
    async def test(people: People, _: Memory) -> None:
        for _ in range(30):
            with pytest.raises(NotAuthenticatedError):
                await people.login_oidc("a.b.c", SECRET, "192.0.2.1", START)
        with pytest.raises(TooMuchError):
            await people.login_oidc(idp.token(claims(idp)), SECRET, "192.0.2.1", START)

    with_people(idp, test)


def test_a_site_without_a_provider_says_so() -> None:
    with pytest.raises(NotAuthenticatedError, match="no OpenID provider"):
        asyncio.run(people_of(Memory()).login_oidc("a.b.c", SECRET, "192.0.2.1", START))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"issuer": "http://idp.example"}, "https"),
        ({"issuer": "https://a b"}, "https"),
        ({"claim": None}, "claim"),
        ({"grants": {"a": ["king:/"]}}, "not a grant"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OidcSettings(
            **{"issuer": "https://idp.example", "client_id": CLIENT, "claim": "groups", "grants": GIVES} | more
        )
