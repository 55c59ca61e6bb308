"""Channels over real TLS: who gets in, and what becomes of ends that are silent, stuck, too long or no ends at all."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from blackhole import Mode, Proxy, proxy
from credentials import Site
from serai.wire import pki
from serai.wire.channel import PATH, ChannelError, ControllerChannel, Room, Timing
from serai.wire.dial import dial
from serai.wire.listen import listen
from serai.wire.remote import AGENT_LIMIT, Held, MessageError, Renew, Welcome, Whole, encode
from serai.wire.tls import host_context, server_context

QUICK = Timing(open_seconds=2, close_seconds=0.3, beat_seconds=0.1, dead_seconds=0.4)
HELD = Held(digest=bytes(32), answers=7)
WELCOME = Welcome(version=1, epoch=1, term=1, time=0.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("foreign"))


class Controller:
    """Listens, answers each message with WELCOME, and writes down what became of whom."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[object] = []
        self.ends: list[str] = []
        self.hosts: list[str] = []
        self.channels: list[ControllerChannel] = []
        self.over = asyncio.Event()
        self.answers = True

    async def converse(self, channel: ControllerChannel) -> None:
        self.channels.append(channel)
        try:
            self.hosts.append(pki.identity_of_der(channel.peer_certificate).host)
            while True:
                self.heard.append(await channel.receive())
                if self.answers:
                    channel.send(WELCOME)
        except (ChannelError, MessageError, pki.PkiError) as error:
            self.ends.append(str(error))
            self.over.set()

    @property
    def url(self) -> str:
        return f"wss://localhost:{self.port}"


@contextlib.asynccontextmanager
async def controller(site: Site, *, timing: Timing = QUICK, room: Room = Room()) -> AsyncIterator[Controller]:  # noqa: B008
    made = Controller()
    async with listen("127.0.0.1", 0, site.agents(), made.converse, timing=timing, room=room) as made.port:
        yield made


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(limited())


def test_messages_go_both_ways_and_the_certificate_says_who(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there, await dial(there.url, site.host("a"), timing=QUICK) as here:
            here.send(HELD)
            assert await here.receive() == WELCOME
            large = Renew(csr="x" * 4096)
            here.send(large)
            assert await here.receive() == WELCOME
            assert (there.heard, there.hosts) == ([HELD, large], ["a"])

    run(test)


def test_a_ruleset_of_many_pieces_arrives_whole(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there, await dial(there.url, site.host("a"), timing=QUICK) as here:
            here.send(HELD)
            await here.receive()
            whole = Whole(number=1, term=1, revision=1, ruleset=bytes(range(256)) * 40_000)
            there.channels[0].send(whole)
            assert await here.receive() == whole

    run(test)


async def refused(there: Controller, context: ssl.SSLContext) -> ChannelError:
    """Nothing of what this one says is heard."""
    try:
        async with await dial(there.url, context, timing=QUICK) as here:
            here.send(HELD)
            heard = await here.receive()
    except ChannelError as error:
        assert there.heard == []
        return error
    raise AssertionError(f"it was let in, and told {heard}")


def test_who_is_not_let_in(site: Site, foreign: Site) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(site.keys.ca)
    old = site.host("a", under="old-tls")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    stranger = host_context(
        foreign.identity("a") / "host.pem", foreign.directory / "a/identity/host.key", site.keys.ca
    )  # fmt: skip

    async def test() -> None:
        async with controller(site) as there:
            expired = site.host("a", age=timedelta(hours=25), under="expired")
            early = site.host("a", age=-timedelta(hours=3), under="early")
            for context in (bare, stranger, expired, early):
                told = await refused(there, context)
                assert told.refused
                assert "does not let us in" in str(told)
            assert not (await refused(there, old)).refused  # it gets no answer to its first word
            assert there.hosts == []
            # A controller's own certificate opens a connection, but it is no host's.
            await refused(there, host_context(site.keys.server, site.keys.server_key, site.keys.ca))
            assert there.hosts == []
            async with await dial(there.url, site.host("a"), timing=QUICK) as here:  # and others still are
                here.send(HELD)
                assert await here.receive() == WELCOME

    run(test)


def test_whom_an_agent_does_not_believe(site: Site, foreign: Site, tmp_path: Path) -> None:
    elsewhere = Site(directory=tmp_path, keys=site.keys)
    shutil.copytree(site.directory / "keys", tmp_path / "keys")
    misnamed = Site.make(tmp_path, names=("c2",))

    async def heard_by(context: ssl.SSLContext, url: str = "wss://localhost:{}") -> str:
        made = Controller()
        async with listen("127.0.0.1", 0, context, made.converse, timing=QUICK) as port:
            with pytest.raises(ChannelError) as told:
                await dial(url.format(port), site.host("a"), timing=QUICK)
            assert made.heard == []
            return str(told.value)

    async def test() -> None:
        assert "another site" in await heard_by(foreign.agents())
        # A host that plays controller: its certificate is of the site and good for being reached, but not by any name.
        for name in ("b", "localhost"):
            host = elsewhere.identity(name)
            assert "does not name it so" in await heard_by(server_context(host / "host.pem", host / "host.key"))
        # A controller under a name that is not its own.
        assert "does not name it so" in await heard_by(misnamed.agents())
        old = Site.make(tmp_path / "old", age=timedelta(days=366))
        over = Site(directory=tmp_path, keys=old.keys)
        made = Controller()
        async with listen("127.0.0.1", 0, over.agents(), made.converse, timing=QUICK) as port:
            with pytest.raises(ChannelError, match="over, or this machine's clock is wrong"):
                await dial(f"wss://localhost:{port}", over.host("c"), timing=QUICK)

    run(test)


def test_nobody_there_and_no_controller_there(site: Site) -> None:
    async def test() -> None:
        with pytest.raises(ChannelError, match=r"Connect call failed|refused"):
            await dial("wss://127.0.0.1:1", site.host("a"), timing=QUICK)
        with pytest.raises(ChannelError, match="no address of a controller"):
            await dial("http://127.0.0.1:1", site.host("a"), timing=QUICK)
        silent = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        async with silent:
            began = time.monotonic()
            with pytest.raises(ChannelError, match=r"nobody answers in 0\.2 s"):
                await dial(
                    f"wss://localhost:{silent.sockets[0].getsockname()[1]}",
                    site.host("a"),
                    timing=Timing(open_seconds=0.2),
                )
            assert time.monotonic() - began < 2

    run(test)


def test_a_redirect_is_not_followed(site: Site) -> None:
    async def test() -> None:
        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {there.url}{PATH}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        async with controller(site) as there:
            server = await asyncio.start_server(redirect, "127.0.0.1", 0, ssl=site.agents())
            async with server:
                with pytest.raises(ChannelError, match="302"):
                    await dial(f"wss://localhost:{server.sockets[0].getsockname()[1]}", site.host("a"), timing=QUICK)
            assert there.channels == []

    run(test)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"a" * 100, encode(WELCOME), encode(HELD)[:-1], encode(HELD) + b"\0", "text", encode(HELD).decode("latin-1")])  # fmt: skip
