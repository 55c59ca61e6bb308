"""What libvirt knows: which taps its domains have, and whether their guests run, told at once and whenever that changes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Final

import libvirt
import libvirtaio
import structlog

from serai.inventory.domains import DefinitionError, taps_of
from serai.model.inventory import Mac
from serai.model.life import Life

Seen = Callable[[str, dict[str, Mac]], None]
"""Called with a domain's name and the MAC address behind each of its taps (none: it is gone)."""
Lived = Callable[[str, Life], None]
"""Called with a domain's name and how it is, as far as a move is concerned."""
Listed = Callable[[Collection[str]], None]
"""Called when all domains were told, with their names."""

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 0.5
_ANY: Final = -1

_EVENTS: Final[Mapping[tuple[int, int], Life]] = {
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED): Life.HELD,
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED): Life.HELD,
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY): Life.HELD,
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, _ANY): Life.RUNS,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED): Life.MOVED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, _ANY): Life.GONE,
}
"""What libvirt's events mean, by event and detail; others say nothing of moves."""
_SAME_TAPS: Final = {libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_RESUMED}
"""A guest that stops for a moment keeps its taps. Who asked for them amid a move would hold libvirt up when every millisecond counts."""
_HELD: Final = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
}  # fmt: skip
"""Why a guest is paused that is being moved, or is to be moved here."""
_RUNNING: Final = {libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED}


class DomainError(RuntimeError):
    """A domain cannot be asked about; the message says why."""


def definition_of(uri: str, domain: str) -> str:
    """Return a domain's XML: of one that runs, as it would go to another host; else as it would be started.

    Raises:
        DomainError: there is none of that name, or libvirt does not answer.
    """
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.open(uri)
        try:
            found = connection.lookupByName(domain)
            return str(found.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE if found.isActive() else 0))
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise DomainError(f"the domain {domain} cannot be looked at: {error}") from error


class LibvirtWatch:
    """Follows one libvirt daemon, also across its restarts."""

    def __init__(self, uri: str, seen: Seen, lived: Lived, listed: Listed) -> None:
        """Watch the daemon at ``uri`` once ``run`` is called."""
        self._uri = uri
        self._seen = seen
        self._lived = lived
        self._listed = listed
        self._known: set[str] = set()
        self._heard: collections.Counter[str] = collections.Counter()
        """How many events each domain has had."""

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

        def lived(_connection: Any, domain: Any, kind: int, detail: int, *_: Any) -> None:  # noqa: ANN401
            self._heard[domain.name()] += 1
            life = life_after(kind, detail)
            if life is not None:  # packets wait for it: it is told before anything is asked
                self._lived(domain.name(), life)
            if kind not in _SAME_TAPS:
                changes.put_nowait(domain.name())

        connection = await asyncio.to_thread(libvirt.open, self._uri)
        try:
            connection.registerCloseCallback(lambda *_: changes.put_nowait(None), None)
            with contextlib.suppress(libvirt.libvirtError):  # a driver in this process has nothing to keep alive
                connection.setKeepAlive(5, 3)
            for kind, told in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lived),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, changed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, changed),
            ):
                connection.domainEventRegisterAny(None, kind, told, None)
            yield connection, changes
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    async def _report_all(self, connection: Any) -> None:  # noqa: ANN401
        active = await asyncio.to_thread(connection.listAllDomains, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        names = {domain.name() for domain in active}
        for name in names | self._known:
            await self._report(connection, name, anew=True)
        self._listed(names)

    async def _report(self, connection: Any, name: str, *, anew: bool = False) -> None:  # noqa: ANN401
        """Tell what a domain's taps are; ``anew``: and how it is, which events of before may have said to nobody."""
        life, heard = None, self._heard[name]
        try:
            domain = await asyncio.to_thread(connection.lookupByName, name)
            active = await asyncio.to_thread(domain.isActive)
            taps = taps_of(await asyncio.to_thread(domain.XMLDesc))[1] if active else {}
            if anew and active:
                life = life_of(*await asyncio.to_thread(domain.state))
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
        if life is not None and self._heard[name] == heard:  # else an event has told what came after it
            self._lived(name, life)


def life_after(kind: int, detail: int) -> Life | None:
    """Say what an event of libvirt means; None: nothing that concerns a move."""
    if (kind, detail) == (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED):
        return None  # it is stuck between two hosts
    return _EVENTS.get((kind, detail), _EVENTS.get((kind, _ANY)))


def life_of(state: int, reason: int) -> Life | None:
    """Say what the state of a domain that is there means; the same."""
    if state in _RUNNING:
        return Life.RUNS
    return Life.HELD if state == libvirt.VIR_DOMAIN_PAUSED and reason in _HELD else None
