"""Changes of resources: planned, made, confirmed, taken back, agreed to; each by somebody who may."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from serai.access.approval import marks, may_approve, needed
from serai.access.change import Change, may_change
from serai.access.decide import Caller, Refused
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.drafts import AsAt, Bodily, Draft, Drafter, Wish, Written, common_scope
from serai.controller.errors import ForbiddenError, NotFoundError, PendingError, ServiceError, StaleError
from serai.controller.requests import invalid, scope_of
from serai.model.change import Step
from serai.model.definitions import DefinitionErrors
from serai.model.tenancy import ROOT, Scope
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.fit import FitError
from serai.store.errors import BehindError
from serai.store.proposals import require_open
from serai.store.records import Commit, Entry, Proposal
from serai.store.store import Store
from serai.wire import api

_log = structlog.get_logger(__name__)

SHORTEST_CONFIRM: Final = 5
"""Seconds that a person has at least to confirm a change."""
LONGEST_CONFIRM: Final = 86400
PROPOSAL_LIFE: Final = timedelta(hours=24)
"""How long a change waits for a second person."""
_MARKED: Final = frozenset({"Site", "Tenant"})
"""What can say how many people must stand behind a change."""
_ITSELF: Final = "serai"
"""Who takes back what nobody has confirmed."""

Preview = Callable[[int, World, Update], Awaitable[Sequence[str]]]
"""Which hosts would be sent another ruleset if the resources of a revision were changed so, as far as that is known here."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A wish, and all else that matters when it is carried out."""

    wish: Wish
    verb: str
    message: str
    confirm_seconds: int | None = None
    expect: str | None = None
    """The digest that the change must have."""
    reverts: int | None = None
    """The revision, still unconfirmed, that it takes back."""
    proposal: Proposal | None = None
    """What a second person has agreed to."""


