"""Where somebody looks: a scope, a VM, or some records; and how to get from one to the next."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Final, Literal

WINDOWS: Final = {
    "1m": timedelta(minutes=1), "10m": timedelta(minutes=10), "1h": timedelta(hours=1), "1d": timedelta(days=1),
}  # fmt: skip
GROUPS: Final = ("vm", "tenant", "scope")
"""What VMs are put together by, beside the values of labels (``label:KEY``)."""
OF_RECORDS: Final = ("network", "host")
"""What records say of themselves, and of their peers not; VMs are put together by it, too."""
_NONE: Final = "(none)"
_ROOT: Final = "/"


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a filter."""

    field: str
    value: str

    @property
    def near(self) -> str:
        """It holds for the VM."""
        quoted = self.value.replace('"', '""')
        return f'{self.field}="{quoted}"'

    @property
    def either(self) -> str:
        """It holds for the VM or for its peer, as far as a record says it of both."""
        if self.field in OF_RECORDS:
            return self.near
        peer = "peer" if self.field == "vm" else f"peer.{self.field}"
        return f"({self.near} or {Condition(peer, self.value).near})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere to look."""

    kind: Literal["group", "vm", "records"]
    title: str
    scope: str = _ROOT
    vm: str = ""
    """Its path, if it is a VM's."""
    conditions: tuple[Condition, ...] = ()
    """What the VM is, beside in the scope; or what records are."""

    @classmethod
    def at(cls, scope: str) -> Place:
        """Look at all that is in a scope."""
        return cls(kind="group", title=scope, scope=scope)

    def into(self, group: str, name: str) -> Place | None:
        """Look at one line of the list of groups; None: nothing more is known of it."""
        if group == "vm":
            return self.to_vm(name)
        if name.startswith("(") and name != _NONE:
            return None
        if group in OF_RECORDS:
            more = Condition(group, "" if name == _NONE else name)
            title = f"no {group}" if name == _NONE else name
            return dataclasses.replace(self, title=title, conditions=(*self.conditions, more))
        if group.startswith("label:"):
            key = group.removeprefix("label:")
            more = Condition(f"label.{key}", "" if name == _NONE else name)
            title = f"no {key}" if name == _NONE else f"{key}={name}"
            return dataclasses.replace(self, title=title, conditions=(*self.conditions, more))
        if name == _NONE:
            return dataclasses.replace(self, title="no tenant", conditions=(*self.conditions, Condition("tenant", "")))
        scope = name if name.startswith(_ROOT) else f"/{name}"
        return dataclasses.replace(self, title=scope, scope=scope)

    def to_vm(self, path: str) -> Place | None:
        """Look at one VM; None: it is none."""
        if ":" not in path or not path.startswith("/"):
            return None
        return Place(kind="vm", title=short(path), scope=self.scope, vm=path, conditions=(Condition("vm", path),))

    def to_records(self, title: str, *conditions: Condition) -> Place:
        """Look at records."""
        return Place(kind="records", title=title, scope=self.scope, conditions=conditions)

    def near(self, narrowed: str, *, scoped: bool = True) -> str:
        """Write the filter of records whose VM is here; ``scoped``: whoever answers does not know the scope otherwise."""
        return _all([each.near for each in (self._with_scope() if scoped else self.conditions)], narrowed)

    def either(self, narrowed: str, *more: Condition) -> str:
        """Write the filter of records of which one end is here, and that are ``more``."""
        return _all([*(each.near for each in more), *(each.either for each in self._with_scope())], narrowed)

    def _with_scope(self) -> tuple[Condition, ...]:
        scoped = self.scope != _ROOT and self.kind == "group"
        return (*([Condition("scope", self.scope)] if scoped else []), *self.conditions)


def short(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition(":")[2] if path.startswith("/") else path


def service_is(service: str) -> Condition:
    """Say which service it is; a dash stands for what was not IP."""
    return Condition("protocol", "0") if service == "-" else Condition("service", service)


def _all(known: list[str], narrowed: str) -> str:
    if not narrowed.strip():
        return " and ".join(known)
    # What a person wrote may have an `or` in it.
    return " and ".join([*known, f"({narrowed})"]) if known else narrowed
