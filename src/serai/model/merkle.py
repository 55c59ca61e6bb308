"""The Merkle tree of RFC 6962, section 2.1: what makes a log tamper-evident. SHA-256; leaves and nodes are hashed apart."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Final, Self

EMPTY: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""
_BYTES: Final = 32


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclasses.dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: the roots of its perfect subtrees, the largest first. All that is needed to append to it."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, hashed: bytes) -> Frontier:
        """Return the frontier with one more leaf, given its hash."""
        roots, size = list(self.roots), self.size
        while size & 1:
            hashed = node_hash(roots.pop(), hashed)
            size >>= 1
        return Frontier(self.size + 1, (*roots, hashed))

    @property
    def root(self) -> bytes:
        """The root of the whole tree."""
        if not self.roots:
            return EMPTY
        *others, root = self.roots
        for left in reversed(others):
            root = node_hash(left, root)
        return root

    def encode(self) -> bytes:
        """Write it down."""
        return self.size.to_bytes(8, "big") + b"".join(self.roots)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote.

        Raises:
            ValueError: it is no frontier.
        """
        size, rest = int.from_bytes(raw[:8], "big"), raw[8:]
        roots = tuple(rest[at : at + _BYTES] for at in range(0, len(rest), _BYTES))
        if len(raw) < 8 or len(rest) != _BYTES * size.bit_count():  # noqa: PLR2004 (the size has eight bytes)
            raise ValueError("these bytes are not the frontier of a tree")
        return cls(size, roots)


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of the tree over these leaf hashes."""
    frontier = Frontier()
    for hashed in hashes:
        frontier = frontier.append(hashed)
    return frontier.root


def consistency_proof(hashes: Sequence[bytes], old: int) -> list[bytes]:
    """Return what proves that the tree over ``hashes`` continues that over the first ``old`` of them (RFC 6962, 2.1.2).

    Raises:
        ValueError: there is no such smaller tree.
    """
    if not 0 < old <= len(hashes):
        raise ValueError(f"a tree of {len(hashes)} leaves continues none of {old}")
    return _subproof(hashes, old, whole=True)


def _subproof(hashes: Sequence[bytes], old: int, *, whole: bool) -> list[bytes]:
    if old == len(hashes):
        return [] if whole else [root_of(hashes)]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= split:
        return [*_subproof(hashes[:split], old, whole=whole), root_of(hashes[split:])]
    return [*_subproof(hashes[split:], old - split, whole=False), root_of(hashes[:split])]


def continues(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether ``proof`` shows that a tree continues a smaller one (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for hashed in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(hashed, first), node_hash(hashed, second)
            while at & 1 == 0 and at != 0:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, hashed)
        at, last = at >> 1, last >> 1
    return first == old_root and second == new_root and last == 0


def inclusion_proof(hashes: Sequence[bytes], at: int) -> list[bytes]:
    """Return what proves that a leaf is in the tree over ``hashes`` (RFC 6962, 2.1.1).

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= at < len(hashes):
        raise ValueError(f"a tree of {len(hashes)} leaves has no leaf {at}")
    if len(hashes) == 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if at < split:
        return [*inclusion_proof(hashes[:split], at), root_of(hashes[split:])]
    return [*inclusion_proof(hashes[split:], at - split), root_of(hashes[:split])]


def includes(hashed: bytes, at: int, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether ``proof`` shows that a leaf is in a tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= at < size:
        return False
    last = size - 1
    for other in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            hashed = node_hash(other, hashed)
            while at & 1 == 0 and at != 0:
                at, last = at >> 1, last >> 1
        else:
            hashed = node_hash(hashed, other)
        at, last = at >> 1, last >> 1
    return last == 0 and hashed == root
