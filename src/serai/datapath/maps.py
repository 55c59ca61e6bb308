"""Kernel maps as structured arrays: whole tables in, whole tables out."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serai.datapath import libbpf
from serai.datapath.layout import Layout
from serai.datapath.libbpf import KernelError, check, ffi, lib

Array = NDArray[Any]

_SLACK = 4096  # must exceed the fullest hash bucket, else the kernel answers ENOSPC
_ENOTSUPP = 524  # the kernel's own number, which libc does not name
_NO_BATCH = {errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP}
_HASH = 1


def comparable(records: Array) -> Array:
    """The records as bytes that can be sorted and looked for; numpy pads S with zeros, which is exact at equal width."""
    return np.ascontiguousarray(records).view(f"S{records.dtype.itemsize}")


def without(records: Array, others: Array) -> Array:
    """Those of ``records`` that are not among the others."""
    return records[~np.isin(comparable(records), comparable(others))]


def opaque(records: Array) -> Array:
    """The same records as so many bytes each: numpy copies those at once, and structures field by field."""
    return records.view(f"V{records.dtype.itemsize}")


def some(records: Array, which: Array) -> Array:
    """Those of ``records`` that a mask names; all of them are not copied."""
    return records if which.all() else pick(records, which)


def pick(records: Array, which: Array) -> Array:
    """A copy of those of ``records`` that a mask, or their places, name."""
    return opaque(records)[which].view(records.dtype) if records.dtype.names else records[which]


def together(parts: Sequence[Array], kind: Layout) -> Array:
    """Several arrays of one kind as one, also where there are none."""
    return np.concatenate([np.empty(0, opaque(np.empty(0, kind)).dtype), *map(opaque, parts)]).view(kind)


def _pointer(array: Array) -> Any:  # noqa: ANN401
    return ffi.cast("void *", array.ctypes.data)


class Map:
    """One kernel map; closes its descriptor when it is no longer used."""

    def __init__(self, fd: int, key: Layout, value: Layout) -> None:
        """Take over ``fd``."""
        self.fd = fd
        self.key = key
        self.value = value

    @classmethod
    def pinned(cls, path: str, key: Layout, value: Layout) -> Self:
        """Open the map pinned at ``path``."""
        return cls(check(lib.bpf_obj_get(path.encode()), f"open {path}"), key, value)

    @classmethod
    def hash(cls, name: str, key: Layout, value: Layout, entries: int) -> Self:
        """Make a hash map with room, taken at once, for ``entries``."""
        fd = lib.bpf_map_create(_HASH, name.encode(), key.itemsize, value.itemsize, entries, libbpf.NULL)
        return cls(check(fd, f"make map {name}"), key, value)

    @classmethod
    def by_id(cls, number: int, key: Layout, value: Layout) -> Self:
        """Open a map by the kernel's number for it (what a map of maps holds). That takes CAP_SYS_ADMIN.

        Raises:
            KernelError: this program may not, or there is none.
        """
        fd = lib.bpf_map_get_fd_by_id(number)
        if fd == -errno.EPERM:
            message = (
                f"map {number} is of an earlier version, and only root with all capabilities may open it: "
                "run 'serai agent run' as root once, outside of its unit, and stop it again; the gates stay all the time"
            )
            raise KernelError(errno.EPERM, message)
        return cls(check(fd, f"open map {number}"), key, value)

    @functools.cached_property
    def capacity(self) -> int:
        """How many entries the map may hold, as the kernel says."""
        facts = Path(f"/proc/self/fdinfo/{self.fd}").read_text()
        return int(facts.partition("max_entries:")[2].split()[0])

    def __del__(self) -> None:
        """Close the descriptor; the map lives on while it is pinned or used."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def get(self, key: object) -> Array | None:
        """Return the value of ``key`` (an array of one), or None."""
        keys, values = np.array([key], self.key), np.zeros(1, self.value)
        result = lib.bpf_map_lookup_elem(self.fd, _pointer(keys), _pointer(values))
        if result == -errno.ENOENT:
            return None
        check(result, "look up")
        return values

    def update(self, keys: Array, values: Array) -> None:
        """Write all pairs; each replaces what stood under its key in one step.

        Raises:
            KernelError: E2BIG where the map is full; pairs before that one are written.
        """
        keys, values = np.ascontiguousarray(keys, self.key), np.ascontiguousarray(values)
        if values.nbytes != len(keys) * self.value.itemsize:
            message = f"{len(keys)} keys need {self.value.itemsize} bytes each of values"
            raise ValueError(message)
        if not len(keys):
            return
        count = ffi.new("__u32 *", len(keys))
        options = libbpf.struct("bpf_map_batch_opts")
        result = lib.bpf_map_update_batch(self.fd, _pointer(keys), _pointer(values), count, options)
        if -result in _NO_BATCH and not count[0]:
            flat = values.reshape(len(keys), -1)
            for at in range(len(keys)):
                item = lib.bpf_map_update_elem(self.fd, _pointer(keys[at:]), _pointer(flat[at:]), 0)
                check(item, "update")
            return
        check(result, f"update a map of {len(keys)} entries, after {count[0]}")

    def delete(self, keys: Array) -> None:
        """Remove all of ``keys``; those that are not there are fine."""
        keys = np.ascontiguousarray(keys, self.key)
        # One by one: the batched call stops at the first key that is missing, and the gate itself removes flows.
        for at in range(len(keys)):
            result = lib.bpf_map_delete_elem(self.fd, _pointer(keys[at:]))
            if result != -errno.ENOENT:
                check(result, "delete")

    def take(self, keys: Array) -> tuple[Array, Array]:
        """Remove ``keys`` and return those that were there with their last values, none lost between."""
        keys = np.ascontiguousarray(keys, self.key)
        values = np.zeros(len(keys), self.value)
        present = np.ones(len(keys), "?")
        for at in range(len(keys)):
            result = lib.bpf_map_lookup_and_delete_elem(self.fd, _pointer(keys[at:]), _pointer(values[at:]))
            present[at] = result != -errno.ENOENT
            if present[at]:
                check(result, "take")
        return keys[present], values[present]

    def dump(self) -> tuple[Array, Array]:
        """Return all keys and values, in no order; entries that change meanwhile come as either."""
        room, filled = self.capacity + _SLACK, 0
        keys, values = np.empty(room, self.key), np.empty(room, self.value)  # memory is taken as it is written
        position = np.zeros(max(self.key.itemsize, 8), "u1")
        count = ffi.new("__u32 *")
        options = libbpf.struct("bpf_map_batch_opts")
        started = False
        while True:
            if room - filled < _SLACK:  # what came meanwhile
                keys, values = (together([array, np.empty_like(array)], array.dtype) for array in (keys, values))
                room = len(keys)
            count[0] = room - filled
            result = lib.bpf_map_lookup_batch(
                self.fd, _pointer(position) if started else libbpf.NULL, _pointer(position),
                _pointer(keys[filled:]), _pointer(values[filled:]), count, options,
            )  # fmt: skip
            if -result in _NO_BATCH and not started:
                return self._dump_one_by_one()
            if result != -errno.ENOENT:
                check(result, "read a map")
            filled += count[0]
            if result:  # ENOENT: that was the last batch
                return keys[:filled], values[:filled]
            started = True

    def _dump_one_by_one(self) -> tuple[Array, Array]:
        parts = list(self._one_by_one())
        if not parts:
            return np.empty(0, self.key), np.empty(0, self.value)
        return together([k for k, _ in parts], self.key), together([v for _, v in parts], self.value)

    def _one_by_one(self) -> Iterator[tuple[Array, Array]]:
        key: Array | None = None
        while True:
            following = np.zeros(1, self.key)
            start = libbpf.NULL if key is None else _pointer(key)
            result = lib.bpf_map_get_next_key(self.fd, start, _pointer(following))
            if result == -errno.ENOENT:
                return
            check(result, "read a map")
            key, values = following, np.zeros(1, self.value)
            if lib.bpf_map_lookup_elem(self.fd, _pointer(key), _pointer(values)) == 0:
                yield key.copy(), values


__all__ = ["Array", "KernelError", "Map", "comparable", "opaque", "pick", "some", "together", "without"]
