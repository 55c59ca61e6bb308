"""Large tables that never change: what is otherwise in the next one costs what differs, and the rest is shared."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, Generic, Self, TypeVar

_BUCKETS: Final = 2048
_EMPTY: Final[tuple[dict[object, object], ...]] = ({},) * _BUCKETS

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
M = TypeVar("M", bound=Hashable)


class Buckets(Generic[K, V]):
    """A table in many small ones, by the hash of the key. A change copies those that it concerns."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Sequence[Mapping[K, V]] = _EMPTY) -> None:  # type: ignore[assignment]  # empty is empty
        """Begin with nothing."""
        self._buckets = buckets

    def get(self, key: K) -> V | None:
        """Return what stands under ``key``; None: nothing does."""
        return self._buckets[hash(key) % _BUCKETS].get(key)

    def changed(self, changes: Mapping[K, V | None]) -> Self:
        """Return the table with other things under some keys (None: with nothing)."""
        if not changes:
            return self
        buckets = list(self._buckets)
        own: dict[int, dict[K, V]] = {}
        for key, value in changes.items():
            at = hash(key) % _BUCKETS
            bucket = own.get(at)
            if bucket is None:
                bucket = buckets[at] = own[at] = dict(buckets[at])
            if value is None:
                bucket.pop(key, None)
            else:
                bucket[key] = value
        return type(self)(buckets)


class Index(Generic[K, M]):
    """Which things there are under a key: any number."""

    __slots__ = ("_sets",)

    def __init__(self, sets: Buckets[K, frozenset[M]] | None = None) -> None:
        """Begin with nothing."""
        self._sets = Buckets[K, frozenset[M]]() if sets is None else sets

    def get(self, key: K) -> frozenset[M]:
        """Return all things under ``key``."""
        return self._sets.get(key) or frozenset()

    def changed(self, gone: Iterable[tuple[K, M]], come: Iterable[tuple[K, M]]) -> Self:
        """Return the index without some things, and then with others."""
        less, more = _grouped(gone), _grouped(come)
        changes = {key: ((self.get(key) - less[key]) | more[key]) or None for key in less.keys() | more.keys()}
        return type(self)(self._sets.changed(changes))


def _grouped(pairs: Iterable[tuple[K, M]]) -> collections.defaultdict[K, set[M]]:
    found: collections.defaultdict[K, set[M]] = collections.defaultdict(set)
    for key, thing in pairs:
        found[key].add(thing)
    return found
