"""Filters as values. The text of one is its one canonical form, which reads as the same filter."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Final

from serai.analysis.filter.fields import FIELDS, find
from serai.analysis.filter.kinds import Operator
from serai.analysis.filter.values import Value

WORD: Final = r"""[^\s()"',=!<>~&|]+"""
"""What needs no quotes."""
KEYWORDS: Final = frozenset({"and", "or", "not", "in"})


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """One comparison; of equal values one stays, and ``in`` a list of one is ``=``."""

    field: str
    """A name of ``FIELDS``."""
    operator: Operator
    values: tuple[Value, ...]
    """Several of ``in``, else one."""
    key: str = ""
    """Of a label."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(dict.fromkeys(self.values)))
        if self.operator is Operator.IN and len(self.values) == 1:
            object.__setattr__(self, "operator", Operator.EQUAL)

    def __str__(self) -> str:
        name = f"{self.field}.{self.key}" if self.key else self.field
        values = ", ".join(quoted(FIELDS[self.field].kind.write(value)) for value in self.values)
        return f"{name} in ({values})" if self.operator is Operator.IN else f"{name}{self.operator}{values}"


@dataclasses.dataclass(frozen=True, slots=True)
class Not:
    """Holds where ``part`` does not."""

    part: Filter

    def __str__(self) -> str:
        return f"not {_inside(self.part, And, Or)}"


@dataclasses.dataclass(frozen=True, slots=True)
class And:
    """Holds where all parts do; with no parts, everywhere. An And in it becomes part of it."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        flat = (part.parts if isinstance(part, And) else (part,) for part in self.parts)
        object.__setattr__(self, "parts", tuple(inner for parts in flat for inner in parts))

    def __str__(self) -> str:
        return " and ".join(_inside(part, Or) for part in self.parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Or:
    """Holds where one of its parts does; with no parts, nowhere. An Or in it becomes part of it."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        flat = (part.parts if isinstance(part, Or) else (part,) for part in self.parts)
        object.__setattr__(self, "parts", tuple(inner for parts in flat for inner in parts))

    def __str__(self) -> str:
        return " or ".join(str(part) for part in self.parts)


Filter = And | Or | Not | Term

EVERYTHING: Final = And(())
"""The filter of an empty text."""


def term(field: str, operator: str, *values: str) -> Term:
    """Make a comparison out of texts, as a filter's text would have them.

    Raises:
        ValueError: there is no such field, operator or value.
    """
    name, key = find(field)
    how = Operator(operator)
    if how not in FIELDS[name].kind.operators:
        raise ValueError(f"{name!r} is not compared by {operator}")
    return Term(
        field=name, key=key, operator=how, values=tuple(FIELDS[name].kind.value(how, value) for value in values)
    )


def terms(what: Filter) -> Iterator[Term]:
    """Go through the comparisons of a filter."""
    match what:
        case Term():
            yield what
        case Not(part):
            yield from terms(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from terms(part)


def quoted(text: str) -> str:
    """Write a value so that it is read as one, in quotes where it must be."""
    if re.fullmatch(WORD, text) and text.lower() not in KEYWORDS:
        return text
    return '"' + text.replace('"', '""') + '"'


def _inside(part: Filter, *looser: type[Filter]) -> str:
    return f"({part})" if isinstance(part, looser) else str(part)
