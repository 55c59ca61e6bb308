"""Pieces of a file of which one may be cut off, or damaged, by what ends its writer: each has its length and a checksum."""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np

from serai.datapath.maps import Array

_HEAD: Final = struct.Struct("<II")


def write(file: BinaryIO, *parts: bytes | Array) -> None:
    """Write one piece, made of these parts.

    Raises:
        OSError: the disk refuses.
    """
    views = [_view(part) for part in parts]
    check = 0
    for view in views:
        check = zlib.crc32(view, check)
    for view in (memoryview(_HEAD.pack(sum(map(len, views)), check)), *views):
        if file.write(view) != len(view):
            raise OSError(errno.ENOSPC, "the disk is full")


def read(raw: bytes) -> Iterator[memoryview]:
    """Go through all pieces, up to the first that is not whole."""
    left = memoryview(raw)
    while len(left) >= _HEAD.size:
        length, check = _HEAD.unpack_from(left)
        piece = left[_HEAD.size : _HEAD.size + length]
        if len(piece) < length or zlib.crc32(piece) != check:
            return
        yield piece
        left = left[_HEAD.size + length :]


def _view(part: bytes | Array) -> memoryview:
    if isinstance(part, bytes):
        return memoryview(part)
    return memoryview(np.ascontiguousarray(part).view("u1"))  # type: ignore[arg-type]  # arrays are buffers, whatever stubs say
