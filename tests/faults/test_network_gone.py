"""The network between a controller and one of its hosts goes, or is bad: the others do not notice, and it is made up for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from sites import Site, digest, site

from blackhole import Mode, Proxy, proxy


async def _stand_in(at: Site, ready: list[Proxy]) -> None:
    async with proxy(at.agents_port) as between:
        ready.append(between)
        await asyncio.Event().wait()


def behind_a_proxy(at: Site) -> Proxy:
    """Connect both hosts, a by way of a proxy."""
    ready: list[Proxy] = []
    at.run(_stand_in(at, ready))
    at.until(lambda: bool(ready), "the proxy is there")
    at.connect("a", by={"a": [f"wss://localhost:{ready[0].port}"]})
    at.connect("b")
    at.until(lambda: at.stand(80), "both hosts hold the first rulesets")
    return ready[0]


def turn(at: Site, between: Proxy, mode: Mode) -> None:
    async def turned() -> None:
        between.turn(mode)

    at.run(turned()).result(5)


def holds(at: Site, name: str, port: int) -> bool:
    return at.hosts[name].held()[0] == bytes.fromhex(digest(name, port))


def test_a_black_hole_is_noticed_and_holds_up_nobody_else(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        between = behind_a_proxy(at)
        turn(at, between, Mode.HOLE)
        began = time.monotonic()
        assert at.apply(81) == 2
        assert at.until(lambda: holds(at, "b", 81), "the other host holds it") < 5
        assert holds(at, "a", 80)
        at.until(lambda: not at.status()["a"].connected, "the controller notices")
        assert time.monotonic() - began < 20
        assert at.status()["a"].behind
        assert not at.status()["b"].behind
        turn(at, between, Mode.PASS)
        at.until(lambda: at.stand(81), "it is made up for")


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_message_is_cut_in_the_middle(tmp_path: Path, way: str) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        between = behind_a_proxy(at)

        async def cut() -> None:
            between.cut_after(40, way)

        at.run(cut()).result(5)
        assert at.apply(81) == 2
        at.until(lambda: at.stand(81), "it is made up for")
        assert between.connections > 1
        assert set(at.hosts["a"].ever) == {digest("a", 80), digest("a", 81)}


def test_a_slow_line_is_only_slow(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        between = behind_a_proxy(at)
        between.rate = 2000
        turn(at, between, Mode.SLOW)
        assert at.apply(81) == 2
        assert at.until(lambda: holds(at, "b", 81), "the other host holds it") < 5
        at.until(lambda: at.stand(81), "the host behind the slow line holds it")
        assert between.connections == 1


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_clock_that_is_an_hour_off_is_told_and_nothing_else(tmp_path: Path, skew: float) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        at.connect("a", clock=lambda: time.time() + skew)
        at.connect("b")
        at.until(lambda: at.stand(80), "both hosts hold the first rulesets")
        status = at.agents["a"].link.status()
        assert status is not None
        assert status.clock_skew_seconds == pytest.approx(-skew, abs=60)
        assert "clock" in status.trouble
