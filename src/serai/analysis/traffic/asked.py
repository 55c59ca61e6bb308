"""What all questions have in common: about when, which records, and whose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from serai.analysis.filter import Clause, Filter
from serai.analysis.traffic.statement import EVERYTHING, numbers_within, tenant_of
from serai.analysis.traffic.window import Window
from serai.model.tenancy import Scope


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The part of all that is recorded that a question is about."""

    window: Window
    narrowed: Filter | None = None
    """Which records; None: all."""
    scopes: Sequence[Scope] | None = None
    """One end is in these; None: anywhere."""
    seen: Sequence[Scope] | None = None
    """What whoever asks may see; None: everything. VMs outside are not named."""
    limit: int = 20
    """Rows of the answer at the most."""

    @property
    def tenant(self) -> str | None:
        """The one tenant whose own rows tell all that is asked for; None: there is none."""
        return tenant_of(self.scopes)

    def of_tenant(self) -> Clause:
        """Return the condition that rows are that tenant's: the key of pairs begins with it."""
        tenant = self.tenant
        return EVERYTHING if tenant is None else Clause(sql="tenant = {tenant:String}", parameters={"tenant": tenant})

    def touching(self) -> Clause:
        """Return the condition that one end is in the scopes."""
        inside = numbers_within(self.scopes)
        if inside is None or self._is_tenant:  # a tenant's rows are those that touch it
            return EVERYTHING
        return Clause(sql=f"vm IN {inside.sql} OR peer IN {inside.sql}", parameters=inside.parameters)

    def mine(self) -> Clause:
        """Return the condition that the VM itself is in the scopes."""
        inside = numbers_within(self.scopes)
        return EVERYTHING if inside is None else Clause(sql=f"vm IN {inside.sql}", parameters=inside.parameters)

    @property
    def _is_tenant(self) -> bool:
        return self.scopes is not None and len(self.scopes) == 1 and len(self.scopes[0].parts) == 1