class Changes:
    """What people do to resources."""

    def __init__(self, store: Store, current: Current, *, preview: Preview, clock: Callable[[], datetime]) -> None:
        """``preview`` says what a change would mean for hosts, and refuses what they have no room for."""
        self._store, self._current, self._preview, self._clock = store, current, preview, clock
        self._drafter = Drafter(current)
        self.trouble = ""
        """What was not confirmed and cannot be taken back; empty while there is nothing of the kind."""

    # Plan and apply

    async def plan(self, who: Caller, request: api.ChangeRequest) -> tuple[Draft, Sequence[str], int]:
        """Return what a change would do, to which hosts, and how many people must stand behind it.

        Raises:
            Exception: as for ``apply``.
        """
        draft = await self._drafter.draft(who, Written(request, self._store, self._current))
        return draft, await self._preview(draft.edition.revision, draft.catalog.world, draft.update), _approvals(draft)

    async def apply(self, who: Caller, request: api.ChangeRequest) -> api.Applied | api.Proposed:
        """Make a change, or propose it where a second person must agree.

        Raises:
            DefinitionErrors: what is written is wrong, or contradicts what is in force.
            NotFoundError: what is to be deleted is not there.
            StaleError: somebody else changed it since; or it is another change than the one that was planned.
            PendingError: an earlier change there waits to be confirmed.
            ForbiddenError: this person may not.
            FitError: a host has no room for it.
            InvalidError: the request itself makes no sense.
        """
        order = _Order(
            wish=Written(request, self._store, self._current), verb="apply", message=request.message,
            confirm_seconds=request.confirm_seconds, expect=request.expect,
        )  # fmt: skip
        return await self._make(who, order)

    async def roll_back(self, who: Caller, request: api.RollbackRequest) -> api.Applied | api.Proposed:
        """Make everything, or everything in a scope, as it was at a revision.

        To take back the one change that waits to be confirmed needs nobody else's consent.

        Raises:
            Exception: as for ``apply``.
        """
        scope = ROOT if request.scope is None else scope_of("scope", request.scope)
        order = _Order(
            wish=AsAt(request.to, scope, self._store), verb="roll back", confirm_seconds=request.confirm_seconds,
            message=request.message or f"as at revision {request.to}", reverts=await self._undone_by(request.to),
        )  # fmt: skip
        return await self._make(who, order)

    async def _make(self, who: Caller | None, order: _Order) -> api.Applied | api.Proposed:
        confirm_by = self._deadline(order.confirm_seconds)
        while True:
            draft = await self._drafter.draft(who, order.wish)
            if order.expect not in {None, draft.digest}:
                raise _stale()
            if not draft.steps and order.reverts is None:
                return api.Applied(revision=draft.edition.revision, steps=[])
            await self._require_no_pending(draft.scope, but=order.reverts)
            hosts = await self._preview(draft.edition.revision, draft.catalog.world, draft.update)
            if order.reverts is None and order.proposal is None and (needs := _approvals(draft)) > 1:
                return await self._propose(who, draft, order, needs)
            name, proposal = who.name if who else _ITSELF, order.proposal
            commit = Commit(
                head=draft.edition.revision, by=proposal.by if proposal else name, message=order.message,
                digest=draft.digest, writes=draft.writes, confirm_by=confirm_by, reverts=order.reverts,
                proposal=proposal.id if proposal else None, audit=_entry(name, order.verb, draft, order.message),
            )  # fmt: skip
            try:
                number = await self._store.revisions.commit(commit, self._clock())
            except BehindError:  # somebody else was first: look at all of it again
                continue
            await self._current.catch_up()
            return api.Applied(revision=number, steps=told(draft.steps), hosts=hosts, confirm_by=confirm_by)

    def _deadline(self, confirm_seconds: int | None) -> datetime | None:
        if confirm_seconds is None:
            return None
        if not SHORTEST_CONFIRM <= confirm_seconds <= LONGEST_CONFIRM:
            raise invalid(
                "confirm_seconds", f"a change can wait {SHORTEST_CONFIRM} to {LONGEST_CONFIRM} seconds to be confirmed"
            )
        return self._clock() + timedelta(seconds=confirm_seconds)

    # What waits to be confirmed

    async def _require_no_pending(self, scope: Scope, but: int | None) -> None:
        for revision in await self._store.revisions.unconfirmed():
            theirs = common_scope((await self._store.revisions.one(revision.number)).writes)
            if revision.number != but and _meet(theirs, scope):
                raise PendingError(
                    f"revision {revision.number} of {revision.by} waits until {revision.confirm_by:%H:%M:%S} UTC to be"
                    " confirmed: confirm it, or roll it back, before anything else changes there"
                )

    async def confirm(self, who: Caller, number: int) -> None:
        """Let a revision stay.

        Raises:
            NotFoundError: it does not wait for that.
            ForbiddenError: this person may not.
        """
        edition = await self._current.catch_up()
        if number not in {revision.number for revision in await self._store.revisions.unconfirmed()}:
            raise NotFoundError(f"revision {number} does not wait to be confirmed")
        writes = (await self._store.revisions.one(number)).writes
        there = (edition.catalog.get(key) for key in writes)
        changes = [Change(before=None, after=definition.resource) for definition in there if definition]
        if isinstance(verdict := may_change(who, changes, Verb.CONFIRM), Refused):
            raise ForbiddenError(verdict.why)
        entry = Entry(
            who=who.name,
            verb="confirm",
            object=f"revision {number}",
            scope=common_scope(writes),
            outcome="done",
            detail={},
        )
        await self._store.revisions.confirm(number, entry, self._clock())

    async def take_back_overdue(self) -> None:
        """Take back what nobody has confirmed in time.

        Raises:
            StoreError: the database does not answer; it is for the next time.
        """
        now = self._clock()
        for revision in await self._store.revisions.unconfirmed():
            if revision.confirm_by is not None and revision.confirm_by <= now:
                number = revision.number
                was = await self._store.revisions.at(number - 1)
                wish = Bodily({key: was.get(key) for key in (await self._store.revisions.one(number)).writes})
                message = f"revision {number} was not confirmed in time"
                try:
                    await self._make(None, _Order(wish=wish, verb="roll back", message=message, reverts=number))
                except (DefinitionErrors, FitError, ServiceError) as error:
                    trouble = f"{message}, and cannot be taken back as things stand: {error}"
                    if trouble != self.trouble:
                        _log.error("cannot take back what nobody has confirmed", revision=number, error=str(error))
                    self.trouble = trouble
                else:
                    self.trouble = ""
                    _log.warning("rolled back: nobody confirmed it in time", revision=number, by=revision.by)

    async def _undone_by(self, to: int) -> int | None:
        """Return the one revision that going back there takes back before its time, where it waits to be confirmed."""
        edition = await self._current.catch_up()
        waiting = {revision.number for revision in await self._store.revisions.unconfirmed()}
        return edition.revision if edition.revision in waiting and edition.revision == to + 1 else None

    # Second persons

    async def _propose(self, who: Caller | None, draft: Draft, order: _Order, needs: int) -> api.Proposed:
        now, by = self._clock(), who.name if who else _ITSELF
        proposal = await self._store.proposals.add(
            digest=draft.digest, base=draft.edition.revision, by=by, message=order.message, expires=now + PROPOSAL_LIFE,
            needs=needs, writes=draft.writes, confirm_seconds=order.confirm_seconds,
            entry=_entry(by, "propose", draft, order.message), now=now,
        )  # fmt: skip
        return api.Proposed(
            proposal=proposal.id, digest=proposal.digest, expires=proposal.expires, steps=told(draft.steps)
        )

    async def approve(self, who: Caller, number: int, vote: api.Vote) -> Proposal | api.Applied:
        """Agree to a proposal; with the last person who must, it is made.

        Raises:
            NotFoundError: there is no such proposal.
            ForbiddenError: this person may not write what it writes, or has wished it.
            ProposalError: it is over, or is another than the one that was looked at.
            StaleError: what it changes has been changed since; it is over.
            Exception: as for ``apply``.
        """
        proposal, now = await self._proposal(number), self._clock()
        require_open(proposal, vote.digest, now)
        wish = Bodily(proposal.writes)
        draft = await self._drafter.draft(None, wish)
        if isinstance(verdict := may_approve(who, proposal.by, proposal.approvals, draft.changes), Refused):
            raise ForbiddenError(verdict.why)
        if draft.digest != proposal.digest:
            entry = _entry(who.name, "close stale proposal", draft, proposal.message)
            await self._store.proposals.close(number, "stale", entry, now)
            raise _stale()
        if len(proposal.approvals) + 1 < proposal.needs:
            entry = _entry(who.name, "approve", draft, proposal.message)
            return await self._store.proposals.approve(number, who.name, vote.digest, entry, now)
        # The last one's consent and what comes of it are one: neither is there without the other.
        order = _Order(
            wish=wish, verb="approve", message=proposal.message, confirm_seconds=proposal.confirm_seconds,
            expect=proposal.digest, proposal=proposal,
        )  # fmt: skip
        made = await self._make(who, order)
        assert isinstance(made, api.Applied)  # noqa: S101 (what has been agreed to is not proposed again)
        return made

    async def reject(self, who: Caller, number: int, vote: api.Vote) -> Proposal:
        """End a proposal: one's own, or one that one could have agreed to.

        Raises:
            NotFoundError: there is no such proposal.
            ForbiddenError: this person may not.
            ProposalError: it is over, or is another than the one that was looked at.
        """
        proposal = await self._proposal(number)
        draft = await self._drafter.draft(None, Bodily(proposal.writes))
        verdict = may_change(who, draft.changes, Verb.APPROVE)
        if proposal.by != who.name and isinstance(verdict, Refused):
            raise ForbiddenError(verdict.why)
        entry = _entry(who.name, "reject", draft, proposal.message)
        return await self._store.proposals.close(number, "rejected", entry, self._clock(), digest=vote.digest)

    async def _proposal(self, number: int) -> Proposal:
        proposal = await self._store.proposals.one(number)
        if proposal is None:
            raise NotFoundError(f"there is no proposal {number}")
        return proposal


def told(taken: Iterable[Step]) -> list[api.Step]:
    """Return steps as the API tells them."""
    return [api.Step(kind=s.key.kind, path=s.key.path, does=s.does.value, fields=list(s.fields)) for s in taken]


def _meet(one: Scope, other: Scope) -> bool:
    """Say whether what changes in one scope can matter to a change in the other: tenants do not depend on each other."""
    return ROOT in {one, other} or one.root == other.root


def _entry(who: str, verb: str, draft: Draft, message: str) -> Entry:
    detail: Mapping[str, object] = {
        "message": message, "digest": draft.digest, "steps": [f"{step.does} {step.key}" for step in draft.steps],
    }  # fmt: skip
    return Entry(who=who, verb=verb, object="resources", scope=draft.scope, outcome="done", detail=detail)


def _stale() -> StaleError:
    return StaleError(
        "what was looked at is not what would be done now: something was changed meanwhile; look at it again"
    )


def _approvals(draft: Draft) -> int:
    there = (draft.edition.catalog.get(key) for key in draft.edition.written if key.kind in _MARKED)
    return needed(draft.changes, marks(definition.resource for definition in there if definition))
