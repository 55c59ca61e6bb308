"""Asking a controller that may be away for a while: another one goes on with what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from serai.wire.client import ClientError

AT_ONCE: Final = 30
"""Seconds that one request waits at the most; then it is asked again."""
_AWAY_SECONDS: Final = 120.0
"""How long nobody may answer."""
_PASSES: Final = frozenset({None, 429, 500, 502, 503, 504})
"""Statuses of troubles that pass; None: nobody answered."""

T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """Ask until somebody answers.

    Raises:
        ClientError: nobody has for too long, or the answer is that it cannot be.
    """
    began = time.monotonic()
    while True:
        try:
            return ask()
        except ClientError as error:
            if error.status not in _PASSES or error.name == "untrusted" or time.monotonic() - began > _AWAY_SECONDS:
                raise
            time.sleep(0.5)
