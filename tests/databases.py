"""A store to play with, on whichever engine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serai.model.key import Key
from serai.store.records import Commit, Entry
from serai.store.store import Store
from serai.wire.keys import AuditSigner

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SIGNER = AuditSigner(origin="serai.test/log", key=Ed25519PrivateKey.from_private_bytes(b"\7" * 32))
STRANGER = AuditSigner(origin="serai.test/log", key=Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))


@asynccontextmanager
async def opened(url: str, *, signer: AuditSigner = SIGNER) -> AsyncIterator[Store]:
    store = await Store.open(url, signer=signer)
    try:
        yield store
    finally:
        await store.close()


def play(url: str, body: Callable[[Store], Awaitable[None]]) -> None:
    """Do something with a store of its own event loop."""

    async def playing() -> None:
        async with opened(url) as store:
            await body(store)

    asyncio.run(playing())


def entry(
    verb: str = "apply", *, who: str = "ada", scope: str = "/", outcome: Literal["done", "refused", "failed"] = "done",
    **detail: Any,
) -> Entry:  # fmt: skip
    return Entry(who=who, verb=verb, object="something", scope=scope, outcome=outcome, detail=detail)


COMMIT = Commit(head=0, by="ada", message="", digest="d" * 64, writes={}, audit=entry())


def change(head: int, writes: Mapping[str, str | None], **more: Any) -> Commit:
    """Return a change of policies, given by their paths."""
    keyed = {Key("Policy", path): body for path, body in writes.items()}
    return dataclasses.replace(COMMIT, head=head, writes=keyed, **more)
