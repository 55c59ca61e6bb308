"""What rollups leave out of records: in the views that fill them, and where raw records are asked in their stead."""

from __future__ import annotations

from typing import Final

from serai.model.ports import FIRST_DYNAMIC

ECHO: Final = "(direction = 1 AND peer != 0 AND verdict = 0)"
"""SQL: a conversation between two guarded VMs is told at both ends; what the other end tells of what was opened to it is an echo.

Pairs keep echoes from other tenants only, marked: then a tenant's own rows tell all of its conversations, and rows that are no echo those of
the site.
"""


def kept_service(column: str) -> str:
    """SQL: the service in ``column`` as rollups keep it: ports that nobody is assigned are one, 0."""
    return f"if({column} < {FIRST_DYNAMIC}, {column}, 0) AS service"
