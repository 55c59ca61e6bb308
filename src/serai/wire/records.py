"""Records of traffic as agents send them: numpy columns, as an Arrow IPC stream, compressed with zstd.

Agents write them without Arrow's own library, which would take more memory than all the rest of an agent. Who reads them trusts
nobody: what is not exactly such records is refused before it costs anything.
"""

from __future__ import annotations

import functools
import io
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from serai.model.flow_record import Column, Kind

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    import pyarrow as pa

_LEVEL: Final = 1
_WINDOW_BITS: Final = 23
"""What the decompressor may have to remember at the most: no writer of ours asks for more."""
_RECORD_BATCH: Final = 3
_HEADER_TYPE, _HEADER, _COMPRESSION = 1, 2, 3
"""Fields of Arrow's Message (the first two) and RecordBatch."""


class RecordsError(ValueError):
    """These bytes are not records of the columns that are expected."""


def encode(rows: NDArray[Any], columns: Mapping[str, Column]) -> bytes:
    """Write records (``model.flow_record.layout``); none are no bytes."""
    if not len(rows):
        return b""
    import nanoarrow as na  # noqa: PLC0415  (slow to load, and gates are waiting when an agent starts)
    import nanoarrow.ipc  # noqa: PLC0415

    kinds = {name: _written(column.kind) for name, column in columns.items()}
    children = [
        na.c_array_from_buffers(kind, len(rows), [None, np.ascontiguousarray(rows[name]).view("u1")])
        for name, kind in kinds.items()
    ]
    stream = io.BytesIO()
    with nanoarrow.ipc.StreamWriter.from_writable(stream) as writer:
        writer.write_array(na.c_array_from_buffers(na.struct(kinds), len(rows), [None], children=children))
    return zstd.compress(stream.getbuffer(), _LEVEL)


def decode(raw: bytes, columns: Mapping[str, Column], *, most_rows: int, most_bytes: int) -> pa.Table:
    """Read records that anybody may have written.

    Args:
        raw: what ``encode`` returned.
        columns: those that they have, in this order.
        most_rows: how many there may be.
        most_bytes: how long they may be when they are not compressed.

    Raises:
        RecordsError: they are malformed, too many or too long, or have other columns.
    """
    import pyarrow as pa  # noqa: PLC0415  (agents do without it)

    expected = pa.schema([(name, _read(pa, column.kind)) for name, column in columns.items()])
    if not raw:
        return expected.empty_table()
    stream = _decompressed(raw, most_bytes)
    try:
        _refuse_compression(pa, stream)
        with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
            if not reader.schema.equals(expected):
                raise RecordsError(f"these records have other columns: {str(reader.schema)[:1000]}")
            batches, rows = [], 0
            for batch in reader:
                rows += batch.num_rows
                if rows > most_rows:
                    raise RecordsError(f"these are more than {most_rows} records")
                batch.validate(full=True)
                batches.append(batch)
        table = pa.Table.from_batches(batches, expected)
    except (pa.ArrowException, OSError, struct.error, IndexError, OverflowError, MemoryError) as error:
        raise RecordsError(f"these bytes are not records: {error}") from error
    for name in columns:
        if table[name].null_count:
            raise RecordsError(f"records of these lack their {name}")
    return table


def _decompressed(raw: bytes, most_bytes: int) -> bytes:
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_BITS})
    try:
        stream = decompressor.decompress(raw, max_length=most_bytes + 1)
    except (zstd.ZstdError, EOFError) as error:
        raise RecordsError(f"these bytes are not compressed records: {error}") from error
    if len(stream) > most_bytes:
        raise RecordsError(f"these records are longer than {most_bytes} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise RecordsError("these bytes are more, or less, than compressed records")
    return stream


def _refuse_compression(pa: Any, stream: bytes) -> None:  # noqa: ANN401
    """Arrow may compress what is in a stream once more: how much comes of that is not known before it has come."""
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(stream))):
        if message.type != ("record batch" if number else "schema"):
            raise RecordsError(f"these bytes are not records: {message.type} {number}")
        if number and _is_compressed(message.metadata.to_pybytes()):
            raise RecordsError("these records are compressed twice")


def _is_compressed(metadata: bytes) -> bool:
    """Look into the flatbuffer of a Message."""
    table = _number("<I", metadata, 0)
    kind, header = _field(metadata, table, _HEADER_TYPE), _field(metadata, table, _HEADER)
    if not kind or not header or _number("<B", metadata, kind) != _RECORD_BATCH:
        raise RecordsError("these bytes are not records: a message is of no kind")
    return bool(_field(metadata, header + _number("<I", metadata, header), _COMPRESSION))


def _field(raw: bytes, table: int, number: int) -> int:
    """Where a field of a table is; 0: it has none."""
    ways = table - _number("<i", raw, table)
    if _number("<H", raw, ways) < 6 + 2 * number:
        return 0
    way = _number("<H", raw, ways + 4 + 2 * number)
    return table + way if way else 0


def _number(form: str, raw: bytes, at: int) -> int:
    if at < 0:
        raise IndexError("a place before the beginning")
    (number,) = struct.unpack_from(form, raw, at)
    return int(number)


@functools.cache
def _written(kind: Kind) -> Any:  # noqa: ANN401
    import nanoarrow as na  # noqa: PLC0415

    match kind:
        case Kind.UINT8:
            return na.uint8()
        case Kind.UINT16:
            return na.uint16()
        case Kind.UINT32:
            return na.uint32()
        case Kind.UINT64:
            return na.uint64()
        case Kind.ADDRESS:
            return na.fixed_size_binary(16)


def _read(pa: Any, kind: Kind) -> Any:  # noqa: ANN401
    return pa.binary(16) if kind is Kind.ADDRESS else getattr(pa, kind.name.lower())()
