"""Which hosts fit which pool, by what they have told: over a real link, and while they are away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from test_discretion import ADMIN, EVE, change, free_port, resource, running

from serai.agent.join import join
from serai.agent.link.runtime import Link, LinkConfig
from serai.controller.config import Config
from serai.controller.errors import ForbiddenError, NotFoundError
from serai.controller.main import Running, controller
from serai.controller.traffic.config import FlowSettings
from serai.lab.simulated import Pool, SimulatedHost
from serai.model.host_facts import Cpu, HostFacts, Nic
from serai.store.records import ToldFacts
from serai.wire import api
from serai.wire.placementapi import PoolMismatch

FACTS = HostFacts(
    cpu=Cpu(arch="x86_64", vendor="Intel", model="Broadwell", family=6, number=79, features=["aes", "avx", "sha"]),
    memory=64000, nics=[Nic(name="ens1", speed=25000)], kernel="6.8.0", features=["tcx"], agent="0.1.0",
)  # fmt: skip
LESS = msgspec.structs.replace(FACTS, cpu=msgspec.structs.replace(FACTS.cpu, features=["aes", "avx", "gfni"]))
WORLD = "---\n".join([
    *(resource("Host", name) for name in ("b", "c")),
    resource("Pool", "west", spec="{hosts: [a, b], profile: strict}"),
    resource("Pool", "east", spec="{hosts: [c]}"),
])  # fmt: skip
LONG_AGO = datetime(2025, 1, 2, tzinfo=UTC)


def told(host: str, facts: HostFacts) -> ToldFacts:
    return ToldFacts(host=host, told=LONG_AGO, facts=facts)


def test_what_hosts_have_told_is_compared(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as at:
            await at.service.apply(ADMIN, change(WORLD))
            await at.store.hosts.put_facts([told("a", FACTS), told("b", LESS), told("d", LESS)])
            found = await at.service.pools(ADMIN)
            east, west = found.pools
            assert (east.name, east.profile, east.baseline, east.cpus) == ("east", "compatible", [], [])
            [untold] = east.hosts
            assert (untold.host, untold.told, untold.connected) == ("c", None, False)
            assert untold.mismatches == [PoolMismatch(about="members", message="has never told what it is")]
            assert [(each.host, each.told, len(each.mismatches)) for each in west.hosts] == [
                ("a", LONG_AGO, 1), ("b", LONG_AGO, 1),
            ]  # fmt: skip
            assert west.baseline == ["aes", "avx"]
            assert west.cpus == [FACTS.cpu, LESS.cpu]

            one = await at.service.admission(ADMIN, "west", "d")
            assert (one.fits, one.member, one.connected, one.told) == (False, False, False, LONG_AGO)
            assert [each.message for each in one.mismatches] == [
                "has other CPU features than a: it lacks sha and it has gfni beyond"
            ]
            assert (one.baseline, one.unused) == (["aes", "avx"], ["gfni"])
            assert [(each.host, each.told) for each in one.absent] == [("a", LONG_AGO), ("b", LONG_AGO)]
            other = await at.service.admission(ADMIN, "east", "a")
            assert [each.about for each in other.mismatches] == ["pool", "members"]

            for name, host, why in (("wset", "a", "did you mean 'west'"), ("west", "e", "has never told")):
                with pytest.raises(NotFoundError, match=why):
                    await at.service.admission(ADMIN, name, host)
            for ask in (at.service.pools(EVE), at.service.admission(EVE, "west", "a")):
                with pytest.raises(ForbiddenError):
                    await ask

    asyncio.run(test())


@contextlib.asynccontextmanager
async def reachable(directory: Path) -> AsyncIterator[Running]:
    """Run a controller that agents can reach, and that leads."""
    config = Config(
        database=f"sqlite:///{directory}/serai.db", keys=directory / "keys", names=["localhost"], address="127.0.0.1",
        port=free_port(), agents_port=free_port(), client=directory / "client.toml", flows=FlowSettings(store="off"),
    )  # fmt: skip
    async with controller(config) as made, asyncio.timeout(60):
        while made.shard.term is None:  # noqa: ASYNC110 (what is waited for is no event)
            await asyncio.sleep(0.02)
        yield made


@contextlib.asynccontextmanager
async def linked(made: Running, state: Path, host: SimulatedHost) -> AsyncIterator[None]:
    token = await made.service.join_token(ADMIN, api.JoinTokenRequest(host="a"))
    await asyncio.to_thread(join, made.config.url, token.token, state, "a")
    link = Link(host, LinkConfig(host="a", state=state, controllers=[made.config.url], agents=[made.config.agents_url]))
    task = asyncio.create_task(link.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_known(made: Running, features: list[str]) -> None:
    async with asyncio.timeout(20):
        while features not in [list(each.baseline) for each in (await made.service.pools(ADMIN)).pools]:  # noqa: ASYNC110 (what is waited for is no event)
            await asyncio.sleep(0.02)


def test_a_host_tells_over_its_link_and_is_remembered_when_it_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        before = datetime.now(UTC)
        host = SimulatedHost("a", {}, Pool())
        async with reachable(tmp_path) as at:
            text = f"{resource('Host', 'a')}---\n{resource('Pool', 'west', spec='{hosts: [a]}')}"
            await at.service.apply(ADMIN, change(text))
            async with linked(at, tmp_path / "state", host):
                await until_known(at, [])
                host.describe(LESS)
                await until_known(at, ["aes", "avx", "gfni"])
                host.describe(FACTS)
                await until_known(at, ["aes", "avx", "sha"])
                one = await at.service.admission(ADMIN, "west", "a")
                assert (one.fits, one.member, one.connected) == (True, True, True)
                assert before <= one.told <= datetime.now(UTC)
                async with asyncio.timeout(20):
                    while [each.facts for each in await at.store.hosts.facts()] != [FACTS]:  # noqa: ASYNC110 (what is waited for is no event)
                        await asyncio.sleep(0.02)
        async with reachable(tmp_path) as later:
            one = await later.service.admission(ADMIN, "west", "a")
            assert (one.fits, one.connected) == (True, False)
            assert one.told - before < timedelta(minutes=1)

    asyncio.run(test())
