"""Policies written down: equal meaning, equal text. What content-derived numbers are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from serai.model.address import Prefix
from serai.model.policy import Direction, Group, InCidr, OnNetwork, Peer, Policy, RuleRef

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
        digest: 16 bytes that name the text.
        refs: its rules, egress before ingress.
        numbers: the 8 bytes that name each rule, in the same order.
        peers: whom its rules speak of, each once, in order.
        peer_names: the 16 bytes that name each of them.
        prefixes: the prefixes among the peers, in order.
    """

    __slots__ = ("digest", "numbers", "peer_names", "peers", "policy", "prefixes", "refs", "text")

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
            (policy.tier, policy.priority, policy.staged, str(policy.scope), policy.name, msgspec.Raw(spell_peer(policy.subject)), written)
        )
        self.policy = policy
        self.text: str = raw.decode()
        self.digest = hashlib.blake2b(raw, digest_size=16).digest()
        self.refs: tuple[RuleRef, ...] = tuple(rule.ref for rule in rules)
        self.numbers: tuple[bytes, ...] = tuple(ref.id.to_bytes(8, "little") for ref in self.refs)
        self.peers: tuple[Peer, ...] = tuple(peers)
        self.peer_names = tuple(map(_name_of_spelled, peers.values()))
        self.prefixes: tuple[Prefix, ...] = tuple(peer.prefix for peer in self.peers if isinstance(peer, InCidr))


def name_of_peer(peer: Peer) -> bytes:
    """Return the 16 bytes that name a peer."""
    return _name_of_spelled(spell_peer(peer))


def _name_of_spelled(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


class Names:
    """Gives 8 bytes to whatever is named by its content, and sees to it that they name nothing else."""

    def __init__(self) -> None:
        """Begin with no names given."""
        self._given: dict[bytes, int] = {}

    def give(self, kind: bytes, content: bytes) -> bytes:
        """Return the name of ``content``, of a kind that has its own form of content.

        Raises:
            ValueError: another content has that name already: 64 bits do collide, once in a very long while.
        """
        name = hashlib.blake2b(content, digest_size=8, person=kind).digest()
        if name == NOBODY:
            name = b"\1" + NOBODY[1:]
        self.note(name, content)
        return name

    def note(self, name: bytes, content: bytes | str) -> None:
        """Take down that ``name`` was given to ``content``; raises as ``give`` does."""
        mark = hash(content)
        if self._given.setdefault(name, mark) != mark:
            raise ValueError(f"two things share the number {name.hex()}: rename {content!r}")


NOBODY: Final = bytes(8)
"""The name that is never given."""


def joined(names: Iterable[bytes]) -> bytes:
    """Put the names of a set in one order, whatever order they come in."""
    return b"".join(sorted(names))
