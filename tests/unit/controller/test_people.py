"""People and their tokens: who gets in, what they may make of each other, and what the audit log says of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import RFC_9106_LOW_MEMORY
from people_memory import START, Memory, after, people_of

from serai.access.decide import Caller
from serai.access.roles import Grant
from serai.controller.bearer import Bearer
from serai.controller.errors import (
    BusyError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotAuthenticatedError,
    NotFoundError,
    TooMuchError,
)
from serai.controller.passwords import Passwords, new_hasher
from serai.wire import api

GOOD = "correct horse battery"
OTHER = "a better password"


class House:
    """People of a new site, with the first of them."""

    def __init__(self) -> None:
        self.store = Memory()
        self.people = people_of(self.store)
        self.secret = ""

    async def open(self) -> Caller:
        token = await self.people.bootstrap(START)
        assert token
        assert token.secret
        self.secret = token.secret
        caller = await self.people.authenticate(self.secret, START)
        assert caller
        return caller

    async def put(self, who: Caller, name: str, *grants: str, **more: Any) -> api.Person:
        return await self.people.put_person(who, request(name, *grants, **more), START)

    async def login(self, name: str, password: str = GOOD, address: str = "192.0.2.1", now: datetime = START) -> str:
        token = await self.people.login(api.Login(name=name, password=password), address, now)
        assert token.secret
        return token.secret

    async def caller(self, name: str) -> Caller:
        found = await self.people.authenticate(await self.login(name), START)
        assert found
        return found


def request(name: str, *grants: str, **more: Any) -> api.PersonRequest:
    return api.PersonRequest(name=name, grants=bodies(*grants), **more)


def bodies(*grants: str) -> list[api.GrantBody]:
    return [api.GrantBody(role=g.role, scope=g.scope) for g in map(Grant.read, grants)]


def house(test: Callable[[House, Caller], Awaitable[None]]) -> None:
    async def run() -> None:
        there = House()
        await test(there, await there.open())

    asyncio.run(run())


def test_the_first_person_is_made_once() -> None:
    async def test(there: House, admin: Caller) -> None:
        assert (admin.name, sorted(map(str, admin.grants))) == (
            "admin",
            ["auditor:/", "operator:/", "security-admin:/"],
        )
        assert await there.people.bootstrap(START) is None
        assert await people_of(there.store).bootstrap(START) is None
        assert [entry.verb for entry in there.store.entries] == ["create-person", "create-token"]
        assert not any(there.secret.rpartition("_")[2] in repr(each) for each in there.store.all_tokens.values())

    house(test)


def test_two_at_once_make_one_first_person() -> None:
    async def run() -> None:
        people = people_of(Memory())
        made = await asyncio.gather(people.bootstrap(START), people.bootstrap(START))
        assert len([token for token in made if token]) == 1

    asyncio.run(run())


def test_people_log_in_with_their_password() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/acme", password=GOOD)
        secret = await there.login("ann")
        caller = await there.people.authenticate(secret, after(12 * 3600 - 1))
        assert caller == Caller(name="ann", grants=(Grant.read("viewer:/acme"),), token=secret.split("_")[1])
        assert await there.people.authenticate(secret, after(12 * 3600)) is None
        assert there.store.told[-1] == ("ann", "login", f"token {caller.token}", "done")
        assert GOOD not in repr(there.store.persons)

    house(test)


@pytest.mark.parametrize("name", ["ann", "nobody-here", "off", "hollow", "admin"])
def test_what_is_wrong_about_a_login_is_not_told(name: str) -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        await there.put(admin, "off", "viewer:/", password=GOOD, disabled=True)
        await there.put(admin, "hollow", "viewer:/")
        with pytest.raises(NotAuthenticatedError, match=r"\Athe name or the password is wrong\Z"):
            await there.login(name, GOOD if name != "ann" else GOOD + "!")
        known = name if name != "nobody-here" else "?"
        assert there.store.told[-1] == (known, "login", "session", "failed")

    house(test)


@pytest.mark.parametrize("password", ["", "\ud800", "\0", "x" * 300, GOOD.upper()])
def test_odd_passwords_are_wrong_and_nothing_worse(password: str) -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        with pytest.raises(NotAuthenticatedError):
            await there.login("ann", password)

    house(test)


def test_one_way_of_writing_a_letter_is_as_good_as_another() -> None:
    async def test(there: House, admin: Caller) -> None:
        composed = "caf\u00e9 caf\u00e9 caf\u00e9"
        await there.put(admin, "ann", "viewer:/", password=composed)
        assert await there.login("ann", "cafe\u0301 cafe\u0301 cafe\u0301")

    house(test)


def test_passwords_are_hashed_anew_when_parameters_change() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        old = there.store.persons["ann"].password
        await there.login("ann")
        assert there.store.persons["ann"].password == old
        there.people = people_of(there.store, hasher=new_hasher())
        await there.login("ann")
        new = there.store.persons["ann"].password
        assert new is not None
        assert new.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert "rehash-password" in [entry.verb for entry in there.store.entries]
        await there.login("ann")
        assert there.store.persons["ann"].password == new

    house(test)


class Watched(PasswordHasher):
    """Remembers what it was asked to verify."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.tried: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002  # argon2 calls it so
        self.tried.append(hash)
        return super().verify(hash, password)


