"""Changes of rulesets: the way from one to the next and from no other, and what was damaged on the way is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.model.ruleset import TABLES, HostRuleset, table
from serai.model.ruleset_delta import Delta
from serai.model.world import World
from serai.policy.compile import compile_host

ANYHOW = settings(max_examples=30, deadline=None)


def compiled(world: World, host: str = "host") -> HostRuleset:
    return compile_host(world, host, world.vms)


def part(*rules: str) -> bytes:
    """A part that says nothing but the names of rules."""
    nothing = {name: table(name, set()) for name in TABLES}
    (raw,) = HostRuleset.whole(host="host", vnics=(), rules=rules, tables=nothing).parts.values()
    return raw


def ruleset(*names: str, host: str = "host") -> HostRuleset:
    return HostRuleset.of(host, (part(name) for name in names))


OLD, NEW = ruleset("a", "b", "c"), ruleset("b", "c", "d", "e")
DELTA = Delta.between(OLD, NEW)


def digest(rule: str) -> bytes:
    return hashlib.sha256(part(rule)).digest()


# There


@ANYHOW
@given(worlds(), worlds())
def test_a_change_leads_from_one_to_the_other(one: World, other: World) -> None:
    old, new = compiled(one), compiled(other)
    before = old.encode()
    delta = Delta.decode(Delta.between(old, new).encode())
    made = delta.apply(old)
    assert (made.encode(), made.digest, made.host) == (new.encode(), new.digest, "host")
    assert made.vnics == new.vnics
    assert old.encode() == before
    back = Delta.between(new, old)
    assert back.apply(made).encode() == before


@ANYHOW
@given(worlds(), worlds())
def test_it_holds_what_is_different_and_nothing_else(one: World, other: World) -> None:
    old, new = compiled(one), compiled(other)
    delta = Delta.between(old, new)
    assert (delta.host, delta.before, delta.after) == ("host", old.digest, new.digest)
    assert set(delta.drop) == set(old.parts) - set(new.parts)
    assert {hashlib.sha256(raw).digest() for raw in delta.add} == set(new.parts) - set(old.parts)
    assert list(delta.drop) == sorted(delta.drop)
    assert list(delta.add) == sorted(delta.add, key=lambda raw: hashlib.sha256(raw).digest())
    assert Delta.decode(delta.encode()) == delta
    event(f"{bool(delta.drop)} {bool(delta.add)}")


@given(worlds())
@settings(max_examples=10, deadline=None)
def test_no_difference_is_an_empty_change(world: World) -> None:
    delta = Delta.between(compiled(world), compiled(world))
    assert (delta.drop, delta.add, delta.before) == ((), (), delta.after)
    assert delta.apply(compiled(world)).encode() == compiled(world).encode()


def test_by_hand() -> None:
    assert DELTA.drop == (digest("a"),)
    assert DELTA.add == tuple(sorted((part("d"), part("e")), key=lambda raw: hashlib.sha256(raw).digest()))
    assert sorted(DELTA.apply(OLD).rules) == ["b", "c", "d", "e"]
    assert sorted(OLD.rules) == ["a", "b", "c"]


# And nowhere else


def refused(delta: Delta, old: HostRuleset, sentence: str) -> None:
    """See that a change does not go onto a ruleset, is told why, and leaves the ruleset alone."""
    raw, parts = old.encode(), dict(old.parts)
    with pytest.raises(ValueError, match=sentence) as caught:
        delta.apply(old)
    assert "\n" not in str(caught.value)
    assert (old.encode(), old.parts) == (raw, parts)
    assert HostRuleset.decode(raw).digest == old.digest


@pytest.mark.parametrize(
    "held", [NEW, ruleset(), ruleset("a", "b"), ruleset("a", "b", "c", "d"), ruleset("a", "b", "c", host="other")]
)
def test_another_ruleset_is_not_changed(held: HostRuleset) -> None:
    refused(
        DELTA, held,
        f"^this change is for ruleset {OLD.digest[:12]} of host host, not for {held.digest[:12]} of {held.host}$",
    )  # fmt: skip


def test_a_replay_is_refused() -> None:
    new = DELTA.apply(OLD)
    refused(DELTA, new, f"not for {NEW.digest[:12]} of host")
    older = Delta.between(NEW, OLD)
    refused(older, OLD, f"this change is for ruleset {NEW.digest[:12]}")
    following = Delta.between(NEW, ruleset("b"))
    refused(following, OLD, "this change is for ruleset")
    assert following.apply(new).digest == ruleset("b").digest


def test_a_change_for_another_host_is_refused() -> None:
    """Even if it claims to be for what this host holds."""
    theirs = Delta.between(ruleset("a", "b", "c", host="other"), ruleset("b", "c", "d", "e", host="other"))
    refused(theirs, OLD, "of host other, not for")
    refused(dataclasses.replace(theirs, before=OLD.digest), OLD, "of host other, not for")
    refused(dataclasses.replace(DELTA, host="other"), OLD, "of host other, not for")
    refused(dataclasses.replace(theirs, host="host", before=OLD.digest), OLD, "comes out of this change, and")


@pytest.mark.parametrize(
    "changed",
    [
        {"add": DELTA.add[:1]}, {"add": ()}, {"add": (*DELTA.add, part("f"))}, {"add": (part("d"), part("f"))}, {"drop": ()},
        {"drop": (digest("b"),)}, {"drop": (digest("a"), digest("b"))}, {"after": OLD.digest},
        {"after": ruleset("b").digest}, {"add": (DELTA.add[0][:-1], DELTA.add[1])}, {"add": (b"", *DELTA.add)},
    ],
    ids=str,
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(changed: dict[str, object]) -> None:
    delta = Delta.decode(dataclasses.replace(DELTA, **changed).encode())  # type: ignore[arg-type]
    refused(delta, OLD, r"^ruleset [0-9a-f]{12} comes out of this change, and [0-9a-f]{12} should$")


def test_what_is_dropped_may_be_added_again_and_what_is_not_there_dropped() -> None:
    """It says the same, and the digest says that it does."""
    odd = dataclasses.replace(DELTA, drop=(*DELTA.drop, digest("b"), digest("z")), add=(*DELTA.add, part("b")))
    assert odd.apply(OLD).encode() == NEW.encode()


@pytest.mark.parametrize("bad", [b"", b"\x90", b"\xc1", part("a")[:-1], part("a") + b"\0", b"ruleset"])
def test_a_part_that_is_none_is_refused_even_if_the_digest_is_right(bad: bytes) -> None:
    wanted = HostRuleset.of("host", (*(part(name) for name in "bc"), bad))
    refused(Delta.between(OLD, wanted), OLD, "^what comes out of this change is not a ruleset: ")


def test_vms_without_the_rules_that_they_need_are_refused() -> None:
    """A ruleset has to be whole, whoever signed for it."""
    cut = 0

    @settings(max_examples=30, deadline=None, database=None)
    @given(worlds(), st.randoms(use_true_random=False))
    def look(world: World, choice: random.Random) -> None:
        nonlocal cut
        whole, empty = compiled(world), HostRuleset.of("host", ())
        assume(len(whole.parts) > 1)
        for gone in choice.sample(sorted(whole.parts), 2):
            less = HostRuleset.of("host", (raw for name, raw in whole.parts.items() if name != gone))
            try:
                less.checked()
            except ValueError:
                refused(
                    Delta.between(whole, less),
                    whole,
                    "^what comes out of this change is not a ruleset: .*(missing|nothing says)",
                )
                refused(
                    Delta.between(empty, less),
                    empty,
                    "^what comes out of this change is not a ruleset: .*(missing|nothing says)",
                )
                cut += 1

    look()
    assert cut > 10, "the case is there"


# Bytes


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_a_change_that_was_cut_is_refused(one: World, other: World, choice: random.Random) -> None:
    raw = Delta.between(compiled(one), compiled(other)).encode()
    for end in {0, 1, len(raw) - 1, *(choice.randrange(len(raw)) for _ in range(5))}:
        with pytest.raises(ValueError, match="not a change of a ruleset"):
            Delta.decode(raw[:end])
    with pytest.raises(ValueError, match="not a change of a ruleset"):
        Delta.decode(raw + b"\0")


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_a_damaged_change_is_refused_or_does_the_same(one: World, other: World, choice: random.Random) -> None:
    """Whatever bit is turned: nothing but the one ruleset comes out."""
    old, new = compiled(one), compiled(other)
    raw, before = Delta.between(old, new).encode(), old.encode()
    for _ in range(30):
        at, bit = choice.randrange(len(raw)), 1 << choice.randrange(8)
        try:
            made = Delta.decode(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]).apply(old)
        except ValueError:
            event("refused")
        else:
            event("the same")
            assert made.encode() == new.encode()
    assert old.encode() == before


def test_every_single_bit() -> None:
    raw = DELTA.encode()
    for at in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError, match="change"):
            Delta.decode(bytes(damaged)).apply(OLD)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a change of a ruleset"):
        Delta.decode(raw)


def form(**changes: object) -> bytes:
    """A change as it is written down."""
    fields = msgspec.msgpack.decode(DELTA.encode())
    return msgspec.msgpack.encode({key: value for key, value in (fields | changes).items() if value != "gone"})


def test_the_form_that_is_damaged_below_is_sound() -> None:
    fields = msgspec.msgpack.decode(form())
    assert form() == DELTA.encode()
    assert (fields["version"], fields["host"], fields["drop"], fields["add"]) == (
        3,
        "host",
        list(DELTA.drop),
        list(DELTA.add),
    )
    assert (fields["before"].hex(), fields["after"].hex()) == (OLD.digest, NEW.digest)
    assert Delta.decode(form()).apply(OLD).digest == NEW.digest


@pytest.mark.parametrize(
    "raw",
    [
        form(host=5), form(host="gone"), form(before="text"), form(before=b""), form(before=bytes(31)), form(after=bytes(33)),
        form(after="gone"), form(drop=[bytes(31)]), form(drop=[bytes(33)]), form(drop=None), form(drop=[1]), form(add={}),
        form(add=["text"]), form(add="gone"), form(more=1), form(version="3"), form(version="gone"), NEW.encode(),
    ],
    ids=lambda raw: raw.hex()[-30:],
)  # fmt: skip
def test_what_is_no_change_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^these bytes are not a change of a ruleset: ") as caught:
        Delta.decode(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [0, 1, 2, 4, 1 << 40])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(ValueError, match=rf"^this change is of version {version}, and version 3 is understood$"):
        Delta.decode(form(version=version))


def test_a_change_is_no_ruleset() -> None:
    with pytest.raises(ValueError, match="ruleset"):
        HostRuleset.decode(DELTA.encode())


REFUSERS: list[Callable[[], Delta]] = [
    lambda: Delta.decode(form(host="other")), lambda: Delta.decode(form(before=bytes(32))),
    lambda: Delta.decode(form(after=bytes(32))),
]  # fmt: skip


@pytest.mark.parametrize("make", REFUSERS)
def test_what_reads_well_and_is_wrong_is_refused_when_it_is_applied(make: Callable[[], Delta]) -> None:
    refused(make(), OLD, "change")


def test_who_knows_only_the_digests_of_what_is_there_makes_the_same_change() -> None:
    assert Delta.over(OLD.digest, OLD.parts.keys(), NEW) == DELTA
