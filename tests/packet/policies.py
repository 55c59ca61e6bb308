"""Random policies, within what the language can say: peers, ports and services out of a given vocabulary."""

from __future__ import annotations

import dataclasses
import functools

from hypothesis import strategies as st

from serai.model.address import Prefix
from serai.model.policy import (
    ANY_PROTOCOL,
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    InCidr,
    OnNetwork,
    Operator,
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.tenancy import Scope

ICMP, TCP, UDP, ESP, ICMPV6, OSPF, SCTP = 1, 6, 17, 50, 58, 89, 132
WITH_PORTS = (TCP, UDP, SCTP)
PORTS = (0, 22, 23, 53, 80, 443, 1023, 1024, 8080, 32768, 65534, 65535)
NUMBERS = (0, ESP, OSPF, 255)
"""Protocols without ports, the first and the last number among them."""
ICMP_TYPES = {ICMP: (0, 3, 8), ICMPV6: (1, 128, 129)}
KEYS, VALUES = ("role", "env"), ("a", "b", "c")

LABELS = tuple(
    {key: value for key, value in zip(KEYS, pair, strict=True) if value is not None}
    for pair in ((r, e) for r in (None, *VALUES) for e in (None, *VALUES))
)
EXPRESSIONS = tuple(
    Expression(key=key, operator=operator, values=frozenset(values))
    for key in KEYS
    for operator, values in (
        (Operator.IN, "a"), (Operator.EXISTS, ""), (Operator.NOT_IN, "a"), (Operator.DOES_NOT_EXIST, ""),
        (Operator.IN, "bc"), (Operator.NOT_IN, "bc"),
    )
)  # fmt: skip


def _ports_of(protocol: int) -> list[PortRange]:
    ends = [*((port, port) for port in PORTS), (0, 0), (0, 1023), (22, 80), (80, 443), (443, 65535), (1024, 65535)]
    return [PortRange(protocol=protocol, first=first, last=last) for first, last in ends]


_OPEN = tuple(r for protocol in (TCP, TCP, UDP, SCTP) for r in _ports_of(protocol))
_WHOLE = tuple(PortRange(protocol=protocol) for protocol in (TCP, UDP, SCTP, *NUMBERS, *(ANY_PROTOCOL,) * 5))
_MESSAGES = (
    *(PortRange(protocol=protocol) for protocol in (*ICMP_TYPES, *ICMP_TYPES)),
    *(PortRange(protocol=p, first=t << 8, last=(t << 8) + 255) for p, types in ICMP_TYPES.items() for t in types),
    *(PortRange(protocol=p, first=at, last=at) for p, at in ((ICMP, 8 << 8), (ICMP, 0x304), (ICMPV6, 0x104))),
)
ranges = st.one_of(st.sampled_from(_OPEN), st.sampled_from(_OPEN), st.sampled_from(_WHOLE), st.sampled_from(_MESSAGES))


def comb(protocol: int, first: int, step: int, width: int, teeth: int) -> tuple[PortRange, ...]:
    """Port ranges with holes between them: more intervals than one page holds."""
    starts = [first + step * tooth for tooth in range(teeth)]
    return tuple(PortRange(protocol=protocol, first=start, last=start + width - 1) for start in starts)


COMBS = (
    comb(TCP, 20, 4, 1, 6), comb(TCP, 0, 100, 50, 9), comb(UDP, 40, 7, 2, 8), comb(SCTP, 65500, 9, 1, 4),
    comb(UDP, 50, 3, 1, 5), comb(TCP, 21, 2, 1, 33),
)  # fmt: skip
"""The last one is deeper: a page of pages of pages has more than 64 intervals."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Named ports, and the VMs that offer them."""

    path: str
    ports: tuple[PortRange, ...]
    group: Group | None = None
    """None: it has no selector, and is no peer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What policies may speak of."""

    scopes: tuple[Scope, ...]
    networks: tuple[str, ...]
    prefixes: tuple[Prefix, ...]
    services: tuple[Service, ...] = ()


# Strategies are made once for each vocabulary: to make one takes much longer than to draw from it.


@functools.cache
def groups(*scopes: Scope) -> st.SearchStrategy[Group]:
    return st.builds(
        Group, scope=st.sampled_from(scopes), expressions=st.frozensets(st.sampled_from(EXPRESSIONS), max_size=2)
    )


@functools.cache
def subjects(*scopes: Scope) -> st.SearchStrategy[Group]:
    """VMs of the widest of ``scopes``, often all of them; sometimes of a narrower one."""
    widest = min(scopes, key=len)
    return st.one_of(st.just(Group(scope=widest)), groups(widest), groups(*scopes))


@functools.cache
def cidrs(words: Vocabulary) -> st.SearchStrategy[Peer]:
    return st.sampled_from(tuple(InCidr(prefix=prefix) for prefix in words.prefixes))


@functools.cache
def peers(words: Vocabulary) -> st.SearchStrategy[Peer]:
    scopes = st.sampled_from(tuple(Group(scope=scope) for scope in words.scopes))
    networks = st.sampled_from(tuple(OnNetwork(path=path) for path in words.networks))
    return st.one_of(groups(*words.scopes), cidrs(words), scopes, networks, groups(*words.scopes))


@functools.cache
def port_lists(words: Vocabulary) -> st.SearchStrategy[tuple[PortRange, ...]]:
    """What a rule's ``ports`` may hold: ranges, a service's, or more ranges than a page has room for."""
    few = st.lists(ranges, min_size=1, max_size=3).map(tuple)
    named = [st.sampled_from(tuple(service.ports for service in words.services))] if words.services else []
    return st.one_of(few, few, few, few, *named, st.one_of(few, few, st.sampled_from(COMBS)))


@functools.cache
def clauses(words: Vocabulary) -> st.SearchStrategy[tuple[Clause, ...]]:
    """The clauses of one rule, as its peers and ports make them."""
    named = tuple(service for service in words.services if service.group)
    one = st.one_of(peers(words), peers(words), *([st.sampled_from(named)] if named else []))
    some = st.lists(one, min_size=1, max_size=3)
    rings = st.lists(cidrs(words), min_size=3, max_size=5)
    return st.builds(_clauses, st.one_of(st.none(), some, some, rings), st.none() | port_lists(words))


def _clauses(several: list[Peer | Service] | None, ports: tuple[PortRange, ...] | None) -> tuple[Clause, ...]:
    if several is None:
        return (Clause(ports=ports or ()),)
    return tuple(
        Clause(peer=one.group, ports=one.ports if ports is None else ports)
        if isinstance(one, Service)
        else Clause(peer=one, ports=ports or ())
        for one in several
    )


_DIRECTIONS = st.sampled_from(((Direction.INGRESS,), (Direction.EGRESS,), (Direction.EGRESS, Direction.INGRESS)))
_ACTIONS = {
    Tier.ADMIN: st.sampled_from((Action.ACCEPT, Action.DENY, Action.PASS, Action.DENY, Action.PASS)),
    Tier.TENANT: st.sampled_from((Action.ACCEPT, Action.DENY)),
    Tier.BASELINE: st.sampled_from((Action.ACCEPT, Action.DENY)),
}
_TIERS, _PRIORITIES = st.sampled_from(tuple(Tier)), st.sampled_from((500, 0, 1000))
_STAGED, _RULES = st.sampled_from((False, False, False, True)), st.sampled_from((1, 0, 2, 2, 3, 4))


@st.composite
def policies(draw: st.DrawFn, words: Vocabulary, *, name: str, scopes: tuple[Scope, ...] = ()) -> Policy:
    """One policy called ``name``, of one of ``scopes`` (none given: of any)."""
    scope, tier = draw(st.sampled_from(scopes or words.scopes)), draw(_TIERS)
    return Policy(
        name=name, scope=scope, tier=tier, priority=draw(_PRIORITIES), staged=draw(_STAGED),
        subject=draw(subjects(*(s for s in words.scopes if scope.contains(s)))),
        rules={
            direction: tuple(
                Rule(
                    ref=RuleRef.of(scope, name, direction, f"r{at}"), action=draw(_ACTIONS[tier]),
                    clauses=draw(clauses(words)),
                )
                for at in range(draw(_RULES))
            )
            for direction in draw(_DIRECTIONS)
        },
    )  # fmt: skip