def test_a_name_that_nobody_has_costs_as_much_as_one_that_somebody_has() -> None:
    async def run() -> None:
        hasher = Watched.from_parameters(RFC_9106_LOW_MEMORY)
        assert isinstance(hasher, Watched)
        assert not await Passwords(hasher).verify(None, GOOD)
        [encoded] = hasher.tried
        assert not hasher.check_needs_rehash(encoded), "the same parameters, so the same work"

    asyncio.run(run())


def test_only_some_passwords_are_looked_at_at_once() -> None:
    async def run() -> None:
        passwords = Passwords(new_hasher(), at_once=1, most=2)
        results = await asyncio.gather(*(passwords.verify(None, GOOD) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [bool, bool, BusyError, BusyError, BusyError]
        assert await passwords.verify(None, GOOD) is False

    asyncio.run(run())


# Guessing


async def fail(there: House, name: str, address: str, seconds: float = 0) -> type[Exception] | None:
    try:
        await there.login(name, "wrong", address, after(seconds))
    except (NotAuthenticatedError, TooMuchError) as error:
        return type(error)
    return None


def test_guessing_is_stopped_for_a_name_from_an_address() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        assert [await fail(there, "ann", "192.0.2.1") for _ in range(11)] == [NotAuthenticatedError] * 10 + [
            TooMuchError
        ]
        with pytest.raises(TooMuchError) as caught:
            await there.login("ann", now=after(100))
        assert caught.value.retry_seconds == 200
        assert await there.login("ann", address="192.0.2.2"), "somebody else guesses, ann still gets in"
        assert await there.login("ann", now=after(301))

    house(test)


def test_guessing_is_stopped_for_an_address_and_its_neighbors() -> None:
    async def test(there: House, _: Caller) -> None:
        found = [await fail(there, f"n{i}", f"2001:db8::{i:x}") for i in range(31)]
        assert found == [NotAuthenticatedError] * 30 + [TooMuchError]
        assert await fail(there, "n", "2001:db8:0:1::1") is NotAuthenticatedError

    house(test)


def test_guessing_is_stopped_for_a_name_from_everywhere() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        found = [await fail(there, "ann", f"10.{i}.0.1") for i in range(101)]
        assert found == [NotAuthenticatedError] * 100 + [TooMuchError]
        with pytest.raises(TooMuchError):
            await there.login("ann", address="10.200.0.1")

    house(test)


def test_many_guesses_at_once_are_counted_too() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        found = await asyncio.gather(*(fail(there, "ann", "192.0.2.1") for _ in range(25)))
        assert found.count(NotAuthenticatedError) == 10

    house(test)


def test_getting_in_costs_nothing() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        for _ in range(40):
            assert await there.login("ann")

    house(test)


def test_a_flood_of_refusals_leaves_few_records_and_a_count() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        ann = await there.caller("ann")
        before = len(there.store.entries)
        for _ in range(500):
            with pytest.raises(ForbiddenError):
                await there.put(ann, "bob", "viewer:/")
        assert len(there.store.entries) == before + 20
        await there.people.tick(after(59))
        assert len(there.store.entries) == before + 20
        await there.people.tick(after(60))
        last = there.store.entries[-1]
        assert (last.who, last.verb, last.detail["count"], last.detail["by"]) == (
            "serai",
            "count-refusals",
            480,
            {"ann": 480},
        )
        await there.people.tick(after(200))
        assert there.store.entries[-1] is last

    house(test)


def test_a_flood_from_everywhere_is_bounded_in_all() -> None:
    async def test(there: House, _: Caller) -> None:
        before = len(there.store.entries)
        for i in range(400):
            await fail(there, f"n{i}", f"10.0.{i}.1" if i < 256 else f"10.1.{i - 256}.1")
        await there.people.tick(after(1), last=True)
        assert len(there.store.entries) == before + 200 + 1
        assert there.store.entries[-1].detail["count"] == 200

    house(test)


# Tokens


def test_a_revoked_token_is_worth_nothing_at_once_and_elsewhere_within_a_second() -> None:
    async def test(there: House, admin: Caller) -> None:
        elsewhere = people_of(there.store)
        token = await there.people.add_token(admin, api.TokenRequest(name="ci"), START)
        assert token.secret
        assert await there.people.authenticate(token.secret, START)
        assert await elsewhere.authenticate(token.secret, START)
        await there.people.revoke_token(admin, token.id, START)
        assert await there.people.authenticate(token.secret, START) is None
        assert await elsewhere.authenticate(token.secret, after(1)) is None
        assert there.store.told[-1] == ("admin", "revoke-token", f"token {token.id}", "done")
        assert [(t.id, t.revoked) for t in await there.people.tokens(admin) if t.name == "ci"] == [(token.id, True)]

    house(test)


def test_what_is_kept_is_kept_for_a_second_by_any_clock() -> None:
    async def test(there: House, _: Caller) -> None:
        reads = there.store.reads
        assert await there.people.authenticate(there.secret, after(0.9))
        assert there.store.reads == reads
        there.store.persons["admin"] = dataclasses.replace(there.store.persons["admin"], disabled=True)
        assert await there.people.authenticate(there.secret, after(0.9)), "as another controller would have done it"
        assert await there.people.authenticate(there.secret, after(-3600)) is None, "the clock was set back"

    house(test)


def test_a_revocation_beats_a_look_up_under_way() -> None:
    async def test(there: House, admin: Caller) -> None:
        token = await there.people.add_token(admin, api.TokenRequest(name="ci"), START)
        assert token.secret
        looking = asyncio.create_task(there.people.authenticate(token.secret, START))
        await asyncio.sleep(0)
        await there.people.revoke_token(admin, token.id, START)
        await looking
        assert await there.people.authenticate(token.secret, START) is None

    house(test)


def test_a_token_does_no_more_than_its_owner_does_now() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "security-admin:/acme", password=GOOD)
        ann = await there.caller("ann")
        wanted = bodies("viewer:/acme/shop", "policy-editor:/acme")
        token = await there.people.add_token(ann, api.TokenRequest(name="ci", grants=wanted), START)
        assert token.secret
        assert token.grants == wanted
        shown = await there.people.authenticate(token.secret, START)
        assert shown
        assert shown.within == (Grant.read("viewer:/acme/shop"), Grant.read("policy-editor:/acme"))
        await there.put(admin, "ann", "viewer:/acme/crm")
        now = await there.people.authenticate(token.secret, START)
        assert now
        assert (now.grants, now.within) == ((Grant.read("viewer:/acme/crm"),), shown.within)
        await there.put(admin, "ann", "viewer:/acme/crm", disabled=True)
        assert await there.people.authenticate(token.secret, START) is None

    house(test)


@pytest.mark.parametrize("grant", ["viewer:/", "security-admin:/globex", "operator:/"])
def test_nobody_gets_a_token_for_more_than_they_have(grant: str) -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "security-admin:/acme", password=GOOD)
        ann = await there.caller("ann")
        with pytest.raises(ForbiddenError):
            await there.people.add_token(ann, api.TokenRequest(name="ci", grants=bodies(grant)), START)
        assert there.store.told[-1] == ("ann", "manage-tokens", "", "refused")

    house(test)


