"""The records themselves, page by page; and the names that go with their numbers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Final

from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.source import raw_source
from serai.analysis.traffic.statement import Statement
from serai.model.flow_record import FLOW_COLUMNS, NAMED_COLUMNS

_ORDER: Final = "at DESC, vm, vnic, protocol, remote, remote_port, local_port, event, verdict, packets_out, packets_in"
_CURSOR: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,9})")


class CursorError(ValueError):
    """That is no place in a list of records."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page ended: behind so many records of one second."""

    at: int
    behind: int

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Read what ``str`` has written.

        Raises:
            CursorError: it is something else.
        """
        found = _CURSOR.fullmatch(text)
        if not found:
            raise CursorError(
                f"{text[:40]!r} is no place in a list of records: give back the 'after' of the page before, as it was"
            )
        return cls(at=int(found[1]), behind=int(found[2]))

    def __str__(self) -> str:
        return f"{self.at}-{self.behind}"


def records(asked: Asked, after: Cursor | None) -> Statement:
    """Ask for records, the latest first; rows have all columns of a record, ``at`` in seconds since 1970."""
    window = asked.window
    if after is not None:
        asked = dataclasses.replace(asked, window=dataclasses.replace(window, until=min(window.until, after.at)))
    where = raw_source(asked).where
    columns = ", ".join(
        "toUInt32(f.at) AS at" if name == "at" else f"f.{name} AS {name}" for name in (*FLOW_COLUMNS, *NAMED_COLUMNS)
    )
    sql = f"SELECT {columns} FROM (SELECT * FROM flows WHERE {where.sql}) AS f ORDER BY {_ORDER} LIMIT {{skip:UInt32}}, {{limit:UInt32}}"
    return Statement(
        sql=sql,
        parameters={**where.parameters, "skip": after.behind if after else 0, "limit": asked.limit},
        table="flows",
    )


def next_cursor(ats: Sequence[int], after: Cursor | None) -> Cursor:
    """Return the place behind a page whose records have these times, the latest first."""
    last = ats[-1]
    same = sum(1 for at in ats if at == last)
    return Cursor(at=last, behind=same + (after.behind if after and after.at == last else 0))


def names_of(table: str, numbers: Iterable[int]) -> Statement:
    """Ask for the rows of ``endpoints``, ``vnics`` or ``rules`` with these numbers."""
    column = {"endpoints": "number", "vnics": "vnic", "rules": "number"}[table]
    return Statement(
        sql=f"SELECT * FROM {table} WHERE {column} IN {{numbers:Array(UInt64)}}",
        parameters={"numbers": sorted(numbers)},
    )


def numbers_of(vm: str) -> Statement:
    """Ask for the numbers, paths and scopes that a VM called ``vm`` (a name or a path) has and had."""
    return Statement(
        sql="SELECT number, path, scope, tenant FROM endpoints WHERE path = {vm:String} OR name = {vm:String} ORDER BY path, number",
        parameters={"vm": vm},
    )
