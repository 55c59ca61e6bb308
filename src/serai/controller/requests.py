"""Takes apart what people send."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serai.access.roles import Grant
from serai.controller.errors import InvalidError
from serai.model.tenancy import Scope
from serai.wire import api


def read_grants(bodies: Sequence[api.GrantBody]) -> tuple[Grant, ...]:
    """Read grants; the same one twice counts once.

    Raises:
        InvalidError: some are none.
    """
    found, faults = [], []
    for number, body in enumerate(bodies):
        try:
            found.append(Grant.read(f"{body.role}:{body.scope}"))
        except ValueError as error:
            faults.append(api.Fault(where=f"grants[{number}]", field=f"grants[{number}]", message=str(error)))
    if faults:
        raise InvalidError(faults[0].message, faults=faults)
    return tuple(dict.fromkeys(found))


def told_grants(grants: Iterable[Grant]) -> list[api.GrantBody]:
    """Write grants."""
    return [api.GrantBody(role=grant.role, scope=grant.scope) for grant in grants]


def invalid(field: str, message: str) -> InvalidError:
    """Return what to raise about one field."""
    return InvalidError(f"{field}: {message}", faults=[api.Fault(where=field, field=field, message=message)])


def scope_of(field: str, text: str) -> Scope:
    """Read a scope.

    Raises:
        InvalidError: it is none.
    """
    try:
        return Scope(text)
    except ValueError as error:
        raise invalid(field, str(error)) from error
