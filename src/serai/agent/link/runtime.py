"""Does what the link's core decides: the only place of the agent that talks to controllers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from serai.agent.identity import Identity, IdentityError
from serai.agent.link.core import LinkCore, Phase
from serai.agent.link.events import (
    BatchesReady,
    BatchRead,
    CertificateHeld,
    Change,
    Command,
    Connected,
    Dial,
    Enforce,
    Enforced,
    EntryWanted,
    Event,
    ForgetBatches,
    HangUp,
    Holding,
    HostChanged,
    Install,
    Lost,
    MakeRequest,
    Memory,
    Move,
    MoveTold,
    ReadBatch,
    Received,
    Refused,
    Remember,
    RenewalFailed,
    RenewApart,
    RequestMade,
    Send,
    TellEntry,
    Ticked,
    Wake,
)
from serai.agent.link.memory import MemoryFile, MemoryFileError
from serai.agent.link.port import BatchPort, HostPort, MovePort
from serai.agent.refused import RefusedError
from serai.agent.renew import RenewError, renew
from serai.model.migration import Step
from serai.wire.channel import TIMING, AgentChannel, ChannelError, Timing
from serai.wire.dial import dial
from serai.wire.local import LinkStatus
from serai.wire.pki import HostIdentity
from serai.wire.private import PrivateFileError
from serai.wire.remote import Depart, Entering, Entry, Expect, Forget, MessageError, Moving

_log = structlog.get_logger(__name__)

_TICK_SECONDS = 1.0
_LOOK_SECONDS = 2.0
"""How often one looks whether this host has joined."""
_ENTRY_SECONDS = 5.0
"""How long a hypervisor waits for the controller's word about a VM."""
_SETTLE_SECONDS = 0.05
"""What changes about a host in one go is told in one message."""
_AFTER_A_FAULT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What a link is told at its start."""

    host: str
    state: Path
    """Where ``identity/`` is, and what the link remembers."""
    controllers: Sequence[str] = ()
    """``https://name:port``, instead of those that were told when the host joined."""
    agents: Sequence[str] = ()
    """``wss://name:port``, the same."""
    timing: Timing = TIMING
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random