def test_a_limited_token_is_no_way_to_an_unlimited_one() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "security-admin:/acme", password=GOOD)
        ann = await there.caller("ann")
        token = await there.people.add_token(ann, api.TokenRequest(name="ci", grants=bodies("viewer:/acme")), START)
        limited = await there.people.authenticate(token.secret or "", START)
        assert limited
        with pytest.raises(ForbiddenError, match="is limited"):
            await there.people.add_token(limited, api.TokenRequest(name="more"), START)
        with pytest.raises(ForbiddenError, match="is limited"):
            await there.put(limited, "ann", "security-admin:/acme", password=OTHER)
        person = await there.people.whoami(limited)
        assert person.grants == bodies("viewer:/acme")

    house(test)


@pytest.mark.parametrize("days", [0, -1, 367, 10**9])
def test_tokens_live_a_year_at_the_most(days: int) -> None:
    async def test(there: House, admin: Caller) -> None:
        with pytest.raises(InvalidError):
            await there.people.add_token(admin, api.TokenRequest(name="ci", days=days), START)

    house(test)


def test_tokens_of_others_are_revoked_by_those_who_manage_them() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "security-admin:/acme", password=GOOD)
        await there.put(admin, "bob", "viewer:/acme", password=GOOD)
        await there.put(admin, "eve", "viewer:/globex", password=GOOD)
        ann = await there.caller("ann")
        bob, eves = await there.login("bob"), await there.login("eve")
        with pytest.raises(NotFoundError):
            await there.people.revoke_token(ann, eves.split("_")[1], START)
        with pytest.raises(NotFoundError):
            await there.people.revoke_token(ann, "nothing", START)
        await there.people.revoke_token(ann, bob.split("_")[1], START)
        assert await there.people.authenticate(bob, START) is None
        assert await there.people.authenticate(eves, START)

    house(test)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "serai_",
        "Bearer x",
        "serai_0123456789abcdef_" + "g" * 64,
        "serai_0123456789abcdef_" + "a" * 64,
        "serai_\u0661",
        "\0",
    ],
)
def test_what_is_no_token_is_nobodys(text: str) -> None:
    async def test(there: House, _: Caller) -> None:
        assert await there.people.authenticate(text, START) is None
        assert await there.people.authenticate(there.secret + "\n", START) is None
        assert (
            await there.people.authenticate(there.secret[:-1] + ("0" if there.secret[-1] != "0" else "1"), START)
            is None
        )

    house(test)


