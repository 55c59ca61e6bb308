"""Who may do what, where."""

from __future__ import annotations

import dataclasses

from serai.access.roles import Grant


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who asks for something."""

    name: str
    grants: tuple[Grant, ...]
