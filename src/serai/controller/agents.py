"""Where agents come in: each by its certificate, the newest of each host, and only while this controller leads.

What an agent may hear follows from the name in its certificate and from nothing that it says.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
import structlog

from serai.controller.sessions.core import Conversation, Newest, OutOfTurnError
from serai.controller.sessions.roles import Admitted, Gatekeeper, Leader, Listener, Turned
from serai.wire.channel import ROOM, TIMING, ChannelError, ControllerChannel, Room, Timing
from serai.wire.keypair import PkiError
from serai.wire.listen import listen
from serai.wire.pki import HOST_LIFE, HostIdentity, identity_of_der
from serai.wire.remote import (
    VERSION,
    Described,
    Elsewhere,
    Entering,
    Fenced,
    FromController,
    Held,
    Hello,
    MessageError,
    Moving,
    Records,
    Renew,
    Renewed,
    Seen,
    Welcome,
)

__all__ = ["Admitted", "Agents", "Gatekeeper", "Leader", "Listener", "Turned"]

_log = structlog.get_logger(__name__)

GREETING_SECONDS: Final = 10.0
"""How long an agent may take to say hello."""

_CONNECTIONS: Final = 4
"""Connections of one host at a time: it needs one, and for a moment another."""

BROKEN: Final = 4000
"""It has said what may not be said."""
TURNED: Final = 4001
"""It is not, or no longer, let in."""
REPLACED: Final = 4002
"""Another connection of its host has taken its place."""
NOT_HERE: Final = 4003
"""Another controller leads."""
UNAVAILABLE: Final = 4004
"""Something that is needed to answer it does not answer itself; it may come again."""


@dataclasses.dataclass(slots=True, eq=False)
class _Session:
    identity: HostIdentity
    channel: ControllerChannel
    conversation: Conversation
    deadline: asyncio.Timeout | None = None


class Agents:
    """All agents that are connected to this controller."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        listener: Listener,
        *,
        timing: Timing = TIMING,
        room: Room = ROOM,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Let in whom ``gatekeeper`` lets in, and tell ``listener``; nobody is listened to yet."""
        self._gatekeeper = gatekeeper
        self._listener = listener
        self._timing = timing
        self._room = room
        self._clock = clock
        self._newest: Newest[_Session] = Newest()
        self._open: collections.Counter[str] = collections.Counter()

    @contextlib.asynccontextmanager
    async def serve(self, host: str, port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
        """Listen for agents until this is left; gives the port, which the system chooses where it is 0.

        Raises:
            ChannelError: the address cannot be listened at.
        """
        async with listen(host, port, context, self._converse, timing=self._timing, room=self._room) as bound:
            yield bound

    def connected(self) -> frozenset[str]:
        """The hosts whose agents are there."""
        return frozenset(self._newest.all)

    def send(self, host: str, message: FromController) -> int | None:
        """Send ``message`` to the agent of ``host``, and return the number that its answer will name (0 where it needs none).

        Nobody waits. None: it is not there, or has just been cut off for taking nothing.
        """
        session = self._newest.of(host)
        if session is None:
            return None
        try:
            numbered, number = session.conversation.number(message)
            session.channel.send(numbered)
        except OutOfTurnError as error:
            self._break(session, str(error))
            return None
        except ChannelError:  # who receives from it tells
            return None
        return number

    def close(self, host: str, reason: str, code: int = TURNED) -> None:
        """End the conversation with the agent of ``host``, if it is there; it may come again."""
        session = self._newest.of(host)
        if session is not None:
            session.channel.close(reason, code)

    def revoke(self, host: str) -> None:
        """End it at once: from now on nothing is sent there any more, and nothing is heard."""
        session = self._newest.of(host)
        if session is not None:
            session.channel.cut("this host's certificate is revoked")
            self._leave(session)

    def close_all(self, reason: str) -> None:
        """End all conversations: this controller leads no more."""
        for session in self._newest.all.values():
            with contextlib.suppress(ChannelError):
                session.channel.send(Elsewhere(url=self._elsewhere()))
            session.channel.close(reason, NOT_HERE)

    # One conversation

    async def _converse(self, channel: ControllerChannel) -> None:
        try:
            identity = identity_of_der(channel.peer_certificate)
        except PkiError as error:
            _log.warning("somebody is not let in", why=str(error))
            channel.close(str(error), TURNED)
            return
        session = _Session(identity, channel, Conversation())
        self._open[identity.host] += 1
        try:
            if self._open[identity.host] > _CONNECTIONS:
                raise OutOfTurnError(f"its host has more than {_CONNECTIONS} connections")  # noqa: TRY301
            async with asyncio.timeout(identity.until.timestamp() - self._clock()) as session.deadline:
                if await self._greet(session):
                    while True:
                        await self._hear(session)
        except TimeoutError as error:
            if session.deadline is not None and session.deadline.expired():
                self._turn(session, "this host's certificate has ended while it was connected")
            else:
                self._put_off(session, error)
        except (MessageError, OutOfTurnError) as error:
            self._break(session, str(error))
        except ChannelError as error:
            _log.info("an agent is gone", host=identity.host, why=str(error))
        except ConnectionError as error:
            self._put_off(session, error)
        except Exception:  # noqa: BLE001  # a fault of ours: it is told, and the others go on
            _log.exception("a conversation with an agent has failed", host=identity.host)
            channel.close("the controller cannot answer just now", UNAVAILABLE)
        finally:
            self._leave(session)
            self._open[identity.host] -= 1
            if not self._open[identity.host]:
                del self._open[identity.host]

    async def _greet(self, session: _Session) -> bool:
        """Hear ``Hello``, and answer; return whether the conversation goes on."""
        host, channel = session.identity.host, session.channel
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                hello = await channel.receive()
        except TimeoutError:
            raise OutOfTurnError("it does not say hello") from None
        session.conversation.hear(hello)
        if not isinstance(hello, Hello):  # hear() has seen to that
            raise OutOfTurnError("it says something else before hello")
        if not self._gatekeeper.leader().leads:
            return self._send_away(channel)
        admitted = await self._gatekeeper.admit(host, session.identity.serial, hello.epoch)
        if isinstance(admitted, Turned):
            if admitted.fenced:
                self._fence(session, admitted.epoch)
            else:
                self._turn(session, admitted.reason)
            return False
        leader = self._gatekeeper.leader()  # once more: it has taken time
        if hello.term > leader.term:
            _log.error("an agent has obeyed a later leader", host=host, its_term=hello.term, term=leader.term)
            await self._gatekeeper.outranked(hello.term)
            return self._send_away(channel)
        if not leader.leads:
            return self._send_away(channel)
        newest, before = self._newest.come(host, admitted.epoch, session)
        if not newest:
            self._fence(session, admitted.epoch)
            return False
        if before is not None:
            self._replace(before, admitted.epoch, same=hello.epoch == admitted.epoch)
        session.conversation.admit()
        channel.send(
            Welcome(
                version=VERSION, epoch=admitted.epoch, term=leader.term, time=self._clock(),
                checkpoint=self._gatekeeper.checkpoint(),
            )
        )  # fmt: skip
        _log.info("an agent has come", host=host, epoch=admitted.epoch, agent=hello.agent)
        self._listener.arrived(host, msgspec.structs.replace(hello, epoch=admitted.epoch))
        return True

    async def _hear(self, session: _Session) -> None:
        host = session.identity.host
        message = await session.channel.receive()
        if self._newest.of(host) is not session:
            raise ChannelError("another connection has taken its place")
        session.conversation.hear(message)
        match message:
            case Seen():
                self._listener.seen(host, message.sight)
            case Described():
                self._listener.described(host, message.facts)
            case Held():
                self._listener.held(host, message)
            case Records():
                self._listener.told(host, message)
            case Entering():
                self._listener.entering(host, message)
            case Moving():
                self._listener.moving(host, message)
            case Renew():
                await self._renew(session, message.csr)
            case Hello():  # hear() has seen to that
                raise OutOfTurnError("it says hello again")

    async def _renew(self, session: _Session, csr: str) -> None:
        host = session.identity.host
        try:
            certificate = await self._gatekeeper.renewed(host, csr)
        except PkiError as error:
            raise OutOfTurnError(str(error)) from error
        except PermissionError as error:
            self._turn(session, str(error))
            raise ChannelError(str(error)) from error
        session.conversation.renewed()
        session.channel.send(Renewed(certificate=certificate))
        if session.deadline is not None:
            session.deadline.reschedule(asyncio.get_running_loop().time() + HOST_LIFE.total_seconds())

    # Endings

    def _send_away(self, channel: ControllerChannel) -> bool:
        channel.send(Elsewhere(url=self._elsewhere()))
        channel.close("another controller leads", NOT_HERE)
        return False

    def _elsewhere(self) -> str:
        leader = self._gatekeeper.leader()
        return "" if leader.leads else leader.url

    def _replace(self, before: _Session, epoch: int, *, same: bool) -> None:
        if same:
            before.channel.close("this agent has connected again", REPLACED)
        else:
            self._fence(before, epoch)

    def _fence(self, session: _Session, epoch: int) -> None:
        _log.warning("an agent is fenced: its host has a newer one", host=session.identity.host, epoch=epoch)
        with contextlib.suppress(ChannelError):
            session.channel.send(Fenced(epoch=epoch))
        session.channel.close("a newer agent of this host has come", REPLACED)

    def _turn(self, session: _Session, reason: str) -> None:
        _log.warning("an agent is not let in", host=session.identity.host, why=reason)
        session.channel.close(reason, TURNED)

    def _break(self, session: _Session, why: str) -> None:
        _log.warning("an agent has broken the rules, and is cut off", host=session.identity.host, why=why)
        session.channel.close(why, BROKEN)

    def _put_off(self, session: _Session, error: OSError) -> None:
        _log.warning("an agent cannot be answered", host=session.identity.host, why=str(error))
        session.channel.close("the controller cannot answer just now", UNAVAILABLE)

    def _leave(self, session: _Session) -> None:
        if self._newest.gone(session.identity.host, session):
            self._listener.left(session.identity.host)
