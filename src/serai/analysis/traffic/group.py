"""What VMs are put together by: themselves, tenants, scopes down to a depth, the value of a label; or records by their networks and hosts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from serai.analysis.traffic.statement import ELSEWHERE, NONE, OUTSIDE, Clause, within
from serai.model.tenancy import Scope

_LABEL: Final = re.compile(r"label:([A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?)")
_PLAIN: Final = ("vm", "tenant", "scope", "network", "host")
KINDS: Final = (*_PLAIN, "label:KEY")


class GroupError(ValueError):
    """There is no such way to group."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One way to put VMs together."""

    kind: str
    """``vm``, ``tenant``, ``scope``, ``network``, ``host`` or ``label``."""
    key: str = ""
    """Of a label."""
    depth: int = 0
    """Of scopes: how many names are told; 0: all."""

    @classmethod
    def of(cls, text: str, *, depth: int = 0) -> Group:
        """Read one of ``KINDS``.

        Raises:
            GroupError: it is something else.
        """
        if text in _PLAIN:
            return cls(kind=text, depth=depth)
        if found := _LABEL.fullmatch(text):
            return cls(kind="label", key=found[1])
        raise GroupError(f"traffic is not grouped by {text!r}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}")

    def __str__(self) -> str:
        return f"label:{self.key}" if self.kind == "label" else self.kind

    @property
    def is_of_records(self) -> bool:
        """Whether a record says it itself, of the VM whose gate counted and not of its peer; sums do not keep it."""
        return self.kind in {"network", "host"}

    def of_both_ends(self) -> None:
        """Make sure that it says of either end in which group it is.

        Raises:
            GroupError: it does not.
        """
        if self.is_of_records:
            raise GroupError(
                f"a record tells the {self.kind} of one end only: both ends are grouped by {', '.join(each for each in KINDS if each not in {'network', 'host'})};"
                f" talkers and listeners by {self.kind}, too"
            )

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
