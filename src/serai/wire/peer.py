"""Conversations between two hosts (``handoff.py``), over mutual TLS: each message stands behind its length."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import msgspec

from serai.wire.handoff import (
    MESSAGE_LIMIT,
    OPEN_SECONDS,
    FromDestination,
    FromSource,
    decode_from_destination,
    decode_from_source,
)
from serai.wire.keypair import PkiError
from serai.wire.pki import identity_of_der
from serai.wire.tls import explain

_UNSENT: Final = 2 * MESSAGE_LIMIT
"""Who lets more wait than this does not take what is sent to it."""
_LENGTH: Final = 4

In = TypeVar("In", bound=FromSource | FromDestination)
Out = TypeVar("Out", bound=FromSource | FromDestination)


class HandoffError(RuntimeError):
    """There is no conversation, or none any more; the message says why."""


class Handoff(Generic[In, Out]):
    """One end of a conversation."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decode: Callable[[bytes], In]
    ) -> None:
        """Speak over a connection that is open, and with whom it may be."""
        self._reader, self._writer = reader, writer
        self._decode = decode

    @property
    def host(self) -> str:
        """The host at the other end, by the certificate that it shows; TLS has checked who signed that.

        Raises:
            HandoffError: it is no host's.
        """
        tls: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        try:
            return identity_of_der((tls.getpeercert(binary_form=True) if tls else None) or b"").host
        except PkiError as error:
            raise HandoffError(f"the other end is no host of this site: {error}") from error

    def send(self, message: Out) -> None:
        """Have ``message`` sent; nobody waits.

        Raises:
            HandoffError: the other end is gone, or does not take what is sent to it.
        """
        raw = msgspec.msgpack.encode(message)
        transport = self._writer.transport
        if transport.is_closing():
            raise HandoffError("the connection is gone")
        if transport.get_write_buffer_size() + len(raw) > _UNSENT:
            self.cut()
            raise HandoffError("the other end does not take what is sent to it")
        self._writer.write(len(raw).to_bytes(_LENGTH, "big") + raw)

    async def receive(self, limit: int = MESSAGE_LIMIT) -> In:
        """Wait for the next message, of so many bytes at the most.

        Raises:
            HandoffError: there is none to come, or what came is none that may come here.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            if length > limit:
                raise HandoffError(f"a message of {length} bytes is too long: {limit} may come")
            raw = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise HandoffError("the other end has ended the conversation") from error
        except ssl.SSLError as error:
            raise HandoffError(f"TLS has failed: {explain(error)}") from error
        except OSError as error:
            raise HandoffError(f"the connection is gone: {error.strerror or error}") from error
        try:
            return self._decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise HandoffError(f"this is no message: {error}") from error

    async def close(self) -> None:
        """End it: what was sent before has a second to arrive."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        self.cut()

    def cut(self) -> None:
        """End it at once."""
        self._writer.transport.abort()


SourceEnd = Handoff[FromDestination, FromSource]
DestinationEnd = Handoff[FromSource, FromDestination]


async def reach(address: str, context: ssl.SSLContext, host: str) -> SourceEnd:
    """Connect to ``host``, the destination of a ticket, at ``ADDRESS:PORT``.

    Raises:
        HandoffError: nobody answers there, or somebody else.
    """
    name, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            reader, writer = await asyncio.open_connection(name.strip("[]"), int(port), ssl=context)
    except ssl.SSLError as error:
        raise HandoffError(f"host {host} at {address}: TLS has failed: {explain(error)}") from error
    except TimeoutError as error:
        raise HandoffError(f"host {host} at {address}: nobody answers in {OPEN_SECONDS:g} s") from error
    except (OSError, ValueError, OverflowError) as error:
        raise HandoffError(f"host {host} at {address}: {getattr(error, 'strerror', '') or error}") from error
    made: SourceEnd = Handoff(reader, writer, decode_from_destination)
    try:
        found = made.host
    except HandoffError:
        made.cut()
        raise
    if found != host:
        made.cut()
        raise HandoffError(f"at {address} is host {found}, and the VM goes to host {host}")
    return made


async def listen(
    address: str, port: int, context: ssl.SSLContext, converse: Callable[[DestinationEnd], Awaitable[None]]
) -> asyncio.Server:
    """Let hosts in as ``context`` says, and ``converse`` with each.

    Raises:
        HandoffError: the address cannot be listened at.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(Handoff(reader, writer, decode_from_source))

    try:
        return await asyncio.start_server(connected, address, port, ssl=context, ssl_handshake_timeout=OPEN_SECONDS)
    except OSError as error:
        raise HandoffError(f"hosts cannot be listened to at {address}:{port}: {error.strerror or error}") from error