def test_what_is_no_message_is_told_to_who_listens(site: Site, data: bytes | str) -> None:
    async def test() -> None:
        async with controller(site) as there, connect(there.url + PATH, ssl=site.host("a"), proxy=None) as raw:
            await raw.send(data)
            await there.over.wait()
            assert there.heard == []
            assert "no message" in there.ends[0]

    run(test)


def test_what_is_too_long_ends_the_connection(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there, connect(there.url + PATH, ssl=site.host("a"), proxy=None) as raw:
            with contextlib.suppress(Exception):
                await raw.send(bytes(AGENT_LIMIT + 1))
            await there.over.wait()
            assert there.heard == []
            assert "exceeds limit" in there.ends[0]

    run(test)


def test_other_paths_are_nothing(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there:
            with pytest.raises(Exception, match="404"):
                async with connect(there.url + "/", ssl=site.host("a"), proxy=None):
                    pass
            assert there.channels == []

    run(test)


@contextlib.asynccontextmanager
async def through_proxy(site: Site, timing: Timing = QUICK) -> AsyncIterator[tuple[Controller, Proxy, str]]:
    async with controller(site, timing=timing) as there, proxy(there.port) as between:
        yield there, between, f"wss://localhost:{between.port}"


def test_a_black_hole_is_noticed_at_both_ends(site: Site) -> None:
    async def test() -> None:
        async with (
            through_proxy(site) as (there, between, url),
            await dial(url, site.host("a"), timing=QUICK) as here,
        ):
            here.send(HELD)
            await here.receive()
            await asyncio.sleep(0.3)  # longer than a beat: signs of life go through
            assert there.ends == []
            between.turn(Mode.HOLE)
            began = time.monotonic()
            with pytest.raises(ChannelError, match="no sign of life"):
                await here.receive()
            await there.over.wait()
            assert time.monotonic() - began < 2
            assert there.ends == ["it gives no sign of life"]

    run(test)


def test_a_slow_line_is_no_dead_one(site: Site) -> None:
    async def test() -> None:
        timing = Timing(open_seconds=3, close_seconds=0.3, beat_seconds=0.1, dead_seconds=0.6)
        async with (
            through_proxy(site, timing) as (there, between, url),
            await dial(url, site.host("a"), timing=timing) as here,
        ):
            here.send(HELD)
            await here.receive()
            between.rate = 1024 * 1024
            between.turn(Mode.SLOW)
            whole = Whole(number=1, term=1, revision=1, ruleset=bytes(1536 * 1024))
            began = time.monotonic()
            there.channels[0].send(whole)
            assert await here.receive() == whole
            assert time.monotonic() - began > timing.beat_seconds + timing.dead_seconds
            assert there.ends == []

    run(test)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_message_that_is_cut_in_the_middle_is_not_taken_in(site: Site, way: str) -> None:
    async def test() -> None:
        async with (
            through_proxy(site) as (there, between, url),
            await dial(url, site.host("a"), timing=QUICK) as here,
        ):
            here.send(HELD)
            await here.receive()
            between.cut_after(200_000, way)
            if way == "down":
                there.channels[0].send(Whole(number=1, term=1, revision=1, ruleset=bytes(400_000)))
            else:
                for _ in range(60):
                    here.send(Renew(csr="x" * 4096))
            with contextlib.suppress(ChannelError):
                while True:
                    assert await here.receive() == WELCOME
            await there.over.wait()
            assert len(there.heard) < 61

    run(test)


def test_an_end_that_takes_nothing_is_cut_off_and_holds_nobody_up(site: Site) -> None:
    async def test() -> None:
        room = Room(messages=4)
        async with (
            controller(site, room=room) as there,
            await dial(there.url, site.host("b"), timing=QUICK) as other,
            connect(there.url + PATH, ssl=site.host("a"), proxy=None, max_size=None, max_queue=1, close_timeout=0.1) as stuck,
        ):  # fmt: skip
            await stuck.send(encode(HELD))
            assert await stuck.recv(decode=False) == encode(WELCOME)
            stuck.transport.pause_reading()
            victim = there.channels[there.hosts.index("a")]
            whole = Whole(number=1, term=1, revision=1, ruleset=bytes(8_000_000))
            began = time.monotonic()
            victim.send(whole)
            other.send(HELD)
            assert await other.receive() == WELCOME
            assert time.monotonic() - began < 0.4
            await there.over.wait()
            assert time.monotonic() - began < 3
            assert there.ends[0] in {"it is stuck", "it gives no sign of life"}
            with pytest.raises(ChannelError):
                victim.send(whole)

    run(test)


def test_an_end_that_talks_and_does_not_listen_is_cut_off(site: Site) -> None:
    async def test() -> None:
        async with (
            controller(site) as there,
            connect(there.url + PATH, ssl=site.host("a"), proxy=None, max_queue=1, close_timeout=0.1) as deaf,
        ):
            await deaf.send(encode(HELD))
            await deaf.recv()
            there.answers = False
            deaf.transport.pause_reading()
            there.channels[0].send(Whole(number=1, term=1, revision=1, ruleset=bytes(20_000_000)))
            with contextlib.suppress(Exception):
                while not there.over.is_set():
                    await deaf.send(encode(HELD))
                    await asyncio.sleep(0.05)
            assert there.ends == ["it is stuck"]

    run(test)


def test_what_waits_to_be_sent_is_bounded(site: Site) -> None:
    async def test() -> None:
        async with (
            controller(site, room=Room(messages=8, bytes=1_000_000)) as there,
            await dial(there.url, site.host("a"), timing=QUICK) as here,
        ):
            here.send(HELD)
            await here.receive()
            there.channels[0].send(Whole(number=1, term=1, revision=1, ruleset=bytes(3_000_000)))  # one may be longer
            with pytest.raises(ChannelError, match="does not take"):
                there.channels[0].send(Whole(number=2, term=1, revision=1, ruleset=b""))

    run(test)


def test_pings_that_nobody_wants_answered_do_not_fill_the_memory(site: Site) -> None:
    async def test() -> None:
        timing = Timing(open_seconds=2, close_seconds=0.3, beat_seconds=0.05, dead_seconds=15)
        async with (
            controller(site, timing=timing) as there,
            connect(there.url + PATH, ssl=site.host("a"), proxy=None, ping_interval=None, close_timeout=0.1) as flood,
        ):
            await flood.send(encode(HELD))
            flood.transport.pause_reading()
            with contextlib.suppress(Exception):
                while not there.over.is_set():
                    for _ in range(200):
                        flood.protocol.send_ping(bytes(125))
                    flood.send_data()
                    await flood.drain()
                    await asyncio.sleep(0)
            assert there.ends == ["it asks for more signs of life than it takes"]

    run(test)


def test_a_goodbye_gives_its_reason(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there, await dial(there.url, site.host("a"), timing=QUICK) as here:
            here.send(HELD)
            await here.receive()
            there.channels[0].send(WELCOME)
            there.channels[0].close("revoked: " + "é" * 100, 4001)
            assert await here.receive() == WELCOME  # what was sent before is not lost
            with pytest.raises(ChannelError, match=r"revoked: é+") as told:
                await here.receive()
            assert told.value.code == 4001
            with pytest.raises(ChannelError):
                there.channels[0].send(WELCOME)

    run(test)


def test_listening_ends_with_everybody_gone(site: Site) -> None:
    async def test() -> None:
        async with controller(site) as there:
            here = await dial(there.url, site.host("a"), timing=QUICK)
            await here.__aenter__()
            here.send(HELD)
            await here.receive()
        with pytest.raises(ChannelError):
            await here.receive()
        await here.__aexit__()
        with pytest.raises(ChannelError):
            await dial(there.url, site.host("a"), timing=QUICK)
        assert len(asyncio.all_tasks()) == 1

    run(test)
