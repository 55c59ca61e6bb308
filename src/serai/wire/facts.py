"""What gates counted and told, as JSON. An address goes as its text: the reader tells no two kinds of address apart."""

from __future__ import annotations

import dataclasses
import typing
from ipaddress import IPv4Address, IPv6Address

import msgspec

from serai.model import address
from serai.model.flow import DropSample, FlowRow

_Fact = typing.TypeVar("_Fact", FlowRow, DropSample)


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
    return [_thaw(row, FlowRow) for row in form.rows], form.rules


def read_samples(line: bytes) -> tuple[list[DropSample], dict[str, int], dict[str, str]]:
    """Read an object with ``samples``, ``rules`` and ``vnics``.

    Raises:
        ValueError: it is none.
    """
    form = msgspec.json.decode(line, type=_SamplesForm)
    return [_thaw(sample, DropSample) for sample in form.samples], form.rules, form.vnics


def _addresses(kind: type) -> list[str]:
    return [name for name, hint in typing.get_type_hints(kind).items() if hint == address.Address]


def _form(kind: type) -> type[msgspec.Struct]:
    """The same fields, addresses as text."""
    hints = {**typing.get_type_hints(kind), **dict.fromkeys(_addresses(kind), str)}
    fields = [
        (field.name, hints[field.name])
        if field.default is dataclasses.MISSING
        else (field.name, hints[field.name], field.default)
        for field in dataclasses.fields(kind)
    ]
    return msgspec.defstruct(f"_{kind.__name__}Form", fields, frozen=True, kw_only=True)


_Row, _Sample = _form(FlowRow), _form(DropSample)


class _RowsForm(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[_Row]  # type: ignore[valid-type]
    rules: dict[str, int]


class _SamplesForm(msgspec.Struct, frozen=True, kw_only=True):
    samples: list[_Sample]  # type: ignore[valid-type]
    rules: dict[str, int]
    vnics: dict[str, str]


def _thaw(form: msgspec.Struct, kind: type[_Fact]) -> _Fact:
    told = msgspec.structs.asdict(form)
    return kind(**told | {name: address.parse(told[name]) for name in _addresses(kind)})
