"""In what two machine definitions differ, for people."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

_MOST: Final = 8
"""So many differences are told."""

_Thing = Sequence[Any]
"""A line of ``canonical``: its name, attributes, text and children."""


def differences(before: Iterable[str], after: Iterable[str]) -> str:
    """Say in what a machine definition differs from an earlier one, both as ``canonical`` has them; empty: in nothing."""
    old, new = collections.Counter(before), collections.Counter(after)
    gone, come = _named(old - new), _named(new - old)
    told = [
        *(f"{name} is new" for name in come if name not in gone),
        *(f"{name} is gone" for name in gone if name not in come),
        *(f"{name} is otherwise{_where(gone[name], come[name])}" for name in come if name in gone),
    ]
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return ", ".join([*told[:_MOST], *more])


def _named(lines: Iterable[str]) -> Mapping[str, _Thing]:
    return {_name(thing): thing for thing in map(json.loads, sorted(lines))}


def _name(thing: _Thing) -> str:
    kind, attributes = str(thing[0]), thing[1]
    match kind:
        case "disk":
            return f"disk {attributes.get('target@dev', '?')}"
        case "interface":
            return f"network card {attributes.get('mac@address', '?')}"
        case "domain":
            return "the type of the domain"
        case _:
            return kind.rpartition("}")[2]


def _where(old: _Thing, new: _Thing) -> str:
    found = sorted(set(_fields(old, new)))
    return f" ({', '.join(found)})" if found else ""


def _fields(old: _Thing, new: _Thing) -> Iterator[str]:
    for name in {*old[1], *new[1]}:
        if old[1].get(name) != new[1].get(name):
            yield name.lstrip("@")
    for tag in {child[0] for child in (*old[3], *new[3])}:
        if [child for child in old[3] if child[0] == tag] != [child for child in new[3] if child[0] == tag]:
            yield tag.rpartition("}")[2]
