"""Rows of counted traffic as JSON. An address goes as its text: the reader tells no two kinds of address apart."""

from __future__ import annotations

import dataclasses
import typing
from ipaddress import IPv4Address, IPv6Address

import msgspec

from serai.model import address
from serai.model.flow import FlowRow

_TYPES = {**typing.get_type_hints(FlowRow), "remote": str}
_Row = msgspec.defstruct(
    "_Row",
    [
        (field.name, _TYPES[field.name])
        if field.default is dataclasses.MISSING
        else (field.name, _TYPES[field.name], field.default)
        for field in dataclasses.fields(FlowRow)
    ],
    frozen=True,
    kw_only=True,
)


class _RowsForm(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[_Row]  # type: ignore[valid-type]
    rules: dict[str, int]


def write_address(value: object) -> str:
    """Write what msgspec does not know by itself: an address."""
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def read_rows(line: bytes) -> tuple[list[FlowRow], dict[str, int]]:
    """Read an object with ``rows`` and ``rules``.

    Raises:
        ValueError: it is none.
    """
    form = msgspec.json.decode(line, type=_RowsForm)
    return [_thaw(row) for row in form.rows], form.rules


def _thaw(row: msgspec.Struct) -> FlowRow:
    told = msgspec.structs.asdict(row)
    return FlowRow(**{**told, "remote": address.parse(told["remote"])})
