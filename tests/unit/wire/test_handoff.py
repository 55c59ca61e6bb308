"""Two hosts that hand something over: who is let in, who is believed, and what is no message."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from credentials import Site
from serai.wire import handoff, peer, pki
from serai.wire.handoff import BEGIN_LIMIT, VERSION, Abort, Begin, Closed, Flows, Live, Taken, Turn
from serai.wire.peer import DestinationEnd, HandoffError, SourceEnd, listen, reach
from serai.wire.tls import agents_context, peer_context

MOVE = "a" * 32
BEGIN = Begin(version=VERSION, move=MOVE, epoch=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("handoff"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("foreign-handoff"))


class Destination:
    """Notes who comes and what they say, and answers the first message."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.heard: list[object] = []
        self.wrong: list[str] = []
        self.over = asyncio.Event()

    async def converse(self, end: DestinationEnd) -> None:
        try:
            self.hosts.append(end.host)
            self.heard.append(await end.receive(BEGIN_LIMIT))
            end.send(Taken(number=0))
            while True:
                self.heard.append(await end.receive())
        except HandoffError as error:
            self.wrong.append(str(error))
        finally:
            await end.close()
            self.over.set()


def run(
    context: ssl.SSLContext, test: Callable[[str, Destination], Awaitable[None]], *, address: str = "127.0.0.1"
) -> Destination:
    async def limited() -> Destination:
        there = Destination()
        server = await listen(address, 0, context, there.converse)
        async with asyncio.timeout(20):
            try:
                await test(f"{address}:{server.sockets[0].getsockname()[1]}", there)
            finally:
                server.close()
        return there

    return asyncio.run(limited())


async def turned_away(address: str, context: ssl.SSLContext, host: str = "b") -> str:
    """What a source hears that gets no answer."""
    end: SourceEnd | None = None
    try:
        end = await reach(address, context, host)
        end.send(BEGIN)
        answer = await end.receive()
    except HandoffError as error:
        return str(error)
    finally:
        if end is not None:
            await end.close()
    return pytest.fail(f"it was answered: {answer}")


def test_two_hosts_talk_and_each_knows_who_the_other_is(site: Site) -> None:
    said = [
        BEGIN, Flows(number=1, parts=[b"x" * 100_000, b""]), Flows(number=2), Turn(number=3, acknowledged=2),
        Abort(why="no"),
    ]  # fmt: skip

    async def test(address: str, there: Destination) -> None:
        end = await reach(address, site.reaching("a"), "b")
        for message in said:
            end.send(message)
        assert await end.receive() == Taken(number=0)
        await end.close()
        await there.over.wait()

    there = run(site.listening("b"), test)
    assert (there.hosts, there.heard) == (["a"], said)
    assert there.wrong == ["the other end has ended the conversation"]


@pytest.mark.parametrize("message", [Taken(number=3, flows=2, refused=1), Live(), Closed(), Abort(why="w")])
def test_what_a_destination_says_is_read_back(message: handoff.FromDestination) -> None:
    assert handoff.decode_from_destination(msgspec.msgpack.encode(message)) == message


def test_whom_a_destination_lets_in(site: Site, foreign: Site, tmp_path: Path) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(cadata=site.keys.authority.pem)
    bare.check_hostname = False
    stranger = foreign.reaching("a")
    stranger.load_verify_locations(cadata=site.keys.authority.pem)  # it believes whoever it reaches
    expired = site.reaching("a", age=timedelta(hours=25), under="expired")
    early = site.reaching("a", age=-timedelta(hours=3), under="early")
    controller = peer_context(site.keys.server, site.keys.server_key, site.keys.ca)
    del tmp_path

    async def test(address: str, there: Destination) -> None:
        for context in (bare, stranger, expired, early):
            await turned_away(address, context)
            assert there.hosts == []
        await turned_away(address, controller)
        assert there.hosts == []
        assert "no host of this site" in there.wrong[-1]
        end = await reach(address, site.reaching("a"), "b")  # and others still are
        end.send(BEGIN)
        assert await end.receive() == Taken(number=0)
        await end.close()

    assert run(site.listening("b"), test).hosts == ["a"]


def test_whom_a_source_believes(site: Site, foreign: Site) -> None:
    reaching = site.reaching("a")
    controller = agents_context(site.keys.server, site.keys.server_key, site.keys.ca)
    over = site.listening("b", age=timedelta(hours=25), under="over")
    for context, says in (
        (foreign.listening("b"), "another site"),
        (site.listening("c"), "is host c, and the VM goes to host b"),
        (controller, "no host of this site"),
        (over, "over, or this machine's clock is wrong"),
    ):

        async def test(address: str, there: Destination, says: str = says) -> None:
            assert says in await turned_away(address, reaching)
            assert there.heard == []

        run(context, test)


