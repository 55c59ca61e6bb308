"""Columns of stored records as arrays, whatever chunks they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[Any]

_ADDRESS_BYTES = 16
_MAPPED = np.frombuffer(bytes(10) + b"\xff\xff", "u1")


def numbers(table: pa.Table, name: str) -> Array:
    """Return a column of numbers."""
    found: Array = table.column(name).to_numpy()
    return found


def addresses(table: pa.Table, name: str) -> Array:
    """Return a column of addresses: 16 bytes in each row."""
    column = table.column(name)
    found = np.empty((len(column), _ADDRESS_BYTES), "u1")
    at = 0
    for chunk in column.chunks:
        raw = np.frombuffer(chunk.buffers()[1], "u1") if len(chunk) else np.empty(0, "u1")
        begins = chunk.offset * _ADDRESS_BYTES
        rows = raw[begins : begins + len(chunk) * _ADDRESS_BYTES].reshape(-1, _ADDRESS_BYTES)
        found[at : at + len(rows)] = rows
        at += len(rows)
    return found


def places(table: pa.Table, name: str) -> tuple[Array, list[str]]:
    """Return a column of texts as places in a list of those that occur."""
    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # what older versions return, and for no rows
        if not whole.num_chunks:
            return np.empty(0, "i8"), []
        whole = whole.chunk(0)
    return whole.indices.to_numpy(zero_copy_only=False).astype("i8"), whole.dictionary.to_pylist()


def is_mapped(rows: Array) -> Array:
    """Say which addresses are IPv4 ones."""
    found: Array = (rows[:, : len(_MAPPED)] == _MAPPED).all(axis=1)
    return found
