"""Text that comes from outside, as it stands in tables: all of it, also what PostgreSQL has no place for."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Dialect, Text, TypeDecorator

_AWKWARD: Final = re.compile("[\\\\\0\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"\\(\\|u[0-9a-f]{4})")


class Words(TypeDecorator[str]):
    r"""Text in which NUL, halves of surrogate pairs and backslashes are written as ``\u0000``, ``\ud800`` and two backslashes.

    What is read is what was written, and different texts stay different: names are looked for by it.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write it."""
        del dialect
        return None if value is None else _AWKWARD.sub(_escape, value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Read it."""
        del dialect
        return None if value is None else _ESCAPED.sub(_unescape, value)


def is_number(name: str) -> bool:
    """Say whether somebody has named a thing by its number, and not by its id."""
    return name.isascii() and name.isdecimal() and len(name) < 10  # noqa: PLR2004 (an id has more digits, and the column not so many)


def _escape(found: re.Match[str]) -> str:
    return "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}"


def _unescape(found: re.Match[str]) -> str:
    return "\\" if found[1] == "\\" else chr(int(found[1][1:], 16))
