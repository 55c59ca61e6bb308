"""What hosts hold is compared with the log, and they are told how it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from credentials import Site
from databases import NOW, entry, opened
from serai.controller import witnesses as module
from serai.controller.witnesses import Witnesses
from serai.model.checkpoint import Checkpoint
from serai.store.store import Store
from serai.wire.keys import AuditSigner
from serai.wire.remote import FromController, Witness


class Endpoint:
    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def connected(self) -> Collection[str]:
        return [f"host-{at}" for at in range(100)]

    def send(self, host: str, message: FromController) -> int | None:
        assert isinstance(message, Witness)
        self.told[host] = message.checkpoint
        return 0


async def settle(witnesses: Witnesses) -> None:
    async with asyncio.timeout(10):
        while not witnesses._waiting.empty():  # noqa: ASYNC110 (a queue has no event for it)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)


def run(tmp_path: Path, body: object) -> None:
    async def test() -> None:
        signer = Site.make(tmp_path).keys.audit_signer()
        async with opened(f"sqlite:///{tmp_path}/serai.db", signer=signer) as store:
            for _ in range(3):
                await store.people.record(entry(), NOW)
            witnesses = Witnesses(store, signer)
            task = asyncio.create_task(witnesses.run())
            try:
                await body(witnesses, store, signer)  # type: ignore[operator]
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())


def test_what_fits_is_well_and_what_is_ahead_is_told(tmp_path: Path) -> None:
    async def body(witnesses: Witnesses, store: Store, signer: AuditSigner) -> None:
        witnesses.told("a", await store.audit.checkpoint())
        witnesses.told("b", "")
        await settle(witnesses)
        assert witnesses.trouble == ""
        witnesses.told("a", Checkpoint(origin=signer.origin, size=9, root=b"r" * 32).signed(signer))
        await settle(witnesses)
        assert "there were 9" in witnesses.trouble

    run(tmp_path, body)


def test_a_host_that_lies_accuses_nobody(tmp_path: Path) -> None:
    async def body(witnesses: Witnesses, store: Store, signer: AuditSigner) -> None:
        del store
        stranger = Site.make(tmp_path / "stranger").keys.audit_signer(signer.origin)
        witnesses.told("a", Checkpoint(origin=signer.origin, size=9, root=b"r" * 32).signed(stranger))
        witnesses.told("a", "nonsense")
        await settle(witnesses)
        assert witnesses.trouble == ""

    run(tmp_path, body)


def test_every_host_is_told_in_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLD_SECONDS", 0.3)

    async def body(witnesses: Witnesses, store: Store, signer: AuditSigner) -> None:
        del signer
        endpoint = Endpoint()
        witnesses.serve(endpoint)
        async with asyncio.timeout(10):
            while len(endpoint.told) < 100:  # noqa: ASYNC110 (nor has a dictionary)
                await asyncio.sleep(0.02)
        assert set(endpoint.told.values()) == {await store.audit.checkpoint()}

    run(tmp_path, body)
