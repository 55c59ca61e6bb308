"""Rulesets from somebody who means harm: refused like any other damage, before they cost much."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest

from serai.model.records import ENDPOINT, JUDGED, PAGE
from serai.model.ruleset import HostRuleset, manifest_digest
from serai.model.ruleset_delta import Delta
from serai.model.ruleset_form import (
    VERSION,
    FrozenBook,
    FrozenDomain,
    FrozenForm,
    FrozenGuest,
    FrozenPart,
    FrozenRuleset,
    FrozenSecurity,
    FrozenWhole,
)

KIND = 5
GUEST = FrozenGuest(
    "/acme:web", "enforce", [("eth0", FrozenSecurity())], (1).to_bytes(8, "little"), b"\2\0\0\0\0\1", bytes(4), b"",
    KIND.to_bytes(8, "little"),
)  # fmt: skip


WHOLE = FrozenWhole([], b"", [], bytes(ENDPOINT.itemsize), b"", b"", b"")


def book(pages: int) -> FrozenBook:
    return FrozenBook(FrozenForm(b"", b""), FrozenForm(bytes(PAGE.itemsize * pages), b""), [])


def domains(used: FrozenBook, count: int) -> list[FrozenDomain]:
    """As many routing domains, all with this book."""
    digest = tuple(hashlib.sha256(msgspec.msgpack.encode(used)).digest())
    judged = np.array([(KIND, 1, 2, 3, 4, digest)], JUDGED).tobytes()
    return [FrozenDomain(f"/tenant-{at}", bytes(8), judged, b"", b"") for at in range(count)]


def encoded(*parts: FrozenPart) -> bytes:
    return msgspec.msgpack.encode(
        FrozenRuleset(version=VERSION, host="h", parts=[msgspec.msgpack.encode(part) for part in parts])
    )


def test_a_book_that_many_domains_use_is_no_bomb() -> None:
    """A megabyte that asks for gigabytes."""
    few, many = book(2), book(1000)
    assert HostRuleset.decode(encoded(GUEST, few, *domains(few, 3))).tables["pages"].size == 1
    raw = encoded(GUEST, many, *domains(many, 1000))
    assert len(raw) < 1 << 20
    with pytest.raises(ValueError, match="not a ruleset: there are more pages than a host has room for"):
        HostRuleset.decode(raw)


@pytest.mark.parametrize("order", [1, -1])
def test_nesting_is_refused(order: int) -> None:
    fields = [msgspec.msgpack.encode("version") + b"\3", msgspec.msgpack.encode("parts") + b"\x91" * 100_000 + b"\xc0"]
    with pytest.raises(ValueError, match="not a ruleset"):
        HostRuleset.decode(b"\x82" + b"".join(fields[::order]))
    with pytest.raises(ValueError, match="not a change"):
        Delta.decode(b"\x82" + b"".join(fields[::order]))


@pytest.mark.parametrize("part", [b"", b"junk", b"\xc0", b"\x91" * 100_000], ids=["nothing", "junk", "nil", "nested"])
def test_a_change_brings_no_junk(part: bytes) -> None:
    old = HostRuleset.of("h", ())
    after = manifest_digest("h", [hashlib.sha256(part).digest()]).hex()
    delta = Delta(host="h", before=old.digest, after=after, drop=(), add=(part,))
    with pytest.raises(ValueError, match="not a ruleset"):
        Delta.decode(delta.encode()).apply(old)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (b"junk", "on the way is damaged"),
        (msgspec.msgpack.encode(WHOLE), "more than books"),
        (msgspec.msgpack.encode(book(1)), None),
    ],
    ids=["junk", "endpoints", "a book"],
)
def test_a_bridge_has_books_and_nothing_else(part: bytes, told: str | None) -> None:
    """What is in force for a moment only is in no digest: it must not say who is who."""
    old = HostRuleset.of("h", ())
    delta = Delta(host="h", before=old.digest, after=old.digest, drop=(), add=(), bridge=(part,))
    delta = Delta.decode(delta.encode())
    if told is None:
        assert all(not table.size for table in delta.bridged(old, delta.apply(old)).tables.values())
        return
    with pytest.raises(ValueError, match=told):
        delta.bridged(old, delta.apply(old))
