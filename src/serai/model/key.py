"""How a resource is called: its kind, and its path among its kind."""

from __future__ import annotations

from typing import NamedTuple, Self

from serai.model.resources import Resource, path_of
from serai.model.tenancy import ROOT, Scope


class Key(NamedTuple):
    """The name of a resource, such as ``Policy /acme:shop`` or ``Host alpha``; there is one resource of a name at most."""

    kind: str
    path: str
    """``/acme:shop``, or the name alone of kinds that only the provider has."""

    @classmethod
    def of(cls, resource: Resource) -> Self:
        """Return how ``resource`` is called."""
        return cls(resource.kind, path_of(resource))

    @classmethod
    def of_scope(cls, scope: Scope) -> Self:
        """Return a name for a scope, which no resource has: Tenants declare scopes."""
        return cls("Scope", scope)

    @property
    def scope(self) -> Scope:
        """Where the resource is: ``/`` for kinds that only the provider has.

        Raises:
            ValueError: nothing can be called so.
        """
        scope, colon, _ = self.path.rpartition(":")
        return Scope(scope) if colon else ROOT

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"
