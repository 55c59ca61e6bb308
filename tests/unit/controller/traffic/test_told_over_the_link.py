"""From an agent's spool over its link into the engine: real files, real TLS, a real controller that is killed in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from test_traffic_kept import ADMIN, batch, moment, row, running, until

from serai.agent.join import join
from serai.agent.link.runtime import Link, LinkConfig
from serai.controller.main import Running
from serai.controller.traffic.asking import Span
from serai.lab.simulated import Pool, SimulatedHost
from serai.wire import api, flowapi
from serai.wire.remote import Records


class Batches:
    """What a host has to tell (``BatchPort``)."""

    def __init__(self) -> None:
        self.left: list[Records] = []
        self._news = asyncio.Event()

    def add(self, *batches: Records) -> None:
        self.left += batches
        self._news.set()

    def after(self, before: tuple[str, int] | None) -> Records | None:
        return next((each for each in self.left if before is None or each.number > before[1]), None)

    def taken(self, spool: str, number: int) -> None:
        self.left = [each for each in self.left if each.spool != spool or each.number > number]

    async def wait_ready(self) -> None:
        await self._news.wait()
        self._news.clear()


@contextlib.asynccontextmanager
async def linked(made: Running, state: Path, batches: Batches) -> AsyncIterator[None]:
    """Keep the link of host ``a``, which joins where it has not yet."""
    made.traffic.serve(made.agents.send)
    if not (state / "identity").exists():
        token = await made.service.join_token(ADMIN, api.JoinTokenRequest(host="a"))
        await asyncio.to_thread(join, made.config.url, token.token, state, "a")
    told = LinkConfig(host="a", state=state, controllers=[made.config.url], agents=[made.config.agents_url])
    task = asyncio.create_task(Link(SimulatedHost("a", {}, Pool()), told, batches).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_there(made: Running) -> flowapi.FlowPage:
    await until(lambda: made.traffic.intake.settled, "it is in the engine")
    end = datetime.now(UTC) + timedelta(seconds=1)
    return await made.service.flows(ADMIN, Span(since=end - timedelta(hours=1), until=end), limit=1000, after=None)


def test_batches_go_on_until_all_are_taken_and_none_is_told_twice(tmp_path: Path) -> None:
    async def test() -> None:
        batches = Batches()
        state = tmp_path / "state"
        async with running(tmp_path) as (made, _), linked(made, state, batches):
            batches.add(*(batch(number, [row(1, 2)] * 3, at=moment() + number) for number in range(1, 21)))
            await until(lambda: not batches.left, "all are taken")
            page = await all_there(made)
            assert len(page.records) == 60
            assert {each.host for each in page.records} == {"a"}  # by its certificate
        batches.add(*(batch(number, [row(2, 1)], at=moment() + number) for number in range(21, 31)))
        async with running(tmp_path) as (made, _), linked(made, state, batches):
            await until(lambda: not batches.left, "the next controller takes the rest")
            page = await all_there(made)
            assert len(page.records) == 70
            assert page.completeness.records == 70

    asyncio.run(test())


def test_what_finds_no_room_comes_again_when_there_is(tmp_path: Path) -> None:
    async def test() -> None:
        batches = Batches()
        async with running(tmp_path) as (made, _), linked(made, tmp_path / "state", batches):
            await until(lambda: made.traffic.ready, "it is ready")
            journal = made.traffic.intake._journal
            most, journal._most_bytes = journal._most_bytes, 0
            batches.add(*(batch(number, [row(1, 2)], at=moment() + number) for number in range(1, 11)))
            await asyncio.sleep(3)
            assert len(batches.left) == 10
            journal._most_bytes = most
            await until(lambda: not batches.left, "they come again")
            assert len((await all_there(made)).records) == 10

    asyncio.run(test())
