"""What libvirt knows: which taps its domains have, told at once and whenever that changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import libvirt
import libvirtaio
import structlog

from serai.inventory.domains import DefinitionError, taps_of
from serai.model.inventory import Mac

Seen = Callable[[str, dict[str, Mac]], None]
"""Called with a domain's name and the MAC address behind each of its taps (none: it is gone)."""

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 0.5


class LibvirtWatch:
    """Follows one libvirt daemon, also across its restarts."""

    def __init__(self, uri: str, seen: Seen, listed: Callable[[], None]) -> None:
        """Watch the daemon at ``uri`` once ``run`` is called; ``listed`` is called when all domains were told."""
        self._uri = uri
        self._seen = seen
        self._listed = listed
        self._known: set[str] = set()

    async def run(self) -> None:
        """Report every domain, then every change, until cancelled.

        While the daemon does not answer, nothing is reported: what was last seen stays in force.
        """
        libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised; none belongs on stderr
        libvirtaio.virEventRegisterAsyncIOImpl()
        told = False
        while True:
            try:
                async with self._connection() as (connection, changes):
                    _log.info("libvirt connected", uri=self._uri)
                    told = False
                    await self._report_all(connection)
                    while (name := await changes.get()) is not None:
                        await self._report(connection, name)
            except libvirt.libvirtError as error:
                if not told:
                    _log.warning("libvirt does not answer", uri=self._uri, error=str(error))
                    told = True
            await asyncio.sleep(_RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[Any, asyncio.Queue[str | None]]]:
        changes: asyncio.Queue[str | None] = asyncio.Queue()

        def changed(_connection: Any, domain: Any, *_: Any) -> None:  # noqa: ANN401
            changes.put_nowait(domain.name())

        connection = await asyncio.to_thread(libvirt.open, self._uri)
        try:
            connection.registerCloseCallback(lambda *_: changes.put_nowait(None), None)
            connection.setKeepAlive(5, 3)
            for kind in (
                libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            ):
                connection.domainEventRegisterAny(None, kind, changed, None)
            yield connection, changes
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    async def _report_all(self, connection: Any) -> None:  # noqa: ANN401
        active = await asyncio.to_thread(connection.listAllDomains, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        names = {domain.name() for domain in active}
        for name in names | self._known:
            await self._report(connection, name)
        self._listed()

    async def _report(self, connection: Any, name: str) -> None:  # noqa: ANN401
        try:
            domain = await asyncio.to_thread(connection.lookupByName, name)
            active = await asyncio.to_thread(domain.isActive)
            taps = taps_of(await asyncio.to_thread(domain.XMLDesc))[1] if active else {}
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            taps = {}
        except DefinitionError as error:
            _log.error("domain cannot be read", domain=name, error=str(error))
            return
        if taps:
            self._known.add(name)
        else:
            self._known.discard(name)
        self._seen(name, taps)