def test_a_certificate_of_before_reaches_and_is_not_reached(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "_BOTH", (ExtendedKeyUsageOID.CLIENT_AUTH,))
    reaching, listening = site.reaching("a", under="before-a"), site.listening("b", under="before-b")
    monkeypatch.undo()

    async def heard(address: str, _there: Destination) -> None:
        end = await reach(address, reaching, "b")
        end.send(BEGIN)
        assert await end.receive() == Taken(number=0)
        await end.close()

    assert run(site.listening("b"), heard).hosts == ["a"]

    async def refused(address: str, _there: Destination) -> None:
        assert "not good for being reached" in await turned_away(address, site.reaching("a"))

    run(listening, refused)


def test_nobody_there(site: Site) -> None:
    async def test() -> None:
        for address in ("127.0.0.1:1", "127.0.0.1", "", "127.0.0.1:x", "127.0.0.1:99999999"):
            with pytest.raises(HandoffError, match="host b"):
                await reach(address, site.reaching("a"), "b")

    asyncio.run(test())


def test_an_address_that_cannot_be_listened_at_is_told(site: Site) -> None:
    async def test() -> None:
        with pytest.raises(HandoffError, match=r"cannot be listened to at 192\.0\.2\.1:0"):
            await listen("192.0.2.1", 0, site.listening("b"), Destination().converse)

    asyncio.run(test())


def raw(body: bytes, length: int | None = None) -> bytes:
    return (len(body) if length is None else length).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (raw(b""), "no message"),
        (raw(b"nonsense"), "no message"),
        (raw(msgspec.msgpack.encode(Live())), "no message"),
        (raw(msgspec.msgpack.encode({"say": "begin", "version": 1, "move": "A" * 32, "epoch": 1})), "no message"),
        (raw(msgspec.msgpack.encode({"say": "begin", "version": 1, "move": MOVE, "epoch": -1})), "no message"),
        (raw(msgspec.msgpack.encode({"say": "begin", "version": 1, "move": MOVE, "epoch": 1, "x": 1})), "no message"),
        (raw(b"", BEGIN_LIMIT + 1), "too long"),
        (b"\xff\xff\xff\xff", "too long"),
        (raw(b"abc", 4), "has ended the conversation"),
        (b"\0\0", "has ended the conversation"),
    ],
)
def test_what_is_no_first_message_ends_the_conversation(site: Site, sent: bytes, says: str) -> None:
    async def test(address: str, there: Destination) -> None:
        end = await reach(address, site.reaching("a"), "b")
        end._writer.write(sent)
        end._writer.close()
        await there.over.wait()
        await end.close()

    there = run(site.listening("b"), test)
    assert there.heard == []
    assert says in there.wrong[0]


def test_later_messages_may_be_longer_and_not_too_long(site: Site) -> None:
    async def test(address: str, there: Destination) -> None:
        end: SourceEnd = await reach(address, site.reaching("a"), "b")
        end.send(BEGIN)
        end.send(Flows(number=1, parts=[bytes(BEGIN_LIMIT * 10)]))
        end._writer.write(raw(b"", handoff.MESSAGE_LIMIT + 1))
        await there.over.wait()
        await end.close()

    there = run(site.listening("b"), test)
    assert len(there.heard) == 2
    assert "too long" in there.wrong[0]


def test_who_takes_nothing_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_UNSENT", 1 << 20)
    deaf = asyncio.Event()

    async def test(address: str, _there: Destination) -> None:
        async def listen_to_nothing(_end: DestinationEnd) -> None:
            await deaf.wait()

        server = await listen("127.0.0.1", 0, site.listening("c"), listen_to_nothing)
        end = await reach(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", site.reaching("a"), "c")

        async def send_on() -> None:
            for number in range(1, 1000):
                end.send(Flows(number=number, parts=[bytes(100_000)]))
                await asyncio.sleep(0)

        with pytest.raises(HandoffError, match="does not take"):
            await send_on()
        with pytest.raises(HandoffError):
            end.send(BEGIN)
        deaf.set()
        server.close()
        del address

    run(site.listening("b"), test)


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_bytes_are_a_message_or_an_error(body: bytes) -> None:
    async def test() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(raw(body))
        reader.feed_eof()
        end: DestinationEnd = peer.Handoff(reader, None, handoff.decode_from_source)  # type: ignore[arg-type]
        try:
            message = await end.receive()
        except HandoffError as error:
            assert "no message" in str(error)  # noqa: PT017
        else:
            assert isinstance(message, handoff.FromSource)

    asyncio.run(test())
