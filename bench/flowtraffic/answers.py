"""What the right answers are about records that were made up, added up while they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.flowtraffic.population import Population
from bench.flowtraffic.rows import SLOT_SECONDS, Rows
from serai.model.address import unpack
from serai.model.flow_record import Verdict
from serai.model.ports import FIRST_DYNAMIC

Array = NDArray[Any]

SUMS: Final = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")
_HOUR: Final = 3600
_VERDICTS: Final = len(Verdict)
_PASSED, _DROPPED = range(2)


class Edge(NamedTuple):
    """Who opened what to whom; an end is a VM's path or an address."""

    source: str
    target: str
    protocol: int
    service: int
    verdict: int
    bytes: int
    packets: int
    connections: int


class Answers:
    """Give it to ``records``, and ask it when they have all been told."""

    def __init__(
        self, population: Population, start: int, end: int, *, vm: int | None = None, hour: int | None = None, tenant: int | None = None,
        windows: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        """Choose what shall be known beside the sums.

        Args:
            population: who speaks.
            start: as for ``records``, as ``end`` is.
            end: when it is over.
            vm: place of the VM all records of which are kept, of one hour; None: somebody who speaks much.
            hour: where that hour begins, in seconds since 1970; None: the one in the middle.
            tenant: place of the tenant whose map is known, of the last hour; None: the third.
            windows: spans of time whose protocols are known in steps of 10 seconds; none: ten minutes in the middle.
        """
        middle = (start + end) // 2
        self.start, self.end = start, end
        self.vm = int(population.by_popularity[population.vms // 800]) if vm is None else vm
        self.hour = (middle if hour is None else hour) // _HOUR * _HOUR
        self.tenant = min(2, len(population.tenants) - 2) if tenant is None else tenant
        self.last_hour = (end - 1) // _HOUR * _HOUR
        self.windows = [
            (since // SLOT_SECONDS, until // SLOT_SECONDS) for since, until in windows or [(middle - 300, middle + 300)]
        ]
        self.rows = 0
        self._people = population
        self._first_hour = start // _HOUR
        hours = -(-end // _HOUR) - self._first_hour
        self._sums = np.zeros((hours, len(SUMS), population.vms, 2), "<u8")
        self._protocols = [
            np.zeros((until - since, len(SUMS), 256 * _VERDICTS), "<u8") for since, until in self.windows
        ]
        self._of_vm: list[pa.Table] = []
        self._of_tenant: list[pa.Table] = []

    def add(self, rows: Rows, first: int) -> None:
        """Add records of intervals of one hour, the first of which is ``first``."""
        columns, self.rows = rows.columns, self.rows + rows.table.num_rows
        hour = first * SLOT_SECONDS // _HOUR
        dropped = columns["verdict"] == Verdict.DENIED
        key = rows.vm * np.int32(2) + dropped
        for place, name in enumerate(SUMS):
            self._sums[hour - self._first_hour, place] += _summed(key, columns[name], self._people.vms * 2).reshape(
                -1, 2
            )
        for (since, until), sums in zip(self.windows, self._protocols, strict=True):
            self._add_protocols(rows, first, since, until, sums)
        if hour * _HOUR == self.hour:
            _keep(self._of_vm, rows.table, rows.vm == self.vm)
        if hour * _HOUR == self.last_hour:
            _keep(self._of_tenant, rows.table, rows.tenant == self.tenant)

    @staticmethod
    def _add_protocols(rows: Rows, first: int, since: int, until: int, sums: Array) -> None:
        slot = rows.slot.astype("<i8") + (first - since)
        mine = (slot >= 0) & (slot < until - since)
        if mine.any():
            columns = rows.columns
            mine &= ~_echoes(columns)
            kinds = 256 * _VERDICTS
            key = slot[mine] * kinds + columns["protocol"][mine] * np.int64(_VERDICTS) + columns["verdict"][mine]
            for place, name in enumerate(SUMS):
                sums[:, place] += _summed(key, columns[name][mine], (until - since) * kinds).reshape(-1, kinds)

    # Asked when all is told

    def by_vm(self, hour: int | None = None, *, dropped: bool | None = None) -> pa.Table:
        """Return the sums of each VM that has any (``vm``: its number, in order).

        Args:
            hour: where the hour begins, seconds since 1970; None: of the whole time.
            dropped: only what was dropped, or only what was not; None: both.
        """
        sums = self._sums.sum(axis=0) if hour is None else self._sums[hour // _HOUR - self._first_hour]
        of = sums.sum(axis=2) if dropped is None else sums[:, :, _DROPPED if dropped else _PASSED]
        there = np.flatnonzero(of.any(axis=0))
        there = there[np.argsort(self._people.numbers[there])]
        return pa.table(
            {
                "vm": pa.array(self._people.numbers[there]),
                **{name: pa.array(of[place, there]) for place, name in enumerate(SUMS)},
            }
        )

    def talkers(self, count: int = 20) -> list[tuple[str, int, int, int]]:
        """Return who sent most of what passed, largest first: path, bytes, packets, connections of either direction."""
        packets, _, sent, _, connections = self._sums[..., _PASSED].sum(axis=0)
        first = np.argsort(sent)[: -count - 1 : -1]
        found = [(self._people.paths[vm], int(sent[vm]), int(packets[vm]), int(connections[vm])) for vm in first]
        return sorted((each for each in found if each[1]), key=lambda each: (-each[1], each[0]))

    def protocols(self, window: int = 0) -> pa.Table:
        """Return the sums by step (``t``), protocol and verdict of one of the windows, each conversation once."""
        sums, since = self._protocols[window], self.windows[window][0]
        slot, kind = np.nonzero(sums.any(axis=1))
        at = ((slot + since) * SLOT_SECONDS).astype("<u4")
        keys = {
            "t": pa.array(at),
            "protocol": pa.array((kind // _VERDICTS).astype("u1")),
            "verdict": pa.array((kind % _VERDICTS).astype("u1")),
        }
        return pa.table({**keys, **{name: pa.array(sums[slot, place, kind]) for place, name in enumerate(SUMS)}})

    def of_vm(self) -> pa.Table:
        """Return all records of the VM in its hour, in the order in which they were told."""
        return pa.concat_tables(self._of_vm)

    def of_tenant(self) -> pa.Table:
        """Return all records of the tenant in the last hour, likewise."""
        return pa.concat_tables(self._of_tenant)

    def edges(self) -> list[Edge]:
        """Return the tenant's service map of the last hour with VMs and addresses as nodes, each conversation once, in order."""
        rows = self.of_tenant()
        rows = rows.filter(
            pa.array(
                ~_echoes({name: rows[name].to_numpy() for name in ("direction", "peer", "verdict")})
                | (rows["abroad"].to_numpy() == 1)
            )
        )
        keys = ["vm", "peer", "remote", "direction", "protocol", "service", "verdict"]
        names = dict(zip(self._people.numbers.tolist(), self._people.paths, strict=True))
        found: dict[tuple[str, str, int, int, int], list[int]] = {}
        for row in rows.group_by(keys).aggregate([(name, "sum") for name in SUMS]).to_pylist():
            ends = names[row["vm"]], names[row["peer"]] if row["peer"] else str(unpack(row["remote"]))
            source, target = ends[:: -1 if row["direction"] else 1]
            service = row["service"] if row["service"] < FIRST_DYNAMIC else 0  # as rollups keep it
            sums = found.setdefault((source, target, row["protocol"], service, row["verdict"]), [0, 0, 0])
            sums[0] += row["bytes_out_sum"] + row["bytes_in_sum"]
            sums[1] += row["packets_out_sum"] + row["packets_in_sum"]
            sums[2] += row["connections_sum"]
        return sorted(Edge(*key, *sums) for key, sums in found.items())


def _echoes(columns: Mapping[str, Array]) -> Array:
    """Say which records tell what the other end tells too."""
    found: Array = (columns["direction"] == 1) & (columns["peer"] != 0) & (columns["verdict"] == Verdict.ACCEPTED)
    return found


def _summed(key: Array, values: Array, count: int) -> Array:
    """Add up: what one batch holds of anything is far below 2**53, where doubles are exact."""
    found: Array = np.bincount(key, values, count).astype("<u8")
    return found


def _keep(kept: list[pa.Table], table: pa.Table, which: Array) -> None:
    kept.append(table.filter(pa.array(which)))
