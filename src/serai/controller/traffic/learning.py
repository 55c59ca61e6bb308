"""Policies from traffic, and traffic against policies: what was recorded, judged again beside the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Final, TypeVar

from serai.access.decide import Caller
from serai.analysis.traffic.statement import is_within
from serai.controller.changes import Changes
from serai.controller.current import Current
from serai.controller.elsewhere import elsewhere
from serai.controller.questions import visible
from serai.controller.requests import scope_of
from serai.controller.traffic.asking import Row, Span, seen_by
from serai.controller.traffic.questions import TrafficQuestions
from serai.controller.traffic.telling import moment, rule_text
from serai.model.address import Address
from serai.model.flow import DIRECTIONS
from serai.model.flow_record import Verdict
from serai.model.policy import Direction
from serai.model.tenancy import ROOT, Scope
from serai.policy.traffic.offers import services_of
from serai.policy.traffic.seen import Conversation
from serai.policy.traffic.suggest import suggest
from serai.policy.traffic.whatif import whatif
from serai.wire import api, flowapi

MOST: Final = 100_000
"""Kinds of conversations that are judged at once; of more, the largest."""
_ROWS: Final = 2_000
_MUCH: Final = 5_000
"""Kinds of conversations that take a second or so."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """What was recorded of somebody's traffic."""

    rows: Sequence[Row]
    rules: Mapping[int, str]
    completeness: flowapi.Completeness
    scopes: list[Scope] | None
    """What they may see."""

    def read(self) -> tuple[list[Conversation], list[str]]:
        """Return it as far as they may see it, and notes about the rest."""
        kept = [row for row in self.rows if all(_may_see(row[end], self.scopes) for end in ("path", "peer_path"))]
        notes = []
        if len(self.rows) == MOST:
            notes.append(
                f"only the {MOST} largest kinds of conversations were looked at: ask about less time, or a narrower scope"
            )
        if len(kept) < len(self.rows):
            notes.append(
                f"{len(self.rows) - len(kept)} kinds of conversations with VMs that you may not see are left out"
            )
        return [_conversation(row, self.rules) for row in kept], notes

    async def work(self, job: Callable[[], T]) -> T:
        """Do something with it, beside the event loop; what is much is done where it does not take turns with that either."""
        return await asyncio.to_thread(elsewhere, job) if len(self.rows) >= _MUCH else await asyncio.to_thread(job)


class Learning:
    """Answers ``suggest`` and ``whatif``."""

    def __init__(
        self, current: Current, changes: Changes, asked: TrafficQuestions, *, clock: Callable[[], datetime]
    ) -> None:
        """Ask these."""
        self._current, self._changes, self._asked, self._clock = current, changes, asked, clock

    async def suggest(self, who: Caller, body: flowapi.SuggestRequest) -> flowapi.Suggestion:
        """Write the least policies that admit what was seen of the VMs of a scope.

        Raises:
            InvalidError: that is no scope, or no time.
            ForbiddenError: this person may not see it.
            UnavailableError: the flow store cannot be asked.
        """
        scope = scope_of("scope", body.scope)
        seen = await self._seen(who, Span(since=body.since, until=body.until), scope)
        edition = await self._current.catch_up()
        world, services = visible(who, edition.catalog.world), services_of(edition.catalog)
        now = self._clock()

        def work() -> flowapi.Suggestion:
            conversations, notes = seen.read()
            found = suggest(world, scope, conversations, now=now, services=services)
            return flowapi.Suggestion(
                yaml=found.yaml, notes=[*notes, *found.notes], conversations=found.conversations, completeness=seen.completeness,
                ungoverned={direction.value: paths for direction, paths in found.ungoverned.items()},
            )  # fmt: skip

        return await seen.work(work)

    async def whatif(self, who: Caller, body: flowapi.WhatIfRequest) -> flowapi.WhatIf:
        """Replay what was seen against what a change would make of the policies.

        Raises:
            InvalidError: the change is not sound, or that is no time.
            ForbiddenError: this person may not make it, or see nothing.
            UnavailableError: the flow store cannot be asked.
        """
        draft, _hosts, _needs = await self._changes.plan(who, api.ChangeRequest(files=body.files, prune=body.prune))
        seen = await self._seen(who, Span(since=body.since, until=body.until), ROOT)
        old, new = visible(who, draft.edition.catalog.world), visible(who, draft.catalog.world)

        def work() -> flowapi.WhatIf:
            conversations, notes = seen.read()
            found = whatif(old, new, conversations)
            rows = [
                flowapi.WhatIfRow(
                    change="denied" if row.change.value == "denied" else "allowed", source=row.source, target=row.target, service=row.service, connections=row.connections,
                    bytes=row.bytes, last=row.last, rule_before=row.rule_before, rule_after=row.rule_after,
                )
                for row in found.rows[:_ROWS]
            ]  # fmt: skip
            return flowapi.WhatIf(
                rows=rows, more=len(found.rows) - len(rows), notes=notes, conversations=found.conversations, unknown=found.unknown, completeness=seen.completeness
            )  # fmt: skip

        return await seen.work(work)

    async def _seen(self, who: Caller, span: Span, scope: Scope) -> _Seen:
        rows, rules, completeness = await self._asked.conversations(who, span, scope=scope, limit=MOST)
        return _Seen(rows, rules, completeness, seen_by(who))


def _may_see(path: str, scopes: list[Scope] | None) -> bool:
    return not path or is_within(path.rpartition(":")[0], scopes)


def _conversation(row: Row, rules: Mapping[int, str]) -> Conversation:
    side = DIRECTIONS[row["direction"] & 1]
    near: tuple[str | None, Address | None] = (row["path"] or None, None)
    far: tuple[str | None, Address | None] = (
        row["peer_path"] or None,
        None if row["peer_path"] else ip_address(row["address"]),
    )
    source, target = (near, far) if side is Direction.EGRESS else (far, near)
    return Conversation(
        source=source[0], source_address=source[1], target=target[0], target_address=target[1], protocol=row["protocol"], port=row["service"],
        verdict=Verdict(row["verdict"]), side=side, connections=row["connections"], unanswered=row["unanswered"], packets=row["packets"], bytes=row["bytes"],
        first=moment(row["first"]), last=moment(row["last"]), rule=rule_text(row, rules),
    )  # fmt: skip
