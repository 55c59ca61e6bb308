"""The agent's unix socket: one JSON object a line each way, so that a hook needs nothing but a JSON library.

The socket belongs to root and is open to nobody else; whoever may use it may change what is enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from serai.model.flow import DropSample, FlowRow
from serai.wire.facts import read_rows, read_samples, write_address

LINE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes in one message at the most."""


class AgentError(RuntimeError):
    """The agent does not answer, or refuses; the message says which and why."""


class Status(msgspec.Struct, tag_field="ask", tag="status", frozen=True):
    """How are you?"""


class Apply(msgspec.Struct, tag_field="ask", tag="apply", frozen=True, kw_only=True):
    """Enforce this ruleset."""

    ruleset: bytes


class Change(msgspec.Struct, tag_field="ask", tag="change", frozen=True, kw_only=True):
    """Enforce what this makes of the ruleset that you hold (see ``Delta``)."""

    delta: bytes


class Enter(msgspec.Struct, tag_field="ask", tag="enter", frozen=True, kw_only=True):
    """This domain is about to be prepared here: may it run on this host?"""

    definition: str
    """The domain's XML."""
    incoming: bool = False
    """It comes from another host."""


class Describe(msgspec.Struct, tag_field="ask", tag="describe", frozen=True, kw_only=True):
    """What is this domain made of, and what does it boot from? Its files are read, which may take long."""

    definition: str
    """The domain's XML."""


class Guard(msgspec.Struct, tag_field="ask", tag="guard", frozen=True, kw_only=True):
    """This domain is about to run: have gates on its taps before you answer."""

    definition: str
    """The domain's XML."""


class Release(msgspec.Struct, tag_field="ask", tag="release", frozen=True, kw_only=True):
    """This domain runs here no more."""

    domain: str


class Rows(msgspec.Struct, tag_field="ask", tag="rows", frozen=True):
    """What have the gates counted?"""


class Samples(msgspec.Struct, tag_field="ask", tag="samples", frozen=True):
    """Which packets were dropped of late?"""


Request = Status | Apply | Change | Enter | Describe | Guard | Release | Rows | Samples


class GateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One gate."""

    tap: str
    ifindex: int
    domain: str | None
    mac: str | None
    vnic: str | None
    """The vNIC's path; None while the gate is closed."""
    vnic_id: int | None
    mode: str | None


class DropStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One drop counter."""

    vnic_id: int
    direction: str
    reason: int
    packets: int


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent stands with its controllers."""

    connected: bool
    """It talks to the controller that leads."""
    url: str
    """Where that is, or whom it has last tried."""
    epoch: int
    """How the controller calls this agent's life; 0: it has none yet."""
    term: int
    """The highest of a leader that this host has obeyed."""
    fenced: bool
    """A newer agent of this host has come, and this one is silent until it is restarted."""
    trouble: str
    """What is wrong, in sentences; empty where nothing is."""
    certificate_until: datetime | None = None
    clock_skew_seconds: float | None = None
    """By how much the controller's clock is ahead of this host's, when last told."""


class RecordsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much an agent has to tell of traffic."""

    batches: int
    """On the host's disk: no controller has taken them yet."""
    records: int
    """In them."""
    bytes: int
    """That they take."""
    sent: int
    """Records that controllers have taken since this agent started."""
    removed: int
    """Records that were removed unsent since then, to make room, or because their file was damaged."""
    lost: int
    """All records that are known not to have been told since then: these, and those that nobody could make or keep."""
    trouble: str
    """What is wrong; empty where nothing is."""


class MoveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A move that this host has a part in, and the controller has not ended."""

    move: str
    vm: str
    """Its path."""
    source: str
    to: str
    phase: str
    """How far it has come here."""


class StatusReply(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is."""

    pid: int
    uptime_seconds: float
    digest: str | None
    """Of the ruleset that the kernel holds; None where there is none yet."""
    gates: list[GateStatus]
    drops: list[DropStatus]
    flows: int
    forgotten_flows: int
    """Ended flows that were dropped before anybody read them."""
    forgotten_denials: int = 0
    """The same of records of denials."""
    lost_denials: int = 0
    """Packets that were dropped, and counted by reason, without a record of whose they were: there was no room."""
    lost_events: int = 0
    """Samples and ended flows that the gates' ring had no room for."""
    restored_gates: int = 0
    """How often something else took a gate off its tap, and the agent put it back."""
    link: LinkStatus | None = None
    """None: this host has joined no site, and obeys whoever is root here."""
    records: RecordsStatus | None = None
    """None: nothing is recorded, for the same reason."""
    moves: list[MoveStatus] = []


class ApplyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of the ruleset that the kernel now holds."""

    digest: str


class EnterReply(msgspec.Struct, frozen=True, kw_only=True):
    """What there is against it; nothing: it may."""

    objections: list[str] = []
    warnings: list[str] = []


class BootStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a domain boots from."""

    what: str
    path: str
    sha256: str
    """In hexadecimal; empty: nobody can say, or it is another one every time."""
    why: str
    """Why not."""


class DescribeReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a domain is made of."""

    definition: str
    """The SHA-256 of its machine definition, in hexadecimal."""
    boots: list[BootStatus]


class GuardReply(msgspec.Struct, frozen=True, kw_only=True):
    """Which taps are guarded, or will be as soon as it is this host's turn, and behind which nobody is known (their gates are closed)."""

    guarded: list[str]
    closed: list[str]


class RowsReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates have counted."""

    rows: list[FlowRow]
    rules: dict[str, int]
    """The numbers of rules, by text, for the ruleset in force."""


class SamplesReply(msgspec.Struct, frozen=True, kw_only=True):
    """Packets that were dropped, oldest first; of each kind at most one a second."""

    samples: list[DropSample]
    rules: dict[str, int]
    """The numbers of rules, by text, for the ruleset in force."""
    vnics: dict[str, str]
    """The paths of vNICs by their number (in decimal, as JSON's keys are texts)."""


class Done(msgspec.Struct, frozen=True):
    """It is done; there is nothing to tell."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """It was refused, or went wrong; the message says what holds now."""

    error: str


Reply = StatusReply | ApplyReply | EnterReply | DescribeReply | GuardReply | RowsReply | SamplesReply | Done

R = TypeVar("R", StatusReply, ApplyReply, EnterReply, DescribeReply, GuardReply, RowsReply, SamplesReply, Done)


def encode(message: Request | Reply | Failure) -> bytes:
    """Write a message as one line."""
    return msgspec.json.encode(message, enc_hook=write_address) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read what ``encode`` wrote of a request.

    Raises:
        ValueError: it is no request.
    """
    try:
        request: Request = msgspec.json.decode(line, type=Request)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return request


async def serve(
    path: Path, answer: Callable[[Request], Awaitable[Reply]], *, refusals: tuple[type[Exception], ...]
) -> asyncio.Server:
    """Answer requests on the unix socket ``path`` (made with mode 0600).

    An exception of one of the types ``refusals`` is told to whoever asked, as are malformed requests.
    """

    async def respond(line: bytes) -> Reply | Failure:
        try:
            request = decode_request(line)
        except ValueError as error:
            return Failure(error=f"this is not a request that the agent knows: {error}")
        try:
            return await answer(request)
        except refusals as error:
            return Failure(error=str(error))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line beyond the limit
            while line := await reader.readline():
                writer.write(encode(await respond(line)))
                await writer.drain()
        writer.close()

    listener = _listen(path)
    return await asyncio.start_unix_server(converse, sock=listener, limit=LINE_LIMIT)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # at no moment may anybody else connect
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def ask(path: Path, request: Request, kind: type[R], *, timeout_seconds: float = 30) -> R:
    """Ask the agent behind the socket ``path``, and wait for its answer.

    Raises:
        AgentError: nobody answers there in time, or the agent refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(str(path))
            connection.sendall(encode(request))
            with connection.makefile("rb") as replies:
                line = replies.readline(LINE_LIMIT)
    except OSError as error:
        message = f"no agent answers at {path} ({error.strerror or error}): start it with 'serai agent run'"
        raise AgentError(message) from error
    if not line:
        message = f"the agent at {path} went away while it was asked"
        raise AgentError(message)
    try:
        reply = _decode_reply(line, kind)
    except (ValueError, RecursionError) as error:
        message = f"the agent at {path} speaks another version: {error}"
        raise AgentError(message) from error
    if isinstance(reply, Failure):
        raise AgentError(reply.error)
    return reply


def _decode_reply(line: bytes, kind: type[R]) -> R | Failure:
    try:
        return msgspec.json.decode(line, type=Failure)
    except msgspec.ValidationError:
        reply: R = _reader(kind)(line)
        return reply


def _reader(kind: type) -> Callable[[bytes], Any]:
    readers: dict[type, Callable[[bytes], Any]] = {RowsReply: _read_rows, SamplesReply: _read_samples}
    return readers.get(kind) or msgspec.json.Decoder(kind).decode


def _read_rows(line: bytes) -> RowsReply:
    rows, rules = read_rows(line)
    return RowsReply(rows=rows, rules=rules)


def _read_samples(line: bytes) -> SamplesReply:
    samples, rules, vnics = read_samples(line)
    return SamplesReply(samples=samples, rules=rules, vnics=vnics)
