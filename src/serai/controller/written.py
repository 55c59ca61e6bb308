"""What a controller that leads must write down before it does anything that follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from serai.store.errors import DeposedError, StoreError

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS: Final = 0.5
"""How long to wait before the database is asked again that did not answer."""


async def written(write: Callable[[], Awaitable[object]], *, what: str, over: type[Exception]) -> None:
    """Write something about a ``what`` down, as often as it takes; ``over`` is raised by ``write`` where that has ended already.

    Raises:
        DeposedError: another controller leads.
    """
    while True:
        try:
            await write()
        except DeposedError:
            raise
        except over as error:  # it was written down, and the answer was lost
            _log.info(f"this {what} was over already", why=str(error))
            return
        except StoreError as error:
            _log.warning(f"how far a {what} has come cannot be written down", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return
