"""Policies written down: equal meaning, equal text. What content-derived numbers are made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from serai.model.policy import Direction, Group, InCidr, OnNetwork, Peer, Policy, RuleRef
from serai.model.tenancy import ROOT, Scope

DIRECTIONS: Final = (Direction.EGRESS, Direction.INGRESS)
"""In the order in which everything here goes through them."""


_ENCODER: Final = msgspec.json.Encoder()


def spell_peer(peer: Peer) -> bytes:
    """Write down who is meant."""
    match peer:
        case Group():
            wanted = sorted((e.key, e.operator.value, sorted(e.values)) for e in peer.expressions)
            return _ENCODER.encode({"scope": str(peer.scope), "labels": wanted})
        case OnNetwork():
            return _ENCODER.encode({"network": peer.path})
        case InCidr():
            return _ENCODER.encode({"prefix": str(peer.prefix)})


class SpelledPolicy:
    """A policy, and what is derived from it alone: worked out once, used by every compilation.

    Attributes:
        policy: the policy.
        text: all that matters of it. Every scope, path and rule in it begins behind a quotation mark, every prefix stands
            behind ``"prefix":"``, and neither mark occurs anywhere else.
        local: the text as it reads from the tenant whose policy it is: without its name, and without prefixes.
        mentions: the prefixes in the text, as often as they stand there.
        digest: 16 bytes that name the text.
        refs: its rules, egress before ingress.
        texts: how each of them is called.
        numbers: the 8 bytes that name each rule, in the same order.
        peers: whom its rules speak of, each once, in order, by the 16 bytes that name each.
        prefixes: the prefixes among the peers, written down.
    """

    __slots__ = (
        "digest",
        "local",
        "mentions",
        "numbers",
        "peers",
        "policy",
        "prefixes",
        "refs",
        "text",
        "texts",
    )

    def __init__(self, policy: Policy) -> None:
        """Write ``policy`` down."""
        sides = [policy.rules.get(direction) for direction in DIRECTIONS]
        rules = [rule for side in sides if side for rule in side]
        peers = {c.peer: b"" for rule in rules for c in rule.clauses if c.peer is not None}
        for peer in peers:
            peers[peer] = spell_peer(peer)
        spelled = {peer: msgspec.Raw(raw) for peer, raw in peers.items()}
        written = [
            side if side is None else [
                (rule.ref.text, rule.action, [(c.peer and spelled[c.peer], c.ports) for c in rule.clauses]) for rule in side
            ]
            for side in sides
        ]  # fmt: skip
        raw = _ENCODER.encode(
            (
                policy.tier,
                policy.priority,
                policy.staged,
                str(policy.scope),
                policy.name,
                msgspec.Raw(spell_peer(policy.subject)),
                written,
            )
        )
        self.policy = policy
        self.text: str = raw.decode()
        self.local, self.mentions = _local(self.text, policy.scope)
        self.digest = hashlib.blake2b(raw, digest_size=16).digest()
        self.refs: tuple[RuleRef, ...] = tuple(rule.ref for rule in rules)
        self.texts = tuple(ref.text for ref in self.refs)
        self.numbers: tuple[bytes, ...] = tuple(ref.id.to_bytes(8, "little") for ref in self.refs)
        self.peers: dict[bytes, Peer] = {_name_of_spelled(raw): peer for peer, raw in peers.items()}
        self.prefixes = tuple(str(peer.prefix) for peer in peers if isinstance(peer, InCidr))


OWN: Final = "$"
"""Stands for a tenant's own scope; no scope, path, rule or prefix begins so."""

_PREFIX: Final = re.compile(r'(?<="prefix":")[^"]+')


def _local(text: str, scope: Scope) -> tuple[str, tuple[str, ...]]:
    if '"prefix":"' in text:
        mentions = tuple(_PREFIX.findall(text))
        text = _PREFIX.sub("", text)
    else:
        mentions = ()
    return impersonal(text, scope.root), mentions


def local_to(root: Scope) -> Callable[[str], str]:
    """Return how scopes, paths and names of rules read from ``root``."""
    if root == ROOT:
        return str
    size = len(root)

    def local(path: str) -> str:
        inside = path.startswith(root) and path[size : size + 1] in {"", "/", ":"}
        return OWN + path[size:] if inside else str(path)

    return local


def impersonal(text: str, root: Scope) -> str:
    """Take a tenant's name out of a text, so that other tenants' read the same."""
    if root == ROOT or f'"{root}' not in text:
        return text
    for mark in '"/:':
        text = text.replace(f'"{root}{mark}', f'"{OWN}{mark}')
    return text


def name_of_peer(peer: Peer) -> bytes:
    """Return the 16 bytes that name a peer."""
    return _name_of_spelled(spell_peer(peer))


def _name_of_spelled(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


def give(kind: bytes, contents: Iterable[bytes]) -> list[bytes]:
    """Return the 8 bytes that name each of ``contents``, of a kind that has its own form of content; never ``NOBODY``."""
    names = [hashlib.blake2b(content, digest_size=8, person=kind).digest() for content in contents]
    return names if NOBODY not in names else [b"\1" + name[1:] if name == NOBODY else name for name in names]


NOBODY: Final = bytes(8)
"""The name that is never given."""


def joined(names: Iterable[bytes]) -> bytes:
    """Put the names of a set in one order, whatever order they come in."""
    return b"".join(sorted(names))
