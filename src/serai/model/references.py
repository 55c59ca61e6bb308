"""Looking up what resources call by name: scopes, networks, services, hosts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Generic, TypeVar

from serai.model.definitions import Complaints, Definition, Path, did_you_mean
from serai.model.resources import Resource
from serai.model.tenancy import ROOT, Mode, Scope

T = TypeVar("T")


@functools.lru_cache(maxsize=1 << 12)
def candidates(reference: str, scope: Scope) -> tuple[str, ...]:
    """Return the paths that ``reference`` (a name or a full path) may mean in ``scope``, the nearest first."""
    if reference.startswith("/"):
        return (reference,)
    return tuple(f"{level}:{reference}" for level in reversed(scope.lineage))


class Scopes:
    """The scopes that are declared, each with the mode that it sets."""

    def __init__(self, modes: Mapping[Scope, Mode | None], complaints: Complaints) -> None:
        """Take the declared scopes; those without a mode of their own map to None."""
        self.modes = modes
        self._complaints = complaints

    def check(self, definition: Definition[Resource], path: Path, scope: Scope) -> bool:
        """Complain where nobody declares ``scope``; say whether it may be used."""
        if scope in self.modes:
            return True
        # A broken Tenant takes its applications with it.
        if not self._complaints.excuse("Tenant", scope.parts[0]):
            hint = did_you_mean(scope, (known for known in self.modes if known != "/"))
            self._complaints.about(definition, path, f"no Tenant declares the scope {scope}{hint}")
        return False

    def mode(self, own: Mode | None, scope: Scope) -> Mode:
        """Return the mode in force: a VM's own, else the nearest scope's, else enforce."""
        for level in reversed(scope.lineage):
            own = own or self.modes.get(level)
        return own or Mode.ENFORCE


class Table(Generic[T]):
    """Resources of one kind that others refer to by name."""

    def __init__(self, kind: str, entries: Mapping[str, T], complaints: Complaints) -> None:
        """Take all resources of ``kind`` by path (``/acme:front``); hosts by ``/:name``."""
        self._kind = kind
        self._entries = entries
        self._complaints = complaints

    def find(self, definition: Definition[Resource], path: Path, reference: str, scope: Scope) -> T | None:
        """Return what ``reference`` (a name or a full path) means in ``scope``; complain where it is nothing.

        A name is looked up in ``scope`` and then level by level upwards: the nearest one counts.
        """
        for candidate in candidates(reference, scope):
            if candidate in self._entries:
                return self._entries[candidate]
        if not self._complaints.excuse(self._kind, reference.rpartition(":")[2]):
            self._complaints.about(definition, path, self._unknown(reference, scope))
        return None

    def _unknown(self, reference: str, scope: Scope) -> str:
        kind = self._kind.lower()
        if reference.startswith("/"):
            return f"there is no {kind} {reference}{did_you_mean(reference, self._entries)}"
        places = {str(level) for level in scope.lineage}
        visible = [path.rpartition(":")[2] for path in self._entries if path.rpartition(":")[0] in places]
        where = "" if scope == ROOT else f" in {scope} or above"
        return f"there is no {kind} {reference!r}{where}{did_you_mean(reference, visible)}"
