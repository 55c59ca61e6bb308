"""Tells others what was recorded, as it comes: IPFIX collectors, and a file of OCSF events. Whoever is slow or away holds up nobody else."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Generic

import msgspec
import pyarrow as pa
import structlog

from serai.analysis.export.names import Names
from serai.flowstore.collector import collector_of
from serai.flowstore.jsonlines import JsonLines, path_of
from serai.flowstore.target import P, Target

_log = structlog.get_logger(__name__)

_SLICE_RECORDS: Final = 8192
"""Encoded at once."""
_PAUSE_SECONDS, _LONGEST_SECONDS = 0.5, 30.0
"""Between tries, doubled each time."""


class ExportSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[flows.export]`` of a controller's config file. Nothing is told to anybody by default."""

    ipfix: tuple[str, ...] = ()
    """IPFIX collectors: ``udp://HOST:PORT`` or ``tcp://HOST:PORT``."""
    ocsf: str = ""
    """A file of OCSF events, one JSON object a line: ``file:///PATH``."""
    ocsf_megabytes: Annotated[int, msgspec.Meta(ge=1)] = 100
    """How large that file gets before it is turned over."""
    ocsf_files: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """How many earlier ones are kept."""
    waiting_records: Annotated[int, msgspec.Meta(ge=1)] = 200_000
    """How many records may wait for each of them; beyond, new ones are not told."""

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        for url in self.ipfix:
            try:
                collector_of(url, clock=float)
            except ValueError as error:
                raise ValueError(f"ipfix: {error}") from error
        if len(set(self.ipfix)) != len(self.ipfix):
            raise ValueError("ipfix: the same collector stands there twice")
        if self.ocsf:
            try:
                path_of(self.ocsf)
            except ValueError as error:
                raise ValueError(f"ocsf: {error}") from error


@dataclasses.dataclass(slots=True, kw_only=True)
class Told:
    """How it goes with one target, in records."""

    sent: int = 0
    dropped: int = 0
    """Not told: too many were waiting, or the program ended."""
    left_out: int = 0
    """Not told for what they are: IPFIX knows no frames that are not IP."""
    waiting: int = 0
    trouble: str = ""
    """Why it does not go on just now; empty where it does."""


class _Line(Generic[P]):
    """What waits for one target."""

    def __init__(self, name: str, target: Target[P], most: int) -> None:
        self.name, self.target, self._most = name, target, most
        self.told = Told()
        self._waiting: collections.deque[tuple[pa.Table, Names]] = collections.deque()
        self._news, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()

    def offer(self, table: pa.Table, names: Names) -> None:
        rows = min(table.num_rows, self._most - self.told.waiting)
        self.told.dropped += table.num_rows - rows
        if rows:
            self._waiting.append((table.slice(0, rows), names))
            self.told.waiting += rows
            self.idle.clear()
            self._news.set()

    def drop_all(self) -> None:
        """Drop what waits, and what was at hand when it was stopped."""
        self._waiting.clear()
        self.told.dropped += self.told.waiting
        self.told.waiting = 0
        self.idle.set()

    async def run(self) -> None:
        """Tell it all that comes, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                table, names = self._waiting.popleft()
                for at in range(0, table.num_rows, _SLICE_RECORDS):
                    await self._tell(table.slice(at, _SLICE_RECORDS), names)
            self.idle.set()

    async def _tell(self, table: pa.Table, names: Names) -> None:
        left = table.num_rows
        try:
            parcels, left_out = await asyncio.to_thread(self.target.prepare, table, names)
            self.told.left_out += left_out
            self.told.waiting -= left_out
            left -= left_out
            for parcel in parcels:
                await self._send(parcel)
                self.told.sent += parcel.records
                self.told.waiting -= parcel.records
                left -= parcel.records
        except Exception:  # noqa: BLE001 (the records after these are told all the same)
            _log.exception("records could not be exported", to=self.name)
            self.told.dropped += left
            self.told.waiting -= left

    async def _send(self, parcel: P) -> None:
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self.target.send(parcel)
            except OSError as error:
                await self.target.away()
                self._complain(str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_SECONDS)
            else:
                if self.told.trouble:
                    _log.info("records are exported again", to=self.name)
                self.told.trouble = ""
                return

    def _complain(self, why: str) -> None:
        if not self.told.trouble:
            _log.warning("records cannot be exported, and wait", to=self.name, why=why)
        self.told.trouble = why


class Exporter:
    """All whom the settings name. Start it, offer what is recorded, and close it."""

    def __init__(self, settings: ExportSettings, *, clock: Callable[[], float], version: str) -> None:
        """Tell nobody yet. ``clock`` gives seconds since 1970, ``version`` is this program's."""
        targets: dict[str, Target[Any]] = {url: collector_of(url, clock) for url in settings.ipfix}
        if settings.ocsf:
            targets[settings.ocsf] = JsonLines(
                path_of(settings.ocsf),
                most_bytes=settings.ocsf_megabytes * 1_000_000,
                files=settings.ocsf_files,
                version=version,
            )
        self._lines = [_Line(name, target, settings.waiting_records) for name, target in targets.items()]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to tell them."""
        self._tasks = [asyncio.create_task(line.run(), name=f"export to {line.name}") for line in self._lines]

    async def offer(self, table: pa.Table, names: Names) -> None:
        """Have them told of records: FLOW_COLUMNS and NAMED_COLUMNS, ``at`` in seconds. Nobody waits; what there is no room for is counted."""
        for line in self._lines:
            line.offer(table, names)

    @property
    def figures(self) -> Mapping[str, Told]:
        """How it goes, by the addresses in the settings."""
        return {line.name: dataclasses.replace(line.told) for line in self._lines}

    @property
    def sent(self) -> int:
        """Records that were told, summed up over all."""
        return sum(line.told.sent for line in self._lines)

    @property
    def dropped(self) -> int:
        """Records that were not, likewise."""
        return sum(line.told.dropped for line in self._lines)

    async def close(self, *, seconds: float = 2.0) -> None:
        """Tell them what waits, for as long as ``seconds`` and no longer; the rest counts as dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(line.idle.wait() for line in self._lines if self._tasks))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for line in self._lines:
            line.drop_all()
            await line.target.close()
