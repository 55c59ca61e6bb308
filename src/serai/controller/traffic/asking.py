"""What questions about traffic have in common: who may ask about what, putting it to the flow store, and how complete the answer is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from serai.access.decide import Caller, Refused, Subject, decide
from serai.access.verbs import Verb
from serai.analysis.filter import Clause, Filter, FilterError, parse, terms
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.coverage import History, coverage, history
from serai.analysis.traffic.records import names_of, numbers_of
from serai.analysis.traffic.statement import Statement, is_within
from serai.analysis.traffic.window import Window
from serai.controller.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from serai.controller.requests import invalid, scope_of
from serai.controller.standing import may_see_hosts
from serai.controller.traffic.telling import completeness
from serai.controller.traffic.traffic import Traffic
from serai.controller.views import require
from serai.flowstore.embedded import EngineError
from serai.flowstore.store import QuestionError
from serai.model.tenancy import ROOT, Scope
from serai.wire import flowapi

MOST_ROWS: Final = 1000
"""Rows of one answer at the most."""
_FEW: Final = 5
_LONGEST_SECONDS: Final = 10 * 366 * 86400

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What every question about traffic says: when, and which records."""

    since: datetime
    until: datetime
    narrowed: str = ""
    """A filter; empty: all records."""


class Asking:
    """Puts questions to the flow store."""

    def __init__(self, traffic: Traffic, *, clock: Callable[[], datetime]) -> None:
        """Ask that."""
        self._traffic, self._clock = traffic, clock

    def asked(self, who: Caller, span: Span, limit: int) -> Asked:
        """Say what is asked, as far as this person may see it.

        Raises:
            InvalidError: the filter or the time makes no sense.
            ForbiddenError: this person may see nothing, or not what the filter is about.
        """
        scopes = seen_by(who)
        since, until = int(span.since.timestamp()), int(span.until.timestamp())
        if not 0 <= since < until or until - since > _LONGEST_SECONDS:
            raise invalid("since", "the time asked for must end after it begins, and be at most ten years long")
        narrowed = _filter(span.narrowed)
        if narrowed is not None and any(term.field == "host" for term in terms(narrowed)):
            require(who, Verb.READ_HOSTS)
        return Asked(
            window=Window(since=since, until=until),
            narrowed=narrowed,
            scopes=scopes,
            seen=scopes,
            limit=max(1, min(limit, MOST_ROWS)),
        )

    async def about(self, asked: Asked, of: str) -> tuple[str, Clause | None, Asked]:
        """Find a VM or a scope: its path, the numbers of the VM, and what is asked about it.

        Raises:
            InvalidError: that is no scope; or see ``vm``.
            ForbiddenError: this person may not see that scope.
            NotFoundError: see ``vm``, as of all else.
        """
        if of.startswith("/") and ":" not in of:
            return of, None, within(asked, scope_of("of", of))
        return await self.vm(asked, of)

    async def vm(self, asked: Asked, name: str) -> tuple[str, Clause, Asked]:
        """Find a VM by its name or path, as it is and was: its path, its numbers (to stand behind IN), and what is asked in its tenant.

        Raises:
            InvalidError: there are several VMs of that name.
            NotFoundError: no such VM is on record that this person may see.
            UnavailableError: the flow store cannot be asked.
        """
        found = [row for row in await self.rows(numbers_of(name)) if is_within(row["scope"], asked.seen)]
        paths = sorted({row["path"] for row in found})
        if not paths:
            raise NotFoundError(
                f"no traffic of a VM {name!r} is on record: write its name, or its path such as /acme/shop:web-1"
            )
        if len(paths) > 1:
            raise invalid(
                "vm",
                f"there are several VMs {name!r}: say which, by its path: {', '.join(paths[:_FEW])}{', ...' if len(paths) > _FEW else ''}",
            )
        tenant = found[0]["tenant"]
        numbers = Clause(sql="{vms:Array(UInt64)}", parameters={"vms": [row["number"] for row in found]})
        return paths[0], numbers, dataclasses.replace(asked, scopes=[Scope(f"/{tenant}") if tenant else ROOT])

    async def answer(
        self, who: Caller, asked: Asked, statement: Statement
    ) -> tuple[list[dict[str, Any]], flowapi.Completeness]:
        """Return the rows that answer a question, and how complete that is.

        Raises:
            InvalidError: it is too much to ask at once.
            UnavailableError: the flow store cannot be asked.
        """
        rows, told = await asyncio.gather(self.rows(statement), self.rows(history(asked.window, table=statement.table)))
        known = History.of(told)
        found = coverage(asked.window, known.told, known.expected, self._clock().timestamp())
        begins = known.begins_within(asked.window)
        return rows, completeness(found, begins=begins, names=may_see_hosts(who))

    async def rows(self, statement: Statement) -> list[dict[str, Any]]:
        """Return the rows that answer a question.

        Raises:
            InvalidError: it is too much to ask at once.
            UnavailableError: the flow store cannot be asked.
        """
        try:
            found = await self._traffic.store.ask(statement.sql, statement.parameters)
        except QuestionError as error:
            raise invalid("question", f"{error}: ask about less time, or fewer records") from error
        except EngineError as error:
            raise UnavailableError(str(error), retry_seconds=2) from error
        rows: list[dict[str, Any]] = (
            await asyncio.to_thread(found.to_pylist) if found.num_rows > MOST_ROWS else found.to_pylist()
        )
        return rows

    async def endpoints(self, asked: Asked, numbers: Iterable[int]) -> dict[int, Row]:
        """Return the VMs with these numbers that whoever asks may see."""
        rows = await self._named("endpoints", numbers)
        return {row["number"]: row for row in rows if is_within(row["scope"], asked.seen)}

    async def vnics(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return the paths of vNICs."""
        return {row["vnic"]: row["path"] for row in await self._named("vnics", numbers)}

    async def rules(self, rows: Sequence[Row]) -> dict[int, str]:
        """Return the texts of the rules that rows name."""
        return {row["number"]: row["text"] for row in await self._named("rules", (row["rule"] for row in rows))}

    async def _named(self, table: str, numbers: Iterable[int]) -> list[dict[str, Any]]:
        wanted = set(numbers) - {0}
        return await self.rows(names_of(table, wanted)) if wanted else []


def seen_by(who: Caller) -> list[Scope] | None:
    """Return the scopes whose traffic somebody may see; None: everything.

    Raises:
        ForbiddenError: there is none.
    """
    scopes = sorted(
        {
            grant.scope
            for grant in (*who.grants, *(who.within or ()))
            if not isinstance(decide(who, Verb.READ, Subject(scope=grant.scope)), Refused)
        }
    )
    if not scopes:
        raise ForbiddenError("your roles do not let you see traffic: a viewer may")
    return None if ROOT in scopes else scopes


def within(asked: Asked, scope: Scope) -> Asked:
    """Ask about one scope, as far as it is to be seen.

    Raises:
        ForbiddenError: nothing of it is.
    """
    if scope == ROOT:
        return asked
    if asked.seen is not None and not any(each.contains(scope) or scope.contains(each) for each in asked.seen):
        raise ForbiddenError(f"you may not see traffic in {scope}")
    inside = (
        [scope]
        if asked.seen is None
        else [
            each if scope.contains(each) else scope
            for each in asked.seen
            if each.contains(scope) or scope.contains(each)
        ]
    )
    return dataclasses.replace(asked, scopes=inside)


def _filter(text: str) -> Filter | None:
    if not text.strip():
        return None
    try:
        return parse(text)
    except FilterError as error:
        raise InvalidError(f"this is no filter:\n{error}") from error
