"""What VMs are put together by: themselves, tenants, scopes down to a depth, the value of a label."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from serai.analysis.traffic.statement import ELSEWHERE, NONE, OUTSIDE, Clause, within
from serai.model.tenancy import Scope

_LABEL: Final = re.compile(r"label:([A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?)")
KINDS: Final = ("vm", "tenant", "scope", "label:KEY")


class GroupError(ValueError):
    """There is no such way to group."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One way to put VMs together."""

    kind: str
    """``vm``, ``tenant``, ``scope`` or ``label``."""
    key: str = ""
    """Of a label."""
    depth: int = 0
    """Of scopes: how many names are told; 0: all."""

    @classmethod
    def of(cls, text: str, *, depth: int = 0) -> Group:
        """Read ``vm``, ``tenant``, ``scope`` or ``label:KEY``.

        Raises:
            GroupError: it is something else.
        """
        if text in {"vm", "tenant", "scope"}:
            return cls(kind=text, depth=depth)
        if found := _LABEL.fullmatch(text):
            return cls(kind="label", key=found[1])
        raise GroupError(f"traffic is not grouped by {text!r}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}")

    def __str__(self) -> str:
        return f"label:{self.key}" if self.kind == "label" else self.kind

    def names(self, scopes: Sequence[Scope] | None) -> Clause:
        """Return a table ``(number, name)`` of all VMs; those outside ``scopes`` (None: nothing is) are elsewhere."""
        parameters: dict[str, object] = {}
        match self.kind:
            case "vm":
                name = "path"
            case "tenant":
                name = f"if(tenant = '', '{NONE}', tenant)"
            case "scope" if not self.depth:
                name = "scope"
            case "scope":
                name = "if(scope = '/', scope, arrayStringConcat(arraySlice(splitByChar('/', scope), 1, {depth:UInt8}), '/'))"
                parameters["depth"] = self.depth + 1
            case _:
                name = f"if(labels[{{label:String}}] = '', '{NONE}', labels[{{label:String}}])"
                parameters["label"] = self.key
        seen = within("scope", scopes, prefix="g")
        told = name if seen.sql == "1" else f"if({seen.sql}, {name}, '{ELSEWHERE}')"
        return Clause(
            sql=f"(SELECT number, {told} AS name FROM endpoints)", parameters={**parameters, **seen.parameters}
        )

    @property
    def outside(self) -> str:
        """SQL for the name of an end that is no VM, whose address is ``remote``."""
        if self.kind != "vm":
            return f"'{OUTSIDE}'"
        return ADDRESS


ADDRESS: Final = "replaceOne(toString(remote), '::ffff:', '')"
"""SQL for the text of an address."""
