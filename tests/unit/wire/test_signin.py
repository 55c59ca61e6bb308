"""A person signs in with a browser: what comes back, and what does not get through."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from oidc_provider import CLIENT, Provider, provider
from serai.wire.oidc import OidcError, hashed, is_safe
from serai.wire.signin import SignedIn, sign_in


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as found:
        found.claims = {"iss": found.issuer, "sub": "007"}
        yield found


def browse(url: str) -> None:
    """Go where a browser would: to the provider, and back."""
    httpx2.get(url, follow_redirects=True, timeout=5)


def run(idp: Provider, show: Callable[[str], object], seconds: float = 5) -> SignedIn:
    with httpx2.Client(timeout=5) as http:
        return sign_in(idp.issuer, CLIENT, show, http=http, seconds=seconds)


def test_signing_in_gives_a_token_that_is_bound_to_a_secret(idp: Provider) -> None:
    shown: list[str] = []
    found = run(idp, lambda url: (shown.append(url), browse(url)))
    [query] = [parse_qs(urlsplit(url).query) for url in shown]
    assert query["nonce"] == [hashed(found.secret)]
    assert found.id_token.count(".") == 2
    assert found.secret not in shown[0]
    assert found.secret not in repr(found)
    again: list[str] = []
    other = run(idp, lambda url: (again.append(url), browse(url)))
    assert other.secret != found.secret
    assert parse_qs(urlsplit(again[0]).query)["state"] != query["state"]


def test_what_others_send_is_not_taken(idp: Provider) -> None:
    statuses = []

    def show(url: str) -> None:
        back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        assert back.startswith("http://127.0.0.1:")
        queries = ("?code=evil&state=guess", "?code=evil", "x?code=evil", "", "?state=%C3%A9&code=1")
        statuses.extend(httpx2.get(back + query, timeout=5).status_code for query in queries)
        browse(url)

    assert run(idp, show).id_token
    assert statuses == [404] * 5


def test_a_code_of_another_login_is_worth_nothing(idp: Provider) -> None:
    codes: list[str] = []

    def first(url: str) -> None:
        location = httpx2.get(url, timeout=5).headers["Location"]
        codes.append(parse_qs(urlsplit(location).query)["code"][0])

    with pytest.raises(OidcError, match="within"):
        run(idp, first, seconds=0.1)

    def second(url: str) -> None:
        query = parse_qs(urlsplit(url).query)
        httpx2.get(f"{query['redirect_uri'][0]}?code={codes[0]}&state={query['state'][0]}", timeout=5)

    with pytest.raises(OidcError, match="400"):
        run(idp, second)


def test_a_provider_that_refuses_is_told(idp: Provider) -> None:
    idp.error = "access_denied"
    with pytest.raises(OidcError, match="refused: 'access_denied'"):
        run(idp, browse)


def test_a_silent_connection_holds_nobody_up(idp: Provider) -> None:
    def show(url: str) -> None:
        back = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0])
        with socket.create_connection((back.hostname or "", back.port or 0)):
            browse(url)

    assert run(idp, show).id_token


def test_nothing_is_left_listening(idp: Provider) -> None:
    before = threading.active_count()
    backs: list[str] = []
    run(idp, lambda url: (backs.append(parse_qs(urlsplit(url).query)["redirect_uri"][0]), browse(url)))
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(backs[0], timeout=2)
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://idp.example/x", True),
        ("http://127.0.0.1:80/x", True),
        ("http://[::1]/x", True),
        ("http://localhost/x", False),
        ("http://idp.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("https://", False),
        ("file:///etc/passwd", False),
        ("//idp.example", False),
        ("http://[", False),
    ],
)
def test_what_nobody_on_the_way_can_answer_for(url: str, safe: Any) -> None:
    assert is_safe(url) is safe
