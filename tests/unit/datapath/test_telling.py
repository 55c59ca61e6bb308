"""When a host tells of traffic, and when it keeps still."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_host import SECOND, FakeHost, Truth, played

from serai.agent import spool
from serai.agent.telling import Teller, TellingConfig
from serai.model.flow_record import FLOW_COLUMNS
from serai.wire.records import decode

VNIC = 1


@dataclasses.dataclass
class Scene:
    """A host whose gates are read again and again, in short intervals."""

    host: FakeHost
    directory: Path
    joined: bool = False
    most_bytes: int = 1 << 20

    def teller(self) -> Teller:
        config = TellingConfig(directory=self.directory, seconds=0.02, most_bytes=self.most_bytes, boot="b")
        made = Teller(self.host, config, wanted=lambda: self.joined, ruleset=lambda: None)  # type: ignore[arg-type]
        self.host.teller = made
        return made

    def run(self, work: Callable[[Teller], object]) -> None:
        """Run a teller, and ``work`` beside it, a generator that says what it waits for."""

        async def both() -> None:
            teller = self.teller()
            teller.begin()
            running = asyncio.create_task(teller.run())
            async with asyncio.timeout(20):
                for awaited in work(teller):  # type: ignore[attr-defined]
                    while not awaited():  # noqa: ASYNC110  (what is waited for has no event)
                        await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(both())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    now = [1000 * SECOND]

    def clock() -> int:
        now[0] += 1000
        return now[0]

    with played(monkeypatch, clock, list):
        host = FakeHost(tmp_path / "other", clock, Truth())
        host.metering.on = False
        host.metering._diary = None
        host.guard(VNIC)
        yield Scene(host, tmp_path / "records")


def packets(teller: Teller) -> int:
    total, last = 0, None
    while (batch := teller.after(last)) is not None:
        last = batch.spool, batch.number
        total += sum(decode(batch.flows, FLOW_COLUMNS, most_rows=4096, most_bytes=1 << 22)["packets_out"].to_pylist())
    return total


def left(teller: Teller) -> int:
    return sum(int(np.sum(rows["packets_out"])) for rows in teller._left.flows) if teller._left else 0


def test_a_host_of_no_site_keeps_nothing(scene: Scene) -> None:
    def work(teller: Teller) -> Iterator[Callable[[], bool]]:
        scene.host.packet(VNIC, 1, 0, 5)
        looked: list[int] = []
        real = scene.host.flows._take_over
        scene.host.flows._take_over = lambda *rest: (looked.append(1), real(*rest))[1]  # type: ignore[method-assign]
        yield lambda: len(looked) > 3
        assert teller.status() is None
        assert teller.after(None) is None

    scene.run(work)
    assert not scene.directory.exists()


def test_a_host_tells_from_when_it_joins(scene: Scene) -> None:
    def work(teller: Teller) -> Iterator[Callable[[], bool]]:
        scene.host.packet(VNIC, 1, 0, 5)
        scene.joined = True
        yield lambda: teller.status() is not None
        scene.host.packet(VNIC, 1, 0, 7)
        yield lambda: packets(teller) == 7

    scene.run(work)


def test_who_waits_hears_of_every_interval(scene: Scene) -> None:
    scene.joined = True
    numbers = []

    def work(teller: Teller) -> Iterator[Callable[[], bool]]:
        async def listen() -> None:
            while True:
                await teller.wait_ready()
                numbers.append(teller._spool.number)

        listening = asyncio.get_running_loop().create_task(listen())
        yield lambda: len(numbers) >= 4
        listening.cancel()

    scene.run(work)
    assert numbers == sorted(set(numbers))


def test_another_site_hears_nothing_of_what_was(scene: Scene) -> None:
    scene.joined = True

    def work(teller: Teller) -> Iterator[Callable[[], bool]]:
        scene.host.packet(VNIC, 1, 0, 5)
        yield lambda: packets(teller) == 5
        before = teller._spool.name
        scene.host.packet(VNIC, 1, 0, 6)
        spool.forget(scene.directory)
        yield lambda: teller._spool.name != before
        scene.host.packet(VNIC, 1, 0, 7)
        yield lambda: packets(teller) >= 7
        assert packets(teller) == 7

    scene.run(work)


def test_a_full_disk_delays_and_loses_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.joined = True

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def work(teller: Teller) -> Iterator[Callable[[], bool]]:
        yield lambda: teller.status() is not None
        with monkeypatch.context() as full:
            full.setattr("serai.datapath.frames.write", refuse)
            scene.host.packet(VNIC, 1, 0, 5)
            yield lambda: (status := teller.status()) is not None and "No space" in status.trouble
            scene.host.packet(VNIC, 1, 0, 6)
            yield lambda: left(teller) == 11
        yield lambda: packets(teller) == 11
        status = teller.status()
        assert status is not None
        assert (status.trouble, status.lost) == ("", 0)

    scene.run(work)