def test_tokens_are_all_different() -> None:
    made = {Bearer.new().text for _ in range(1000)}
    assert len(made) == 1000
    assert all(Bearer.read(text) for text in made)
    assert "secret" not in repr(Bearer.new())


# People


def test_a_tenants_admin_makes_people_of_the_tenant_only() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "security-admin:/acme", password=GOOD)
        await there.put(admin, "root", "security-admin:/", password=GOOD)
        ann = await there.caller("ann")
        await there.put(ann, "bob", "policy-editor:/acme/shop", password=GOOD)
        assert there.store.entries[-1].scope == "/acme/shop"
        for name, grants in {
            "bob": ["viewer:/"],
            "eve": ["viewer:/globex"],
            "root": ["viewer:/acme"],
            "admin": [],
        }.items():
            with pytest.raises(ForbiddenError):
                await there.put(ann, name, *grants, password=OTHER)
        assert await there.login("root")
        seen = await there.people.people(ann, START)
        assert [person.name for person in seen] == ["ann", "bob"]
        assert [p.name for p in await there.people.people(admin, START)] == ["admin", "ann", "bob", "root"]
        bob = await there.caller("bob")
        with pytest.raises(ForbiddenError):
            await there.people.people(bob, START)

    house(test)


def test_grants_elsewhere_are_not_shown() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "auditor:/acme", password=GOOD)
        await there.put(admin, "bob", "viewer:/acme", "viewer:/globex", oidc="https://idp 7")
        [_, bob] = await there.people.people(await there.caller("ann"), START)
        assert (bob.name, bob.grants, bob.oidc) == ("bob", bodies("viewer:/acme"), None)

    house(test)


