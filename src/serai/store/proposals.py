"""Changes that wait for a second person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from serai.model.key import Key
from serai.store import times
from serai.store.errors import ProposalError
from serai.store.ledger import Act, Ledger, whole
from serai.store.records import Entry, Proposal, State
from serai.store.schema import PROPOSALS


class Proposals:
    """What waits, and what became of it."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep it there."""
        self._ledger = ledger

    @whole
    async def add(
        self,
        *,
        digest: str,
        base: int,
        by: str,
        message: str,
        expires: datetime,
        needs: int,
        writes: Mapping[Key, str | None],
        confirm_seconds: int | None,
        entry: Entry,
        now: datetime,
    ) -> Proposal:
        """Take one in: its author stands behind it.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            values = {
                "digest": digest, "base": base, "by": by, "message": message, "created": times.write(now),
                "expires": times.write(expires), "state": "open", "needs": needs, "approvals": json.dumps([by]),
                "writes": json.dumps([[*key, body] for key, body in sorted(writes.items())]),
                "confirm_seconds": confirm_seconds,
            }  # fmt: skip
            row = await act.connection.execute(sa.insert(PROPOSALS).values(**values).returning(PROPOSALS.c.id))
            number = int(row.scalar_one())
            act.detail["proposal"] = number
            return await _found(act, number)

    @whole
    async def one(self, number: int) -> Proposal | None:
        """Return a proposal; None: there is none of that number."""
        async with self._ledger.reading() as connection:
            row = (await connection.execute(sa.select(PROPOSALS).where(PROPOSALS.c.id == number))).first()
            return _read(row) if row else None

    @whole
    async def latest(self, *, limit: int) -> list[Proposal]:
        """Return proposals, the latest first."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(PROPOSALS).order_by(PROPOSALS.c.id.desc()).limit(limit))
            return [_read(row) for row in rows]

    @whole
    async def approve(self, number: int, person: str, digest: str, entry: Entry, now: datetime) -> Proposal:
        """Let one more person stand behind a proposal.

        Raises:
            ProposalError: it is not open, has another digest, or that person stands behind it already.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            found = await _open(act, number, digest, now)
            await act.connection.execute(
                sa.update(PROPOSALS).where(PROPOSALS.c.id == number).values(approvals=_with(found, person))
            )
            return await _found(act, number)

    async def close(
        self, number: int, state: State, entry: Entry, now: datetime, *, digest: str | None = None
    ) -> Proposal:
        """End a proposal.

        Raises:
            ProposalError: it is not open, or has another digest.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await _open(act, number, digest, now)
            await act.connection.execute(sa.update(PROPOSALS).where(PROPOSALS.c.id == number).values(state=state))
            return await _found(act, number)


async def _found(act: Act, number: int) -> Proposal:
    asked = sa.select(PROPOSALS).where(PROPOSALS.c.id == number).with_for_update()
    row = (await act.connection.execute(asked)).first()
    if row is None:
        raise ProposalError(f"there is no proposal {number}")
    return _read(row)


async def carry_out(act: Act, number: int, person: str, now: datetime) -> None:
    """Mark a proposal as applied, with the last person who stands behind it.

    Raises:
        ProposalError: it is not open, or that person stands behind it already.
    """
    found = await _found(act, number)
    require_open(found, None, now)
    await act.connection.execute(
        sa.update(PROPOSALS).where(PROPOSALS.c.id == number).values(
            state="applied", approvals=_with(found, person)
        )
    )  # fmt: skip


def require_open(proposal: Proposal, digest: str | None, now: datetime) -> None:
    """Let people vote on a proposal as long as they may. ``digest``: of what they have looked at.

    Raises:
        ProposalError: it is over, or is something else.
    """
    if proposal.state == "open" and proposal.expires <= now:
        raise ProposalError(f"proposal {proposal.id} expired at {proposal.expires:%F %T} UTC: make it anew")
    if proposal.state != "open":
        raise ProposalError(f"proposal {proposal.id} is {proposal.state}: nothing can become of it any more")
    if digest is not None and digest != proposal.digest:
        raise ProposalError(f"proposal {proposal.id} is not what was looked at: look at it again")


async def _open(act: Act, number: int, digest: str | None, now: datetime) -> Proposal:
    found = await _found(act, number)
    require_open(found, digest, now)
    return found


def _with(proposal: Proposal, person: str) -> str:
    if person in proposal.approvals:
        raise ProposalError(f"{person} stands behind proposal {proposal.id} already: somebody else must")
    return json.dumps([*proposal.approvals, person])


def _read(row: sa.Row[tuple[object, ...]]) -> Proposal:
    told = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for a row by column)
    return Proposal(
        id=told["id"], digest=told["digest"], base=told["base"], by=told["by"], message=told["message"],
        created=times.read(told["created"]), expires=times.read(told["expires"]), state=told["state"],
        needs=told["needs"], approvals=tuple(json.loads(told["approvals"])),
        writes={Key(kind, path): body for kind, path, body in json.loads(told["writes"])},
        confirm_seconds=told["confirm_seconds"],
    )  # fmt: skip
