"""What somebody who looked after something has found."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None: it could not be looked at."""
    finding: str
    """What there is."""
    remedy: str = ""
    """What to do where that is not well."""