def test_a_new_password_ends_the_sessions_and_not_the_tokens() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        old, mine = await there.login("ann"), await there.login("ann")
        ann = await there.people.authenticate(mine, START)
        assert ann
        token = await there.people.add_token(ann, api.TokenRequest(name="ci"), START)
        await there.put(ann, "ann", "viewer:/", password=OTHER)
        assert await there.people.authenticate(old, START) is None
        assert await there.people.authenticate(mine, START)
        assert await there.people.authenticate(token.secret or "", START)
        with pytest.raises(NotAuthenticatedError):
            await there.login("ann")
        await there.put(admin, "ann", "viewer:/", disabled=True)
        for secret in (mine, token.secret or ""):
            assert await there.people.authenticate(secret, START) is None
        with pytest.raises(ForbiddenError):
            await there.put(dataclasses.replace(ann), "ann", "viewer:/")

    house(test)


def test_nobody_makes_more_of_themselves() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", password=GOOD)
        ann = await there.caller("ann")
        for more in (["operator:/"], ["viewer:/", "auditor:/acme"], []):
            with pytest.raises(ForbiddenError):
                await there.put(ann, "ann", *more, password=GOOD)
        with pytest.raises(ForbiddenError):
            await there.put(ann, "ann", "viewer:/", oidc="https://idp 7")

    house(test)


def test_the_last_who_manages_people_stays() -> None:
    async def test(there: House, admin: Caller) -> None:
        for grants, disabled in ((["viewer:/"], False), (["security-admin:/"], True)):
            with pytest.raises(ConflictError, match="last"):
                await there.put(admin, "admin", *grants, disabled=disabled)
        await there.put(admin, "ann", "security-admin:/")
        results = await asyncio.gather(
            there.put(admin, "ann", "viewer:/"), there.put(admin, "admin", "viewer:/"), return_exceptions=True
        )
        assert [type(result) for result in results].count(ConflictError) == 1

    house(test)


def test_an_openid_subject_is_one_persons() -> None:
    async def test(there: House, admin: Caller) -> None:
        await there.put(admin, "ann", "viewer:/", oidc="https://idp 7")
        with pytest.raises(ConflictError):
            await there.put(admin, "bob", "viewer:/", oidc="https://idp 7")
        await there.put(admin, "ann", "viewer:/")
        assert there.store.persons["ann"].oidc == "https://idp 7"
        await there.put(admin, "ann", "viewer:/", oidc="")
        assert there.store.persons["ann"].oidc is None

    house(test)


@pytest.mark.parametrize("name", ["", "Ann", "ann@oidc", "serai", "-a", "a b", "a\n", "\u00e4nn", "x" * 64])
def test_odd_names_are_refused(name: str) -> None:
    async def test(there: House, admin: Caller) -> None:
        with pytest.raises(InvalidError):
            await there.put(admin, name, "viewer:/")

    house(test)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_short_and_long_passwords_are_refused(password: str) -> None:
    async def test(there: House, admin: Caller) -> None:
        with pytest.raises(InvalidError, match="12 to 256"):
            await there.put(admin, "ann", "viewer:/", password=password)

    house(test)


def test_odd_grants_are_refused_all_at_once() -> None:
    async def test(there: House, admin: Caller) -> None:
        grants = [
            api.GrantBody(role="king", scope="/"),
            *bodies("viewer:/"),
            api.GrantBody(role="viewer", scope="acme"),
        ]
        with pytest.raises(InvalidError) as caught:
            await there.people.put_person(admin, api.PersonRequest(name="ann", grants=grants), START)
        assert [fault.field for fault in caught.value.faults] == ["grants[0]", "grants[2]"]

    house(test)
