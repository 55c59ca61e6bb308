"""What people may see of resources and of their history."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import islice
from typing import Final

from serai.access.decide import Caller, Refused, Subject, decide
from serai.access.verbs import Verb
from serai.controller.changes import told as told_steps
from serai.controller.current import Current, Edition
from serai.controller.errors import ForbiddenError, NotFoundError
from serai.controller.requests import invalid, scope_of
from serai.model.catalog import Key
from serai.model.change import steps
from serai.model.resources import KINDS
from serai.model.tenancy import Scope
from serai.store.records import Committed, Proposal, Revision
from serai.store.store import Store
from serai.wire import api

MOST: Final = 1000
"""Things on one page at the most."""


class Views:
    """Reads for people."""

    def __init__(self, store: Store, current: Current) -> None:
        """Read there."""
        self._store, self._current = store, current

    # Resources

    async def resources(
        self,
        who: Caller,
        *,
        kind: str | None,
        scope: str | None,
        labels: Mapping[str, str],
        limit: int,
        after: str | None,
    ) -> api.Page:
        """Return some resources in force, in order of kind and path: those that fit all that is asked, and that this person may see.

        Raises:
            InvalidError: there is no such kind, or that is no scope.
        """
        if kind is not None and kind not in KINDS:
            raise invalid("kind", f"there is no kind {kind!r}: there are {', '.join(KINDS)}")
        within = None if scope is None else scope_of("scope", scope)
        edition = await self._current.catch_up()
        keys = (
            key
            for key in sorted(edition.written)
            if (kind is None or key.kind == kind)
            and (within is None or within.contains(key.scope))
            and (after is None or str(key) > after)
            and _visible(who, key)
            and _labelled(edition, key, labels)
        )
        most = min(limit, MOST)
        found = list(islice(keys, most + 1))
        page = [_resource(edition, key) for key in found[:most]]
        return api.Page(
            resources=page, revision=edition.revision, after=str(found[most - 1]) if len(found) > most else None
        )

    async def resource(self, who: Caller, kind: str, path: str) -> api.Resource:
        """Return one resource in force.

        Raises:
            NotFoundError: there is none of that name, or it is not this person's to see.
        """
        edition = await self._current.catch_up()
        key = Key(kind, path)
        if key not in edition.written or not _visible(who, key):
            raise NotFoundError(f"there is no {key}")
        return _resource(edition, key)

    # History

    async def revisions(self, who: Caller, *, before: int | None, limit: int) -> list[api.Revision]:
        """Return revisions, the latest first; of each, what this person may see."""
        found: list[api.Revision] = []
        most = min(limit, MOST)
        while len(found) < most:
            some = await self._store.revisions.latest(before=before, limit=most)
            for revision in some:
                told = seen(who, revision)
                if told is not None and len(found) < most:
                    found.append(told)
            if len(some) < most:
                break
            before = some[-1].number
        return found

    async def revision(self, who: Caller, number: int) -> api.Revision:
        """Return one revision.

        Raises:
            NotFoundError: there is none of that number, or nothing in it is this person's to see.
        """
        if 0 < number <= (await self._current.catch_up()).revision:
            told = seen(who, await self._store.revisions.one(number))
            if told is not None:
                return told
        raise NotFoundError(f"there is no revision {number}")

    async def watch(self, who: Caller, since: int) -> AsyncIterator[api.Revision]:
        """Go through all revisions after ``since``, those to come too."""
        while True:
            edition = await self._current.later_than(since)
            for committed in await self._store.revisions.since(since):
                told = seen(who, committed)
                if told is not None:
                    yield told
                since = committed.number
            since = max(since, edition.revision)

    # Proposals

    async def proposals(self, who: Caller) -> list[api.Proposal]:
        """Return what waits, or waited of late, for a second person; the latest first."""
        edition = await self._current.catch_up()
        found = await self._store.proposals.latest(limit=MOST)
        return [proposal_of(edition, each) for each in found if any(_visible(who, key) for key in each.writes)]


def proposal_of(edition: Edition, proposal: Proposal) -> api.Proposal:
    """Return a proposal as the API tells it: what it would do now."""
    taken = steps({key: edition.body(key) for key in proposal.writes}, proposal.writes)
    return api.Proposal(
        id=proposal.id, digest=proposal.digest, by=proposal.by, message=proposal.message, created=proposal.created,
        expires=proposal.expires, state=proposal.state, approvals=list(proposal.approvals), needs=proposal.needs,
        steps=told_steps(taken),
    )  # fmt: skip


def require(who: Caller, verb: Verb, scope: str = "/", kind: str | None = None) -> None:
    """Let a person go on who may.

    Raises:
        ForbiddenError: this one may not.
    """
    verdict = decide(who, verb, Subject(scope=Scope(scope), kind=kind))
    if isinstance(verdict, Refused):
        raise ForbiddenError(verdict.why)


def may_see(who: Caller, scope: Scope) -> bool:
    """Say whether somebody may see what is in a scope."""
    return not isinstance(decide(who, Verb.READ, Subject(scope=scope)), Refused)


def _visible(who: Caller, key: Key) -> bool:
    return not isinstance(decide(who, Verb.READ, Subject(scope=key.scope, kind=key.kind)), Refused)


def _labelled(edition: Edition, key: Key, labels: Mapping[str, str]) -> bool:
    if not labels:
        return True
    definition = edition.catalog.get(key)
    own = getattr(definition.resource.spec, "labels", {}) if definition else {}
    return all(own.get(name) == value for name, value in labels.items())


def _resource(edition: Edition, key: Key) -> api.Resource:
    return api.Resource(
        kind=key.kind,
        path=key.path,
        scope=key.scope,
        revision=edition.written[key],
        body=json.loads(edition.body(key) or ""),
    )


def seen(who: Caller, committed: Committed) -> api.Revision | None:
    """Return what somebody may see of a revision; None: nothing."""
    writes = {key: body for key, body in committed.writes.items() if _visible(who, key)}
    if not writes and committed.writes:
        return None
    taken = steps({key: committed.before.get(key) for key in writes}, writes)
    return revision_of(committed, told_steps(taken))


def revision_of(revision: Revision, taken: Iterable[api.Step]) -> api.Revision:
    """Return a revision as the API tells it."""
    return api.Revision(
        number=revision.number, at=revision.at, by=revision.by, message=revision.message, digest=revision.digest,
        steps=list(taken), confirm_by=revision.confirm_by, confirmed=revision.confirmed, reverts=revision.reverts,
    )  # fmt: skip
