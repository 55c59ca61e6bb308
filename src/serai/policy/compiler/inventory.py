"""The VMs of a data center: most of them in columns, as they came, and those that changed since one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serai.model.columns import Columns
from serai.model.inventory import VirtualMachine


class Inventory:
    """All VMs, by path."""

    def __init__(self, columns: Columns) -> None:
        """Begin with those in ``columns``."""
        self._columns = columns
        self._rows = {path: row for row, path in enumerate(columns.paths)}
        self._later: dict[str, VirtualMachine | None] = {}

    def columns(self, paths: Iterable[str], changes: Mapping[str, VirtualMachine | None]) -> Columns:
        """Return the VMs at ``paths``, and those of ``changes``, as they would be after these."""
        later = {path: self._later[path] for path in paths if path in self._later} | dict(changes)
        rows = sorted(self._rows[path] for path in paths if path not in later)
        return self._columns.take(rows).joined(Columns.of(vm for _, vm in sorted(later.items()) if vm))

    def change(self, changes: Mapping[str, VirtualMachine | None]) -> None:
        """Let the VMs of ``changes`` be otherwise from now on; None: gone."""
        self._later |= changes
