"""Times as people type and read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN = re.compile(r"([0-9]{1,7})([smhd]?)")


class Duration(click.ParamType[int]):
    """``90``, ``90s``, ``5m``, ``2h`` or ``7d``, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 (as click declares it)
        """Read what was typed."""
        if isinstance(value, int):
            return value
        found = _PATTERN.fullmatch(str(value))
        if not found or not int(found[1]):
            self.fail(f"{value!r} is no time: write 90s, 5m, 2h or 7d", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def moment(at: datetime) -> str:
    """Write a time where the person at the terminal is."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
