"""Records on their way: what is written is read, and nothing else is."""

from __future__ import annotations

import io
import random
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.model.flow_record import BATCH_RECORDS, DROP_COLUMNS, FLOW_COLUMNS, SIGHTING_COLUMNS, Column, Kind, layout
from serai.wire.records import RecordsError, decode, encode
from serai.wire.remote import AGENT_LIMIT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = {"most_rows": BATCH_RECORDS, "most_bytes": 1 << 20}


def rows(count: int, columns: Any = FLOW_COLUMNS) -> Any:
    kind = layout(columns)
    return np.frombuffer(np.random.default_rng(count).bytes(kind.itemsize * count), kind)


def stream(table: pa.Table, **options: Any) -> bytes:
    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return written.getvalue()


def arrow(count: int) -> pa.Table:
    return decode(encode(rows(count), FLOW_COLUMNS), FLOW_COLUMNS, **MOST)


@pytest.mark.parametrize("columns", [FLOW_COLUMNS, DROP_COLUMNS, SIGHTING_COLUMNS])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_what_is_written_is_read(columns: dict[str, Column], count: int) -> None:
    written = rows(count, columns)
    table = decode(encode(written, columns), columns, **MOST)
    assert table.column_names == list(columns)
    for name, column in columns.items():
        raw = column.kind is Kind.ADDRESS
        expected = [value.tobytes() for value in written[name]] if raw else written[name].tolist()
        assert table[name].to_pylist() == expected


def test_a_full_batch_fits_into_a_message() -> None:
    assert len(encode(rows(BATCH_RECORDS), FLOW_COLUMNS)) < AGENT_LIMIT * 0.6


def test_another_writer_of_the_same_columns_is_read() -> None:
    assert decode(zstd.compress(stream(arrow(9))), FLOW_COLUMNS, **MOST).equals(arrow(9))


def test_more_than_there_may_be_is_refused() -> None:
    raw = encode(rows(100), FLOW_COLUMNS)
    with pytest.raises(RecordsError, match="more than 99"):
        decode(raw, FLOW_COLUMNS, most_rows=99, most_bytes=1 << 20)
    with pytest.raises(RecordsError, match="longer than 1000"):
        decode(raw, FLOW_COLUMNS, most_rows=100, most_bytes=1000)


def test_a_bomb_does_not_go_off() -> None:
    bomb = zstd.compress(bytes(1 << 28), 1)
    assert len(bomb) < 1 << 16
    with pytest.raises(RecordsError, match="longer"):
        decode(bomb, FLOW_COLUMNS, **MOST)
    with pytest.raises(RecordsError, match="twice"):
        decode(zstd.compress(stream(arrow(9), compression="zstd")), FLOW_COLUMNS, **MOST)


def test_a_window_that_takes_much_memory_is_refused() -> None:
    wide = zstd.compress(random.Random(1).randbytes(1 << 25), options={zstd.CompressionParameter.window_log: 25, zstd.CompressionParameter.content_size_flag: 0})  # fmt: skip
    with pytest.raises(RecordsError):
        decode(wide, FLOW_COLUMNS, **MOST)


def changed(**columns: Any) -> pa.Table:
    table = arrow(3)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


@pytest.mark.parametrize(
    "table",
    [
        changed(vnic=pa.array([1, 2, 3], pa.int64())),
        changed(local=pa.array([b"short"] * 3)),
        changed(vnic=pa.array([1, None, 3], pa.uint64())),
        arrow(3).drop_columns(["at"]),
        arrow(3).append_column("more", pa.array([1, 2, 3])),
        arrow(3).select(list(reversed(arrow(3).column_names))),
        changed(reason=pa.array([1, 1, 1], pa.uint8()).dictionary_encode()),
    ],
    ids=["another type", "no address", "a gap", "one is missing", "one too many", "another order", "a dictionary"],
)
def test_other_columns_are_refused(table: pa.Table) -> None:
    with pytest.raises(RecordsError):
        decode(zstd.compress(stream(table)), FLOW_COLUMNS, **MOST)


def test_more_or_less_than_records_is_refused() -> None:
    raw = encode(rows(5), FLOW_COLUMNS)
    for bad in (raw[:-1], raw + b"\0", raw + raw, b"\0", raw[1:], zstd.compress(b""), zstd.compress(b"ARROW1")):
        with pytest.raises(RecordsError):
            decode(bad, FLOW_COLUMNS, **MOST)


PLAIN = zstd.decompress(encode(rows(5, DROP_COLUMNS), DROP_COLUMNS))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 200),
)
def test_what_is_damaged_is_refused_or_harmless(changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(PLAIN)
    for at, value in changes:
        damaged[at] = value
    try:
        table = decode(zstd.compress(bytes(damaged[: len(damaged) - (cut if cut < 100 else 0)])), DROP_COLUMNS, **MOST)
    except RecordsError:
        return
    assert table.num_rows <= BATCH_RECORDS
    assert [str(field.type) for field in table.schema] == ["uint32", "uint64", "uint8", "uint8", "uint64"]
    table.to_pylist()
