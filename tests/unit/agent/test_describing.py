"""An agent finds out what its host is made of: when that is wanted, again and again, and holding nobody up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from serai.agent import describing
from serai.agent.describing import Describer
from serai.datapath.attach import Attacher
from serai.datapath.features import features
from serai.inventory.facts import FactsError
from serai.model.host_facts import Cpu, Feature, HostFacts

FACTS = HostFacts(cpu=Cpu(arch="x86_64"), memory=1, nics=[], kernel="6", features=[], agent="1")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(describing, "RETRY_SECONDS", 0.01)


async def until(told: list[HostFacts], number: int) -> None:
    async with asyncio.timeout(10):
        while len(told) < number:  # noqa: ASYNC110 (what is waited for is no event)
            await asyncio.sleep(0.001)


def test_it_looks_again_also_after_nobody_has_answered() -> None:
    answers: list[HostFacts | Exception] = [FactsError("no"), FACTS, RuntimeError("a fault"), FACTS]
    threads: set[int] = set()

    def collect() -> HostFacts:
        threads.add(threading.get_ident())
        answer = answers.pop(0) if answers else FACTS
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def test() -> None:
        told: list[HostFacts] = []
        running = asyncio.create_task(Describer(collect, told.append, wanted=lambda: True).run())
        await until(told, 3)
        running.cancel()
        assert set(map(id, told)) == {id(FACTS)}
        assert not answers
        assert threading.get_ident() not in threads

    asyncio.run(test())


def test_nobody_looks_while_nobody_wants_to_know() -> None:
    async def test() -> None:
        told: list[HostFacts] = []
        asked: list[bool] = []

        def wanted() -> bool:
            asked.append(len(asked) >= 5)
            return asked[-1]

        running = asyncio.create_task(Describer(lambda: FACTS, told.append, wanted=wanted).run())
        await until(told, 1)
        running.cancel()
        assert asked[:6] == [False] * 5 + [True]

    asyncio.run(test())


def test_an_agent_that_ends_does_not_wait_for_libvirt() -> None:
    begun, answered = threading.Event(), threading.Event()

    def collect() -> HostFacts:
        begun.set()
        assert answered.wait(60)
        return FACTS

    async def test() -> None:
        running = asyncio.create_task(Describer(collect, lambda _: None, wanted=lambda: True).run())
        async with asyncio.timeout(10):
            while not begun.is_set():  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(test())  # which would wait for threads of the loop's own
    assert not answered.is_set()
    answered.set()


@pytest.mark.parametrize(("text", "found"), [("1\n", [Feature.JIT]), ("2\n", [Feature.JIT]), ("0\n", []), (None, [])])
def test_what_the_kernel_tells_of_machine_code(tmp_path: Path, text: str | None, found: list[Feature]) -> None:
    switch = tmp_path / "bpf_jit_enable"
    if text is not None:
        switch.write_text(text)
    older = Attacher(tmp_path, {}, use_tcx=False)
    assert list(features(older, switch)) == found
