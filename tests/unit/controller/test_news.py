"""Whoever waits for something sees it as soon as it is told, or when others have done it untold; what leads writes down until it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serai.controller import written as written_module
from serai.controller.news import News
from serai.controller.written import written
from serai.store.errors import DeposedError, MoveError, UnavailableError


class Watched:
    """Counts how often it is looked at; what is told while somebody looks is not missed."""

    def __init__(self) -> None:
        self.news, self.value, self.looks = News(), 0, 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def look(self) -> int:
        self.looks += 1
        found = self.value
        self.meanwhile()
        await asyncio.sleep(0)
        return found

    def put(self, value: int) -> None:
        self.value = value
        self.news.tell()

    def until(self, value: int, *, seconds: float = 20, every: float = 20) -> Awaitable[int]:
        return self.news.until(self.look, lambda found: found >= value, seconds=seconds, every=every)


def play(test: Callable[[Watched], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test(Watched())

    asyncio.run(limited())


def test_what_is_so_already_is_not_waited_for() -> None:
    async def test(it: Watched) -> None:
        assert await it.until(0) == 0
        assert it.looks == 1

    play(test)


def test_each_news_is_looked_at_by_all_who_wait() -> None:
    async def test(it: Watched) -> None:
        waiting = [asyncio.ensure_future(it.until(value)) for value in (1, 2)]
        for value in (1, 2):
            await asyncio.sleep(0.01)
            it.put(value)
        assert await asyncio.gather(*waiting) == [1, 2]
        assert it.looks == 2 + 3

    play(test)


def test_what_is_told_during_a_look_is_not_missed() -> None:
    async def test(it: Watched) -> None:
        def once() -> None:
            it.meanwhile = lambda: None
            it.put(1)

        it.meanwhile = once
        assert await it.until(1) == 1
        assert it.looks == 2

    play(test)


def test_what_nobody_tells_is_seen_all_the_same() -> None:
    async def test(it: Watched) -> None:
        asyncio.get_running_loop().call_later(0.02, setattr, it, "value", 1)
        assert await it.until(1, every=0.01) == 1

    play(test)


def test_when_the_time_is_over_the_last_that_was_found_is_returned() -> None:
    async def test(it: Watched) -> None:
        assert await it.until(1, seconds=0.02) == 0
        assert await it.until(1, seconds=-1) == 0

    play(test)


@pytest.mark.parametrize(
    ("errors", "ends"),
    [([], None), ([UnavailableError("no"), UnavailableError("no")], None), ([UnavailableError("no"), MoveError("over")], None),
     ([DeposedError("another")], DeposedError), ([KeyError("a fault")], KeyError)],
)  # fmt: skip
def test_it_is_written_as_often_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], ends: type[Exception] | None
) -> None:
    monkeypatch.setattr(written_module, "_AGAIN_SECONDS", 0)
    left = list(errors)

    async def write() -> None:
        if left:
            raise left.pop(0)

    if ends is None:
        asyncio.run(written(write, what="move", over=MoveError))
    else:
        with pytest.raises(ends):
            asyncio.run(written(write, what="move", over=MoveError))
    assert left == []
