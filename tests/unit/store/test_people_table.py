"""People: who has an OpenID subject, and who has none."""

from __future__ import annotations

import pytest

from databases import NOW, entry, play
from serai.store.errors import PersonError
from serai.store.records import PersonRecord
from serai.store.store import Store


def test_many_have_no_openid_subject_and_none_is_had_twice(url: str) -> None:
    async def body(store: Store) -> None:
        for name in ("ada", "bob"):
            await store.people.put_person(PersonRecord(name=name, grants=()), entry(), NOW)
        await store.people.put_person(PersonRecord(name="eve", grants=(), oidc="https://x eve"), entry(), NOW)
        with pytest.raises(PersonError, match="eve logs in"):
            await store.people.put_person(PersonRecord(name="mal", grants=(), oidc="https://x eve"), entry(), NOW)
        assert [person.name for person in await store.people.people()] == ["ada", "bob", "eve"]

    play(url, body)
