"""Has this host's libvirt move guests to another host: peer to peer, live, over TLS."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import libvirt

_FLAGS: Final = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_TLS
_LASTING: Final = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
_LOOK_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 60.0
"""How long is waited for a migration to end that was stopped."""


class LibvirtMigration:
    """One libvirt daemon, as far as it moves guests away. Each call opens a connection of its own, and blocks."""

    def __init__(self, uri: str, *, destination: str, seconds: float) -> None:
        """Use the daemon at ``uri``. Nothing is touched yet.

        Args:
            uri: of this host's daemon.
            destination: of the other's, as this one reaches it; with ``{host}`` and ``{address}``.
            seconds: how long a migration may take.
        """
        self._uri = uri
        self._destination = destination
        self._seconds = seconds
        self._under_way: set[str] = set()
        self._stopped: set[str] = set()

    def migrate(self, domain: str, *, host: str, address: str) -> str:
        """Move a guest to ``host``, whose certificate must carry that name, and wait for the end.

        Returns why it was not moved, in libvirt's words or ours; empty where it was. It is where it was then, as far as libvirt knows.
        """
        place = f"[{address}]" if ":" in address else address
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{place}",
            libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION: host,
        }
        uri = self._destination.format(host=host, address=place)
        self._stopped.discard(domain)
        self._under_way.add(domain)
        late = threading.Timer(self._seconds, self.stop, [domain])
        late.daemon = True
        try:
            with self._found(domain) as found:
                if found is None:
                    return f"there is no domain {domain} here"
                flags = _FLAGS | (_LASTING if found.isPersistent() else 0)
                late.start()
                if domain in self._stopped:
                    return "it was stopped before it began"
                found.migrateToURI3(uri, parameters, flags)
        except libvirt.libvirtError as error:
            return str(error) or "libvirt does not say why"
        finally:
            late.cancel()
            self._under_way.discard(domain)
        return ""

    def leaving(self, domain: str) -> str:
        """Say why it is not so that a guest is being moved away just now, by whomever; empty: it is so."""
        try:
            with self._found(domain) as found:
                if found is None:
                    return f"there is no domain {domain} here"
                if found.jobStats().get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
                    return f"libvirt does not move {domain} away"
        except libvirt.libvirtError as error:
            return f"libvirt cannot say whether it moves {domain} away: {error}"
        return ""

    def stop(self, domain: str) -> None:
        """Stop moving a guest, where that can be done still; wait until nothing is under way (a minute at the most)."""
        self._stopped.add(domain)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and (self._abort(domain) or domain in self._under_way):
            time.sleep(_LOOK_SECONDS)

    def _abort(self, domain: str) -> bool:
        """Say whether something is under way still."""
        try:
            with self._found(domain) as found:
                if found is None or found.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
                    return False
                with contextlib.suppress(libvirt.libvirtError):  # it may be too late
                    found.abortJob()
                return True
        except libvirt.libvirtError as error:  # libvirt does not answer, or the domain went just now
            return bool(error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT)

    @contextlib.contextmanager
    def _found(self, domain: str) -> Iterator[Any]:
        """The domain; None: it is not here."""
        connection = libvirt.open(self._uri)
        try:
            try:
                found = connection.lookupByName(domain)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                found = None
            yield found
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()
