"""The controller's end: who is let in, who is the newest, and what becomes of those that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from websockets.asyncio.client import connect

from credentials import Site
from doorkeepers import Gatekeeper, Listener
from serai.controller.agents import Agents, Leader
from serai.model.host_facts import Cpu, HostFacts
from serai.model.migration import Facts, Step
from serai.wire.channel import PATH, AgentChannel, ChannelError, Timing
from serai.wire.dial import dial
from serai.wire.keypair import make_csr, new_key
from serai.wire.remote import (
    VERSION,
    Described,
    Difference,
    Elsewhere,
    Fenced,
    FromAgent,
    FromController,
    Held,
    Hello,
    Moving,
    Renew,
    Renewed,
    Seen,
    Sight,
    Welcome,
    Whole,
    encode,
)

QUICK = Timing(open_seconds=2, close_seconds=0.3, beat_seconds=0.2, dead_seconds=0.6)
SIGHT = Sight(macs=[], vnics=[])
OTHER_SIGHT = Sight(macs=["52:54:00:00:00:01"], vnics=[3])
DIGEST = bytes(32)
FACTS = HostFacts(cpu=Cpu(arch="x86_64"), memory=1, nics=[], kernel="6", features=[], agent="1")


def hello(epoch: int = 0, *, term: int = 0, version: int = VERSION) -> Hello:
    return Hello(version=version, agent="t", epoch=epoch, term=term, digest=None, parts=[], sight=SIGHT)


class Scene:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.gatekeeper, self.listener = Gatekeeper(site), Listener()
        self.agents = Agents(self.gatekeeper, self.listener, timing=QUICK)
        self.port = 0

    @property
    def url(self) -> str:
        return f"wss://localhost:{self.port}"

    @contextlib.asynccontextmanager
    async def agent(self, host: str, under: str = "") -> AsyncIterator[AgentChannel]:
        async with await dial(self.url, self.site.host(host, under=under), timing=QUICK) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def admitted(self, host: str, epoch: int = 0, under: str = "") -> AsyncIterator[tuple[AgentChannel, Welcome]]:
        async with self.agent(host, under) as channel:
            channel.send(hello(epoch))
            welcome = await channel.receive()
            assert isinstance(welcome, Welcome)
            yield channel, welcome


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("agents-site"))


def run(site: Site, test: Callable[[Scene], Awaitable[None]]) -> None:
    async def limited() -> None:
        scene = Scene(site)
        async with asyncio.timeout(20), scene.agents.serve("127.0.0.1", 0, site.agents()) as scene.port:
            await test(scene)

    asyncio.run(limited())


async def ended(channel: AgentChannel) -> ChannelError:
    """Nothing more is heard."""
    try:
        heard = await channel.receive()
    except ChannelError as error:
        return error
    raise AssertionError(f"it goes on: {heard}")


def test_an_agent_is_let_in_and_heard(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, welcome):
            assert (welcome.epoch, welcome.term, welcome.checkpoint) == (1, 7, "log\n3\nroot\n")
            assert abs(welcome.time - time.time()) < 5
            channel.send(Seen(sight=OTHER_SIGHT))
            number = scene.agents.send("a", Whole(number=0, term=7, revision=3, ruleset=b"r"))
            assert await channel.receive() == Whole(number=1, term=7, revision=3, ruleset=b"r")
            channel.send(Held(digest=DIGEST, answers=1))
            await scene.listener.until("a", Held(digest=DIGEST, answers=1))
            assert number == 1
            assert scene.agents.send("a", Difference(number=0, term=7, revision=4, delta=b"")) == 2
            assert scene.agents.connected() == {"a"}
            assert scene.agents.send("b", Elsewhere(url="")) is None
        await scene.listener.until("a", "left")
        assert [told for _, told in scene.listener.told] == [
            hello(epoch=1), OTHER_SIGHT, Held(digest=DIGEST, answers=1), "left",
        ]  # fmt: skip
        assert scene.agents.connected() == frozenset()

    run(site, test)


def test_what_a_host_is_made_of_is_heard_after_hello_only(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, _):
            channel.send(Described(facts=FACTS))
            await scene.listener.until("a", FACTS)
        async with scene.agent("b") as channel:
            channel.send(Described(facts=FACTS))
            assert "before hello" in str(await ended(channel))
        assert ("b", FACTS) not in scene.listener.told

    run(site, test)


def test_how_far_moves_have_come_is_heard(site: Site) -> None:
    async def test(scene: Scene) -> None:
        said = Moving(move="0" * 32, step=Step.PREPARED, address="[::1]:7", facts=Facts(digest="d" * 64))
        async with scene.admitted("a") as (channel, _):
            for _ in range(2):
                channel.send(said)
            await scene.listener.until("a", said)
        await scene.listener.until("a", "left")
        assert scene.listener.told.count(("a", said)) == 2

    run(site, test)


def test_what_is_sent_to_one_host_no_other_hears(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (a, _), scene.admitted("b") as (b, _):
            scene.agents.send("b", Whole(number=0, term=7, revision=1, ruleset=b"of b"))
            assert (await b.receive()) == Whole(number=1, term=7, revision=1, ruleset=b"of b")
            scene.agents.send("a", Whole(number=0, term=7, revision=1, ruleset=b"of a"))
            assert (await a.receive()) == Whole(number=1, term=7, revision=1, ruleset=b"of a")

    run(site, test)


def test_the_newest_life_of_a_host_is_the_only_one(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (old, first):
            async with scene.admitted("a", under="a-too") as (new, second):
                assert (first.epoch, second.epoch) == (1, 2)
                assert await old.receive() == Fenced(epoch=2)
                assert (await ended(old)).code == 4002
                scene.agents.send("a", Whole(number=0, term=7, revision=1, ruleset=b""))
                assert isinstance(await new.receive(), Whole)
                async with scene.agent("a") as back:  # the old one comes again, as what it was
                    back.send(hello(1))
                    assert await back.receive() == Fenced(epoch=2)
                    assert (await ended(back)).code == 4002
                assert scene.agents.connected() == {"a"}
            await scene.listener.until("a", "left")
        assert [told for _, told in scene.listener.told].count("left") == 1

    run(site, test)


def test_one_life_that_connects_again_is_no_newer_agent(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (before, _), scene.admitted("a", epoch=1) as (after, welcome):
            assert welcome.epoch == 1
            gone = await ended(before)  # with no word of being fenced
            assert gone.code == 4002
            scene.agents.send("a", Whole(number=0, term=7, revision=1, ruleset=b""))
            assert isinstance(await after.receive(), Whole)

    run(site, test)


def test_of_two_that_are_let_in_at_once_the_newer_life_stays(site: Site) -> None:
    async def test(scene: Scene) -> None:
        scene.gatekeeper.gate.clear()
        async with scene.agent("a") as one, scene.agent("a", "a-too") as two:
            one.send(hello())
            two.send(hello())
            await asyncio.sleep(0.05)
            scene.gatekeeper.gate.set()
            first, second = await one.receive(), await two.receive()
            assert isinstance(first, Welcome)
            assert isinstance(second, Welcome)
            late, early = (one, two) if first.epoch > second.epoch else (two, one)
            assert await early.receive() == Fenced(epoch=2)
            scene.agents.send("a", Whole(number=0, term=7, revision=1, ruleset=b""))
            assert isinstance(await late.receive(), Whole)

    run(site, test)


def whole(number: int = 0) -> Whole:
    return Whole(number=number, term=7, revision=1, ruleset=b"")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([Seen(sight=SIGHT)], "before hello"),
        ([Held(digest=DIGEST)], "before hello"),
        ([Renew(csr="")], "before hello"),
        ([hello(version=2)], "speaks version 2"),
        ([hello(), hello()], "hello again"),
        ([hello(), Held(digest=DIGEST, answers=1)], "was not sent"),
        ([hello(), Held(digest=DIGEST, refused="no")], "refuses what it was not sent"),
        ([Moving(move="0" * 32, step=Step.LIVE)], "before hello"),
        ([hello(), Moving(move="0" * 32, step=Step.PLANNED)], "the controller's to say"),
        ([hello(), Moving(move="0" * 32, step=Step.DONE)], "the controller's to say"),
        ([hello(), Renew(csr="nonsense")], "no request for a certificate"),
    ],
)
def test_what_is_said_out_of_turn_ends_the_conversation(site: Site, said: list[FromAgent], why: str) -> None:
    async def test(scene: Scene) -> None:
        async with scene.agent("a") as channel:
            for message in said:
                channel.send(message)
            heard: list[FromController] = []
            with pytest.raises(ChannelError, match=why) as told:
                heard.extend([await channel.receive() for _ in range(3)])
            assert told.value.code == 4000
        if len(said) > 1:
            await scene.listener.until("a", "left")
        assert scene.listener.told == ([("a", hello(epoch=1)), ("a", "left")] if len(said) > 1 else [])

    run(site, test)


def test_an_answer_counts_once(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, _):
            scene.agents.send("a", whole())
            await channel.receive()
            channel.send(Held(digest=DIGEST, answers=1))
            channel.send(Held(digest=bytes(31) + b"\1", answers=1))
            with pytest.raises(ChannelError, match="has answered"):
                await channel.receive()
        await scene.listener.until("a", "left")
        assert [what.answers for _, what in scene.listener.told if isinstance(what, Held)] == [1]

    run(site, test)


@pytest.mark.parametrize("raw", [b"", b"\xc1", encode(whole(1)), encode(hello())[:-1], b"\x00" * 2_000_000, "text"])
@pytest.mark.parametrize("greeted", [True, False])
def test_what_is_no_message_ends_the_conversation(site: Site, raw: bytes | str, greeted: bool) -> None:  # noqa: FBT001
    async def test(scene: Scene) -> None:
        async with connect(scene.url + PATH, ssl=site.host("a"), proxy=None, close_timeout=0.2) as socket:
            if greeted:
                await socket.send(encode(hello()))
                await socket.recv()
            with contextlib.suppress(Exception):
                await socket.send(raw)
            with pytest.raises(Exception, match=r"4000|1009|no close frame"):
                await socket.recv()
        if greeted:
            await scene.listener.until("a", "left")
        assert scene.listener.told == ([("a", hello(epoch=1)), ("a", "left")] if greeted else [])

    run(site, test)


def test_whoever_does_not_say_hello_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.controller.agents.GREETING_SECONDS", 0.2)

    async def test(scene: Scene) -> None:
        async with scene.agent("a") as channel:
            assert "does not say hello" in str(await ended(channel))

    run(site, test)


def test_only_the_leader_is_stayed_with(site: Site) -> None:
    async def test(scene: Scene) -> None:
        scene.gatekeeper.now_leads = Leader(leads=False, url="wss://c2:8744", term=8)
        async with scene.agent("a") as channel:
            channel.send(hello())
            assert await channel.receive() == Elsewhere(url="wss://c2:8744")
            assert (await ended(channel)).code == 4003
        assert scene.gatekeeper.epochs == {}  # it has begun no life here
        scene.gatekeeper.now_leads = Leader(leads=True, url="", term=9)
        async with scene.admitted("a") as (channel, welcome):
            assert welcome.term == 9
            scene.gatekeeper.now_leads = Leader(leads=False, url="", term=10)
            scene.agents.close_all("leads no more")
            assert await channel.receive() == Elsewhere(url="")
            assert "leads no more" in str(await ended(channel))

    run(site, test)


def test_an_agent_that_has_obeyed_a_later_leader_is_believed(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.agent("a") as channel:
            channel.send(hello(term=8))
            assert await channel.receive() == Elsewhere(url="")
            await ended(channel)
        assert scene.gatekeeper.outranked_by == [8]
        assert scene.listener.told == []

    run(site, test)


def test_who_is_revoked_is_cut_off_and_stays_out(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, _), scene.admitted("b"):
            scene.gatekeeper.revoked.add("a")
            scene.agents.revoke("a")
            assert scene.agents.connected() == {"b"}
            assert scene.agents.send("a", whole()) is None
            await ended(channel)
            async with scene.agent("a") as again:
                again.send(hello())
                gone = await ended(again)
                assert (gone.code, "revoked" in str(gone)) == (4001, True)

    run(site, test)


def test_a_certificate_is_renewed_while_connected(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, _):
            channel.send(Renew(csr=make_csr(new_key(), "b")))
            renewed = await channel.receive()
            assert isinstance(renewed, Renewed)
            scene.gatekeeper.revoked.add("a")
            channel.send(Renew(csr=make_csr(new_key(), "a")))
            assert "revoked" in str(await ended(channel))

    run(site, test)


def test_a_certificate_that_ends_ends_the_conversation(site: Site) -> None:
    async def test(scene: Scene) -> None:
        context = site.host("a", age=timedelta(hours=24) - timedelta(seconds=1.5), under="short")
        async with await dial(scene.url, context, timing=QUICK) as channel:
            channel.send(hello())
            assert isinstance(await channel.receive(), Welcome)
            assert "certificate has ended" in str(await ended(channel))

    run(site, test)


def test_a_database_that_is_away_puts_agents_off(site: Site) -> None:
    async def test(scene: Scene) -> None:
        scene.gatekeeper.down = True
        async with scene.agent("a") as channel:
            channel.send(hello())
            assert (await ended(channel)).code == 4004
        scene.gatekeeper.down = False
        async with scene.admitted("a"):
            pass

    run(site, test)


def test_one_host_cannot_take_all_the_room(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(scene.agent("a")) for _ in range(5)]
            gone = [await ended(channels[-1])]
            assert "more than 4 connections" in str(gone[0])
            channels[0].send(hello())
            assert isinstance(await channels[0].receive(), Welcome)
            async with scene.admitted("b"):
                pass

    run(site, test)


def test_an_agent_that_never_answers_is_not_sent_for_ever(site: Site) -> None:
    async def test(scene: Scene) -> None:
        async with scene.admitted("a") as (channel, _):
            assert [scene.agents.send("a", whole()) for _ in range(17)] == [*range(1, 17), None]
            for _ in range(16):
                await channel.receive()
            assert "owes answers" in str(await ended(channel))

    run(site, test)
