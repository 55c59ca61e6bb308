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
    """A role in a scope, and below it."""

    role: Role
    scope: Scope
