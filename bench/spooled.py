"""What an agent keeps on disk of traffic, as long as no controller takes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from serai.agent.batches import Batch
from serai.datapath import frames
from serai.model.flow_record import BATCH_RECORDS, FLOW_COLUMNS
from serai.wire.records import decode
from serai.wire.remote import Records, decode_from_agent

_MOST_BYTES: Final = 16 * 1024 * 1024


def files(directory: Path) -> list[Path]:
    """Return the batches that are whole, in their order."""
    found = [(batch, path) for path in directory.glob("*") if path.suffix != ".new" and (batch := Batch.of(path))]
    return [path for _, path in sorted(found)]


def read(path: Path) -> Iterator[Records]:
    """Go through the batches of a file: it has one."""
    for piece in frames.read(path.read_bytes()):
        message = decode_from_agent(bytes(piece))
        if isinstance(message, Records):
            yield message


def in_interval(paths: Sequence[Path], until: float) -> int:
    """Return how many records the latest interval has, which ends then."""
    batches = (batch for path in reversed(paths) for batch in read(path))
    return sum(batch.records for batch in itertools.takewhile(lambda batch: batch.until == until, batches))


def begun(batch: Records, protocol: int) -> int:
    """Return how many flows of a protocol a batch says to have begun."""
    rows = decode(batch.flows, FLOW_COLUMNS, most_rows=BATCH_RECORDS, most_bytes=_MOST_BYTES)
    mine = rows["protocol"].to_numpy() == protocol
    return int(rows["connections"].to_numpy()[mine].sum())
