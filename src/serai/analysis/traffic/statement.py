"""A statement for the flow store and the values that go with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from serai.analysis.filter import Clause
from serai.model.tenancy import ROOT, Scope

__all__ = [
    "ELSEWHERE",
    "EVERYTHING",
    "NONE",
    "OUTSIDE",
    "Clause",
    "Statement",
    "both",
    "is_within",
    "numbers_within",
    "tenant_of",
    "within",
]

ELSEWHERE: Final = "(elsewhere)"
"""What a VM is called that whoever asks may not see."""
OUTSIDE: Final = "outside"
"""What addresses that no VM held are called where they are one group."""
NONE: Final = "(none)"
"""What those VMs are in that have no such label."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A whole one."""

    sql: str
    parameters: Mapping[str, object]
    table: str = ""
    """Of the single rows that it looks at, which are kept for a shorter time than sums; empty: it looks at sums."""


EVERYTHING: Final = Clause(sql="1")


def both(*clauses: Clause) -> Clause:
    """Return the condition that all of them hold."""
    parameters = {name: value for clause in clauses for name, value in clause.parameters.items()}
    told = [f"({clause.sql})" for clause in clauses if clause.sql != EVERYTHING.sql]
    return Clause(sql=" AND ".join(told) or EVERYTHING.sql, parameters=parameters)


def within(column: str, scopes: Iterable[Scope] | None, *, prefix: str = "s") -> Clause:
    """Return the condition that the scope in ``column`` is one of ``scopes`` or below one; None: any."""
    if scopes is None:
        return EVERYTHING
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    for place, scope in enumerate(sorted(set(scopes))):
        if scope == ROOT:
            return EVERYTHING
        name = f"{prefix}{place}"
        parameters |= {name: str(scope), f"{name}b": f"{scope}/"}
        conditions.append(f"{column} = {{{name}:String}} OR startsWith({column}, {{{name}b:String}})")
    return Clause(sql=" OR ".join(conditions) or "0", parameters=parameters)


def is_within(scope: str, scopes: Iterable[Scope] | None) -> bool:
    """Say of one scope what ``within`` says of a column."""
    return scopes is None or any(each.contains(Scope(scope)) for each in scopes)


def numbers_within(scopes: Iterable[Scope] | None, *, prefix: str = "s") -> Clause | None:
    """Return the numbers of all VMs, as they are and were, in some scopes: what may stand behind IN; None: all."""
    inside = within("scope", scopes, prefix=prefix)
    if inside is EVERYTHING:
        return None
    return Clause(sql=f"(SELECT number FROM endpoints WHERE {inside.sql})", parameters=inside.parameters)


def tenant_of(scopes: Iterable[Scope] | None) -> str | None:
    """Return the one tenant that all of these scopes are in; None: there are several, or it is the provider's."""
    found = {scope.tenant for scope in scopes or [ROOT]}
    return found.pop() if len(found) == 1 else None
