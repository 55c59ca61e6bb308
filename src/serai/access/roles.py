"""What people may be, and where."""

from __future__ import annotations

import dataclasses
import enum

from serai.model.tenancy import Scope


class Role(enum.StrEnum):
    """What somebody does here."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    POLICY_EDITOR = "policy-editor"
    SECURITY_ADMIN = "security-admin"
    AUDITOR = "auditor"


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A role in a scope, and below it; never above it or beside it. Its text is ``operator:/acme``."""

    role: Role
    scope: Scope

    def __str__(self) -> str:
        return f"{self.role}:{self.scope}"

    @classmethod
    def read(cls, text: str) -> Grant:
        """Read ``operator:/acme``.

        Raises:
            ValueError: it is none.
        """
        role, _, scope = text.partition(":")
        if role not in list(Role):
            raise ValueError(
                f"{text!r} is not a grant: write ROLE:SCOPE, such as operator:/; roles are {', '.join(Role)}"
            )
        return cls(Role(role), Scope(scope))
