"""Tells controllers of traffic: reads what gates count, once in an interval, and keeps batches of it until they are taken.

Only a host that belongs to a site does so, or is about to (``wanted``): on others nobody would ever take what they kept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from serai.agent import footprint
from serai.agent.batches import Batch, batches
from serai.agent.spool import Head, Spool
from serai.datapath.gates import Gates
from serai.datapath.interval import Interval, joined
from serai.datapath.layout import VERSION
from serai.datapath.metering import FORM, Memory
from serai.model.ruleset import HostRuleset
from serai.wire.local import RecordsStatus
from serai.wire.remote import Records

_log = structlog.get_logger(__name__)

_TEXTS = 1 << 17
"""Rules whose texts are known, those of rulesets before among them: flows name them until they are judged again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TellingConfig:
    """What a teller is told at its start."""

    directory: Path
    """Where batches are kept."""
    seconds: float
    """How long an interval is."""
    most_bytes: int
    """What batches may take on disk."""
    boot: str
    """Which boot of the host this is: counters begin anew with each."""


class Teller:
    """Reads one host's gates, and keeps what there is to tell (``BatchPort``)."""

    def __init__(
        self,
        gates: Gates,
        config: TellingConfig,
        *,
        wanted: Callable[[], bool],
        ruleset: Callable[[], HostRuleset | None],
    ) -> None:
        """Tell of ``gates`` as soon as it is ``wanted``; ``ruleset`` is the one in force. Nothing is done yet."""
        self._gates = gates
        self._config = config
        self._wanted = wanted
        self._ruleset = ruleset
        self._spool = Spool(config.directory, most_bytes=config.most_bytes, form=f"{VERSION}.{FORM}.{config.boot}")
        self._open = False
        self._ready = asyncio.Event()
        self._left: Interval | None = None
        self._texts: dict[int, str] = {}
        self._digest = ""
        self._trouble = ""
        self._lost = 0

    def begin(self) -> None:
        """Go on where an earlier agent was, before anything changes in the kernel."""
        if self._wanted():
            self._begin()

    async def run(self) -> None:
        """Tell, until cancelled. Nothing that goes wrong with it ends the agent."""
        due = time.monotonic()
        while True:
            due = max(due + self._config.seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            try:
                if not self._open and self._wanted():
                    self._begin()
                await self._read()
                if self._open:
                    await self._tell()
            except OSError as error:
                self._say(f"what was counted cannot be recorded: {error}")
            except Exception:  # noqa: BLE001  # a fault of ours: the gates must not pay for it
                _log.exception("telling of traffic has failed, and goes on with the next interval")

    def status(self) -> RecordsStatus | None:
        """How much there is to tell; None where nothing is recorded."""
        if not self._open:
            return None
        waiting = self._spool.batches
        return RecordsStatus(
            batches=len(waiting),
            records=sum(batch.records for batch in waiting),
            bytes=sum(batch.size for batch in waiting),
            sent=self._spool.sent,
            removed=self._spool.removed,
            lost=self._lost,
            trouble=self._trouble or self._gates.metering.trouble,
        )

    # What the link asks

    def after(self, before: tuple[str, int] | None) -> Records | None:
        """Return the batch after that one (its spool and number; None: the oldest); None where there is no other."""
        return self._spool.after(before) if self._open else None

    def taken(self, spool: str, number: int) -> None:
        """A controller keeps the batches of ``spool`` up to ``number``."""
        self._spool.taken(spool, number)

    async def wait_ready(self) -> None:
        """Wait until there is another batch."""
        await self._ready.wait()
        self._ready.clear()

    # How it is done

    def _begin(self) -> None:
        try:
            told = self._spool.open()
            try:
                self._gates.begin(told[1] if told else None, told[0].volume if told else 0)
            except ValueError:  # of another version, for all that it says
                self._gates.begin(None, 0)
            self._open = True
            job = self._take()
            try:
                written = job.write(self._spool)
            except OSError:
                self._not_written(job)
                raise
            self._written(job, *written)
            _log.info("traffic is recorded", directory=str(self._config.directory), waiting=len(self._spool.batches))
        except OSError as error:
            self._say(f"what was counted cannot be recorded: {error}")

    async def _read(self) -> None:
        for _ in self._gates.read():
            await asyncio.sleep(0)

    async def _tell(self) -> None:
        if not self._spool.is_ours:  # this host has joined another site, to which all that was is no business
            self._spool.open()
            self._gates.begin(None, 0)
            self._left = None
        job = self._take()
        try:
            written = await asyncio.to_thread(job.write, self._spool)
        except BaseException:
            self._not_written(job)
            raise
        self._written(job, *written)
        del job
        footprint.give_back()

    def _take(self) -> _Job:
        until = time.time()
        interval = self._gates.metering.take(int(until), time.monotonic_ns())
        if self._left is not None:
            interval, self._left = joined(self._left, interval), None
        volume, memory = self._gates.metering.memory()
        lost, gone = self._spool.make_room()
        since = self._spool.until
        return _Job(
            interval=interval, memory=memory, volume=volume, rules=self._rules(), since=until if since is None else since, until=until, lost=lost,
            gone=gone,
        )  # fmt: skip

    def _written(self, job: _Job, fresh: Sequence[Batch], head: Head) -> None:
        self._spool.written(fresh, head, job.lost)
        self._gates.metering.remembered(job.volume)
        self._lost += job.lost + job.interval.ring + job.interval.forgotten
        self._trouble = ""
        self._ready.set()

    def _not_written(self, job: _Job) -> None:
        self._spool.not_written(job.gone)
        self._left = job.interval

    def _rules(self) -> Mapping[int, str]:
        ruleset = self._ruleset()
        if ruleset is not None and ruleset.digest != self._digest:
            self._digest = ruleset.digest
            now = ruleset.rule_texts()
            self._texts = now if len(self._texts) + len(now) > _TEXTS else self._texts | now
        return self._texts

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error(trouble)
        self._trouble = trouble


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be written of one interval: that takes a while, and others go on meanwhile."""

    interval: Interval
    memory: Memory
    volume: int
    rules: Mapping[int, str]
    since: float
    until: float
    lost: int
    gone: Sequence[Batch]

    def write(self, spool: Spool) -> tuple[list[Batch], Head]:
        made = list(
            batches(
                self.interval, self.rules, spool=spool.name, first=spool.number + 1, since=self.since, until=self.until,
                removed=self.lost,
            )
        )  # fmt: skip
        head = spool.head(made, self.gone, until=self.until, volume=self.volume, pieces=len(self.memory))
        return spool.write(made, head, self.memory, self.gone), head
