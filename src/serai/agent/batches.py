"""Batches: made of what was counted in one interval: as few as may be, none longer than an agent may speak at once; and what their files are called."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from serai.datapath.interval import Interval
from serai.datapath.pending import RECORD
from serai.model.flow_record import BATCH_RECORDS, DROP_COLUMNS, FLOW_COLUMNS, SIGHTING_COLUMNS, Column
from serai.wire.records import encode as encode_rows
from serai.wire.remote import AGENT_LIMIT, Losses, Records, encode

Rows = Mapping[str, NDArray[np.void]]
"""Records by their sort, as ``Records`` names it."""

_COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "flows": FLOW_COLUMNS,
    "drops": DROP_COLUMNS,
    "sightings": SIGHTING_COLUMNS,
}

_NAME: Final = re.compile(r"(\d{4,9})-([0-9a-f]{16})-(\d{1,18})-(\d{1,9})(\.new)?")
_BLOCK: Final = 4096
"""What the smallest file takes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Batch:
    """One batch on disk. They are sent in their order."""

    order: int
    """Of its spool among those that there are."""
    spool: str
    number: int
    records: int
    size: int = dataclasses.field(compare=False)
    """Bytes that it takes."""

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.order:04}-{self.spool}-{self.number}-{self.records}"

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Tell what a file is by its name; None where it is no batch."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            return None
        order, spool, number, records, _ = match.groups()
        return cls(
            order=int(order), spool=spool, number=int(number), records=int(records), size=blocks(path.stat().st_size)
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One batch, written."""

    number: int
    records: int
    """Of all sorts: what is lost where it is."""
    raw: bytes
    """``Records``, encoded."""


def batches(
    interval: Interval, rules: Mapping[int, str], *, spool: str, first: int, since: float, until: float, removed: int
) -> Iterator[Made]:
    """Make the batches of an interval, at least one: also of nothing one must hear.

    Args:
        interval: what was counted.
        rules: the texts of rules, by their numbers.
        spool: what they are kept in.
        first: the number of the first.
        since: when the interval began, in seconds since 1970.
        until: when it ended.
        removed: how many records are removed unsent to make room for these.
    """
    lost = Losses(ring=interval.ring, drops=interval.denials, forgotten=interval.forgotten, spool=removed)
    waiting = _pieces(interval)
    number = first
    while waiting:
        rows = waiting.pop()
        raw = encode(
            Records(
                spool=spool, number=number, since=since, until=until, records=len(rows["flows"]), rules=_texts(rows["flows"], rules), lost=lost,
                **{sort: encode_rows(rows[sort], columns) for sort, columns in _COLUMNS.items()},
            )
        )  # fmt: skip
        if len(raw) > AGENT_LIMIT and max(map(len, rows.values())) > 1:
            half = -(-max(map(len, rows.values())) // 2)
            waiting += [_piece(rows, 1, half), _piece(rows, 0, half)]
            continue
        yield Made(number=number, records=sum(map(len, rows.values())), raw=raw)
        number, lost = number + 1, Losses()


def _pieces(interval: Interval) -> list[Rows]:
    """What each batch has, the last one first."""
    nothing: Rows = {"flows": np.empty(0, RECORD), "drops": interval.drops[:0], "sightings": interval.sightings[:0]}
    sorts = {"flows": interval.flows, "drops": [interval.drops], "sightings": [interval.sightings]}
    split = {
        sort: [part[at : at + BATCH_RECORDS] for part in parts for at in range(0, len(part), BATCH_RECORDS)]
        for sort, parts in sorts.items()
    }
    count = max(1, *map(len, split.values()))
    return [
        {sort: parts[at] if at < len(parts) else nothing[sort] for sort, parts in split.items()}
        for at in reversed(range(count))
    ]


def _piece(rows: Rows, place: int, size: int) -> Rows:
    return {sort: some[place * size : (place + 1) * size] for sort, some in rows.items()}


def _texts(flows: NDArray[np.void], rules: Mapping[int, str]) -> list[str]:
    return sorted(rules[number] for number in np.unique(flows["rule"]).tolist() if number in rules)


def blocks(size: int) -> int:
    """Return how many bytes a file of this size takes."""
    return -(-size // _BLOCK) * _BLOCK
