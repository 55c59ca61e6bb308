"""Prefixes inside prefixes, in two opinions: what the nest says, and what every single prefix says of an address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from serai.model.address import MAPPED, Address, Prefix, pack, packed_length, unpack
from serai.policy.compiler.nest import Nest, Within, nest

ANYHOW = settings(max_examples=150, deadline=None)
ODD = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/0", "0.0.0.0/32", "0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32", "255.255.255.254/31",
            "10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/32", "10.0.0.128/25", "10.0.0.255/32", "10.0.1.0/24",
            "::/0", "::/1", "8000::/1", "::/80", "::/81", "::/79", "::/95", "::/96", "::1:0:0/96", "::/128",
            "::fffe:0:0/96", "::fffe:ffff:ffff/128", "::fffe:0:0/95", "ffff::/16", "fe80::/10", "2001:db8::/32",
            "2001:db8::/64", "2001:db8::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        ),
    )
)  # fmt: skip
"""The widest and the narrowest, the first and the last of each version, and what lies around and beside mapped addresses."""


def is_sound(prefix: Prefix) -> bool:
    """Leave out what no file can say: IPv4 prefixes in disguise."""
    return isinstance(prefix, IPv4Network) or not prefix.subnet_of(MAPPED)


ODD = tuple(filter(is_sound, ODD))


@st.composite
def prefixes(draw: st.DrawFn) -> list[Prefix]:
    """Prefixes, many of them in one another: odd ones, and such as few bits of few addresses make."""
    few4 = st.builds(
        lambda bits, length: IPv4Network((bits << 24 | (bits & 3), length), strict=False),
        st.integers(0, 7), st.sampled_from((1, 2, 5, 6, 7, 8, 30, 31, 32)),
    )  # fmt: skip
    few6 = st.builds(
        lambda high, low, length: IPv6Network((high << 124 | low, length), strict=False),
        st.integers(0, 15), st.sampled_from((0, 1, 0xFFFE << 32, 0x10000 << 32, (1 << 49) - 1)),
        st.sampled_from((1, 2, 3, 4, 64, 79, 80, 81, 88, 96, 127, 128)),
    )  # fmt: skip
    one = st.one_of(st.sampled_from(ODD), few4, few6).filter(is_sound)
    return draw(st.lists(one, max_size=9, unique=True))


def within(several: Sequence[Prefix], address: Address) -> Within:
    """The other opinion: never across versions, as ``ipaddress`` has it."""
    return tuple(at for at, prefix in enumerate(several) if address in prefix)


def around(prefix: Prefix) -> list[Address]:
    """The first and last address of a prefix, one in the middle, and those right outside."""
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    make = IPv4Address if isinstance(prefix, IPv4Network) else IPv6Address
    numbers = {first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1}
    found = [make(number) for number in sorted(numbers) if 0 <= number < 1 << prefix.max_prefixlen]
    return [a for a in found if isinstance(a, IPv4Address) or a.ipv4_mapped is None]


EVERYWHERE: tuple[Address, ...] = (
    IPv4Address(0), IPv4Address("10.0.0.1"), IPv4Address("255.255.255.255"), IPv6Address(0), IPv6Address((1 << 128) - 1),
    MAPPED.network_address - 1, MAPPED.broadcast_address + 1, IPv6Address("2001:db8::1"),
)  # fmt: skip


def at_row(made: Nest, raw: bytes) -> Within:
    """What a table of longest prefixes says: the opinion of gates."""
    number = int.from_bytes(raw)
    found = [
        (length, at)
        for at, (row, length) in enumerate(made.rows)
        if not length or number >> (128 - length) == int.from_bytes(row) >> (128 - length)
    ]
    return made.distinct[which(made)[max(found)[1]]] if found else ()


def which(made: Nest) -> list[int]:
    return [int.from_bytes(made.which[at : at + 4], "little") for at in range(0, len(made.which), 4)]


def require_right(made: Nest, several: Sequence[Prefix]) -> None:
    for address in (*EVERYWHERE, *(a for prefix in several for a in around(prefix))):
        expected = within(several, address)
        assert made.at(pack(address), pack(address)) == expected, address
        assert at_row(made, pack(address)) == expected, address


def require_same(one: Nest, other: Nest) -> None:
    """All is equal, but for the order in which answers came up."""
    assert one.rows == other.rows
    assert (one.addresses, one.lengths) == (other.addresses, other.lengths)
    assert (one.starts, one.within) == (other.starts, other.within)
    assert set(one.distinct) == set(other.distinct)
    assert len(set(one.distinct)) == len(one.distinct)
    assert [one.distinct[at] for at in which(one)] == [other.distinct[at] for at in which(other)]


@ANYHOW
@given(prefixes())
@example([ip_network("::/0")])
@example([ip_network("::/80"), ip_network("0.0.0.0/0")])
@example([ip_network("10.0.0.0/8"), ip_network("::/0"), ip_network("::/80")])
@example([ip_network("10.0.0.0/25"), ip_network("10.0.0.128/25"), ip_network("10.0.0.0/24")])
def test_an_address_is_in_the_prefixes_that_hold_it(several: list[Prefix]) -> None:
    made = nest(several)
    require_right(made, several)
    mine = {(pack(p.network_address), packed_length(p)) for p in several}
    mapped = (pack(MAPPED.network_address), MAPPED.prefixlen)
    assert mine <= set(made.rows) <= mine | {mapped}, "a row each, and one for all of IPv4 where it takes it"
    assert list(made.rows) == sorted(made.rows)
    assert made.addresses == b"".join(raw for raw, _ in made.rows)
    assert made.lengths == b"".join(length.to_bytes(4, "little") for _, length in made.rows)
    assert made.starts[0] == 0
    assert list(made.starts) == sorted(set(made.starts))
    assert len(made.within) == len(made.starts)
    event("a row for IPv4" if set(made.rows) - mine else "no row more")


@ANYHOW
@given(prefixes(), st.data())
def test_a_range_has_an_answer_where_all_its_addresses_have_one(several: list[Prefix], data: st.DataObject) -> None:
    made = nest(several)
    edges = sorted({int.from_bytes(pack(a)) for a in (*EVERYWHERE, *(a for p in several for a in around(p)))})
    first, last = sorted((data.draw(st.sampled_from(edges)), data.draw(st.sampled_from(edges))))
    found = made.at(first.to_bytes(16), last.to_bytes(16))
    # Answers change at the edges of prefixes only, and mapped addresses are IPv4's.
    inside = [number for number in edges if first <= number <= last]
    inside += [
        number for number in (int(MAPPED.network_address), int(MAPPED.broadcast_address)) if first <= number <= last
    ]
    answers = {within(several, unpack(number.to_bytes(16))) for number in inside}
    assert (found is None) == (len(answers) > 1)
    if found is not None:
        assert {found} == answers


@ANYHOW
@given(prefixes(), prefixes())
@example([ip_network("10.0.0.0/8")], [ip_network("10.0.0.0/25"), ip_network("10.0.0.128/25")])
@example([ip_network("::/0")], [ip_network("0.0.0.0/0")])
@example([ip_network("::/0")], [ip_network("10.0.0.0/8")])
@example([ip_network("10.0.0.0/24")], [ip_network("10.0.0.0/25"), ip_network("10.0.1.0/24")])
@example([], [ip_network("::/0")])
@example([], [ip_network("0.0.0.0/0"), ip_network("255.255.255.255/32")])
@example([], [ip_network("ffff::/16"), ip_network("::/128"), ip_network("255.255.255.255/32")])
def test_more_prefixes_are_put_in_as_if_they_had_always_been_there(known: list[Prefix], drawn: list[Prefix]) -> None:
    more = [prefix for prefix in drawn if prefix not in known]
    base = nest(known)
    made = base.with_apart(more, len(known))
    event("all anew" if made is None else f"{len(more)} put in")
    if made is not None:
        require_same(made, nest([*known, *more]))
        require_right(made, [*known, *more])
    require_same(base, nest(known))


@ANYHOW
@given(prefixes(), st.data())
def test_prefixes_that_lie_apart_are_put_in(known: list[Prefix], data: st.DataObject) -> None:
    """It is worth while only where it is done: whatever lies neither around another nor around anything known."""

    def apart(prefix: Prefix, others: Sequence[Prefix]) -> bool:
        return not any(p.version == prefix.version and p.overlaps(prefix) for p in others)

    more: list[Prefix] = []
    for prefix in data.draw(prefixes()):
        inside = not any(prefix.version == k.version and k.subnet_of(prefix) for k in known)  # type: ignore[arg-type]
        covers = isinstance(prefix, IPv6Network) and MAPPED.subnet_of(prefix)
        all_of_ipv4 = prefix == IPv4Network("0.0.0.0/0")
        if inside and apart(prefix, more) and not covers and not all_of_ipv4:
            more.append(prefix)
    event(f"{len(more)} apart")
    made = nest(known).with_apart(more, len(known))
    assert made is not None
    require_same(made, nest([*known, *more]))


@pytest.mark.parametrize(
    ("known", "more"),
    [
        (["10.0.0.0/8"], ["0.0.0.0/0"]), (["10.0.0.0/8"], ["10.0.0.0/7"]), ([], ["10.0.0.0/8", "10.0.0.0/24"]),
        ([], ["10.0.0.0/24", "10.0.0.0/8"]), ([], ["::/0"]), (["::/0"], ["::/80"]), (["::/0"], ["0.0.0.0/0"]),
        (["2001:db8::/64"], ["2001:db8::/32"]), (["10.0.0.0/32"], ["10.0.0.0/31"]),
    ],
)  # fmt: skip
def test_what_lies_around_something_takes_all_anew(known: list[str], more: list[str]) -> None:
    some, others = list(map(ip_network, known)), list(map(ip_network, more))
    assert nest(some).with_apart(others, len(some)) is None
    require_right(nest([*some, *others]), [*some, *others])


def test_none() -> None:
    made = nest([])
    assert (made.rows, made.distinct, made.starts, made.within) == ((), (), (0,), ((),))
    assert made.at(bytes(16), b"\xff" * 16) == ()
    with_none = made.with_apart([], 0)
    assert with_none is not None
    require_same(with_none, made)