class Link:
    """One host's link to the controller that leads, for as long as it runs."""

    def __init__(
        self, port: HostPort, config: LinkConfig, batches: BatchPort | None = None, moves: MovePort | None = None
    ) -> None:
        """Speak for the host behind ``port``, send its ``batches``, have ``moves`` made; nothing is set in motion yet."""
        self._port = port
        self._batches = batches
        self._moves = moves
        self._waiting: dict[int, asyncio.Future[Entry]] = {}
        self.local_address = ""
        """By which this host reaches controllers, when last it did."""
        self._config = config
        self._identity = Identity(config.state / "identity")
        self._memory = MemoryFile(config.state / "link.json")
        self._core: LinkCore | None = None
        self._mail: asyncio.Queue[tuple[object, Event]] = asyncio.Queue(maxsize=8)
        self._conversation: asyncio.Task[None] | None = None
        self._channel: AgentChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stamp: object = None
        self._controllers: Sequence[str] = ()
        self._trouble = ""
        self._kept = Memory()
        self._epoch = 0

    def status(self) -> LinkStatus | None:
        """How the link is; None while this host has joined no site."""
        core = self._core
        if core is None:
            return self._unlinked() if self._trouble else None
        known = core.until not in {float("inf"), 0.0}
        return LinkStatus(
            connected=core.phase is Phase.TALKING,
            url=core.url,
            epoch=core.epoch,
            term=core.memory.term,
            fenced=core.phase is Phase.FENCED,
            trouble=core.trouble,
            certificate_until=datetime.fromtimestamp(core.until, UTC) if known else None,
            clock_skew_seconds=core.skew_seconds,
        )

    def _unlinked(self) -> LinkStatus:
        return LinkStatus(connected=False, url="", epoch=0, term=0, fenced=False, trouble=self._trouble)

    async def ask(self, entering: Entering) -> Entry | None:
        """Ask the controller whether a VM may run here; None: nobody answers, or not in time."""
        if self._core is None or self._core.phase is not Phase.TALKING:
            return None
        waiting = self._waiting[entering.number] = asyncio.get_running_loop().create_future()
        try:
            self._take(EntryWanted(entering=entering))
            return await asyncio.wait_for(waiting, _ENTRY_SECONDS)
        except TimeoutError:
            return None
        finally:
            del self._waiting[entering.number]

    async def run(self) -> None:
        """Keep the link, until cancelled. Nothing that goes wrong with it ends the agent."""
        while True:
            pause, anew = 0.0, False
            try:
                await self._live()
                anew = True
            except (IdentityError, MemoryFileError, PrivateFileError) as error:
                self._say(str(error))
                pause = _AFTER_A_FAULT_SECONDS
            except Exception:  # noqa: BLE001  # a fault of ours: the gates must not pay for it
                _log.exception("the link to the controller has failed, and begins anew")
                pause = _AFTER_A_FAULT_SECONDS
            finally:
                await self._end()
            if anew:  # what this agent's life was called before is of no account
                self._epoch = 0
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """Speak as what this host has joined as, until that is another."""
        if self._core is not None:  # fenced: until this agent is started again there is nothing to say
            await asyncio.Event().wait()
        while not self._identity.joined:
            if self._config.controllers:
                self._say("controllers are configured, and this host has not joined: run 'serai agent join'")
            await asyncio.sleep(_LOOK_SECONDS)
        joined = self._identity.read()
        if joined.certificate.host != self._config.host:
            raise IdentityError(
                f"this host has joined as {joined.certificate.host}, and its agent runs as {self._config.host}: "
                "start it with the right --host, or join again"
            )
        self._stamp = self._identity.stamp()
        self._controllers = self._config.controllers or joined.addresses.controllers
        urls = self._config.agents or joined.addresses.agents
        self._kept = self._memory.read()
        core = LinkCore(urls, self._kept, agent=_version(), jitter=self._config.jitter, epoch=self._epoch)
        self._core, self._mail = core, asyncio.Queue(maxsize=8)
        self._trouble = ""
        self._take(_life(joined.certificate))
        self._start(self._tick())
        self._start(self._watch())
        if self._batches is not None:
            self._take(BatchesReady())
            self._start(self._watch_batches(self._batches))
        if self._moves is not None:
            for moving in self._moves.said():
                self._take(MoveTold(moving=moving))
            self._start(self._watch_moves(self._moves))
        while True:
            source, event = await self._mail.get()
            if (
                source is None or source is self._conversation
            ):  # what an earlier conversation still had to say is nothing
                self._take(event)
            if core.phase is not Phase.FENCED and self._identity.stamp() != self._stamp:
                _log.info("this host has joined anew")
                return

    def _take(self, event: Event) -> None:
        """Let the core decide, and do all that it says."""
        core = self._core
        assert core is not None, "used before run()"  # noqa: S101
        before = core.phase
        for command in core.handle(event):
            if (answer := self._execute(command)) is not None:
                self._take(answer)
        if core.phase is Phase.TALKING and before is not Phase.TALKING:
            _log.info("linked to the controller", url=core.url, epoch=core.epoch, term=core.memory.term)
        self._say(core.trouble)

    def _say(self, trouble: str) -> None:
        """Log what is wrong, once for as long as it is."""
        if trouble and trouble != self._trouble:
            _log.error("trouble with the controller", host=self._config.host, trouble=trouble)
        self._trouble = trouble

    def _execute(self, command: Command) -> Event | None:
        match command:
            case Dial():
                self._conversation = self._start(self._converse(command.url))
            case Wake():
                asyncio.get_running_loop().call_later(command.seconds, self._wake)
            case Send():
                if self._channel is not None:
                    with contextlib.suppress(ChannelError):  # whoever receives hears of it too
                        self._channel.send(command.message)
            case HangUp():
                if self._channel is not None:
                    self._channel.close(command.why)
            case Enforce():
                return self._enforce(command.number, lambda: self._port.enforce(command.ruleset))
            case Change():
                return self._enforce(command.number, lambda: self._port.change(command.delta))
            case Remember():
                self._remember(command.memory)
            case MakeRequest():
                return self._request()
            case Install():
                return self._install(command.certificate)
            case RenewApart():
                self._start(self._renew())
            case ReadBatch():
                return BatchRead(batch=self._batches.after(command.after) if self._batches else None)
            case ForgetBatches():
                if self._batches is not None:
                    self._batches.taken(command.spool, command.number)
            case Move():
                return self._move(command.order)
            case TellEntry():
                waiting = self._waiting.get(command.entry.answers)
                if waiting is not None and not waiting.done():
                    waiting.set_result(command.entry)
        return None

    def _move(self, order: Expect | Depart | Forget) -> Event | None:
        if self._moves is not None:
            self._moves.order(order)
        elif not isinstance(order, Forget):
            why = f"nobody on host {self._config.host} moves VMs"
            return MoveTold(moving=Moving(move=order.ticket.move, step=Step.ABORTED, why=why))
        return None

    def _remember(self, memory: Memory) -> None:
        try:
            self._memory.write(memory)
        except PrivateFileError as error:
            if memory.term > self._kept.term:  # who cannot remember whom it obeys obeys nobody
                raise
            _log.error("what the controller has told cannot be kept for a restart", error=str(error))
        else:
            self._kept = memory

    def _enforce(self, number: int, enforce: Callable[[], bytes]) -> Event:
        try:
            return Enforced(number=number, digest=enforce())
        except RefusedError as error:
            return Refused(number=number, why=str(error), digest=self._port.held()[0])

    def _request(self) -> Event:
        try:
            return RequestMade(csr=self._identity.request(self._config.host))
        except IdentityError as error:
            return RenewalFailed(why=str(error), now=_now())

    def _install(self, certificate: str) -> Event:
        try:
            installed = self._identity.install(certificate, self._config.host)
        except IdentityError as error:
            return RenewalFailed(why=str(error), now=_now())
        return self._renewed(installed)

    def _renewed(self, certificate: HostIdentity) -> Event:
        self._stamp = self._identity.stamp()
        _log.info("certificate renewed", until=certificate.until.isoformat())
        return _life(certificate)

    def _holding(self) -> Holding:
        digest, parts = self._port.held()
        return Holding(digest=digest, parts=parts, sight=self._port.sight(), facts=self._port.facts())

    # What goes on beside

    def _start(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._conversation = self._channel = None
        if self._core is not None and self._core.phase is not Phase.FENCED:
            self._epoch, self._core = self._core.epoch, None

    def _wake(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # then the next tick does
            self._mail.put_nowait((None, Ticked(now=_now(), clock=self._config.clock())))

    async def _tick(self) -> None:
        while True:
            await self._mail.put((None, Ticked(now=_now(), clock=self._config.clock())))
            await asyncio.sleep(_TICK_SECONDS)

    async def _watch(self) -> None:
        while True:
            await self._port.wait_changed()
            await self._mail.put((None, HostChanged(holding=self._holding())))
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _watch_batches(self, batches: BatchPort) -> None:
        while True:
            await batches.wait_ready()
            await self._mail.put((None, BatchesReady()))

    async def _watch_moves(self, moves: MovePort) -> None:
        while True:
            await self._mail.put((None, MoveTold(moving=await moves.next_word())))

    async def _converse(self, url: str) -> None:
        me = asyncio.current_task()
        why, refused = "the connection is gone", False
        try:
            async with await dial(url, self._identity.context(), timing=self._config.timing) as channel:
                self._channel = channel
                self.local_address = channel.local_address
                await self._mail.put((me, Connected(holding=self._holding(), now=_now())))
                while True:
                    message = await channel.receive()
                    await self._mail.put((me, Received(message=message, now=_now(), clock=self._config.clock())))
        except ChannelError as error:
            why, refused = str(error), error.refused
        except (MessageError, IdentityError) as error:
            why = f"{url}: {error}"
        finally:
            if self._conversation is me:
                self._channel = None
        await self._mail.put((me, Lost(why=why, refused=refused, now=_now())))

    async def _renew(self) -> None:
        try:
            certificate = await renew(self._identity, self._config.host, self._controllers)
        except RenewError as error:
            await self._mail.put((None, RenewalFailed(why=str(error), refused=error.refused, now=_now())))
        else:
            await self._mail.put((None, self._renewed(certificate)))


def _life(certificate: HostIdentity) -> CertificateHeld:
    since, until = certificate.since.timestamp(), certificate.until.timestamp()
    return CertificateHeld(since=since, until=until, listens=certificate.listens)


def _now() -> float:
    return time.monotonic()


def _version() -> str:
    return importlib.metadata.version("serai")
