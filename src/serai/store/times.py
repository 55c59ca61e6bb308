"""Times as they stand in tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def write(time: datetime) -> str: ...
@overload
def write(time: None) -> None: ...
def write(time: datetime | None) -> str | None:
    """Write a time so that texts sort as times do."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(text: str) -> datetime:
    """Read what ``write`` wrote."""
    return datetime.fromisoformat(text)


def read_any(text: str | None) -> datetime | None:
    """Read what ``write`` wrote, or nothing."""
    return None if text is None else read(text)
