"""Whom an exporter tells of records, as it sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

from serai.analysis.export.names import Names


class Parcel(Protocol):
    """What is sent at once."""

    @property
    def records(self) -> int:
        """How many it holds."""
        ...


P = TypeVar("P", bound=Parcel)


class Target(Protocol[P]):
    """Somebody who is told."""

    def prepare(self, table: pa.Table, names: Names) -> tuple[Sequence[P], int]:
        """Return what to send of some records, and how many of them are not told for what they are. Works, and waits for nothing."""
        ...

    async def send(self, parcel: P) -> None:
        """Send some records.

        Raises:
            OSError: it does not go on; the same parcel may be sent again.
        """
        ...

    async def away(self) -> None:
        """Know that a parcel could not be sent: what was told before may not be known any more when it goes on."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...
