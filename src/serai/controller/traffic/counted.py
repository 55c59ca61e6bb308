"""Answers about what gates count beside conversations: drops by reason, and what links needed."""

from __future__ import annotations

import asyncio

from serai.access.decide import Caller
from serai.analysis.traffic import counted
from serai.controller.standing import may_see_hosts
from serai.controller.traffic.asking import MOST_ROWS, Asking, Span
from serai.controller.traffic.telling import (
    address_text,
    direction_text,
    moment,
    reason_description,
    reason_text,
    sighting_text,
    vnic_text,
)
from serai.wire import flowapi


class CounterQuestions:
    """Answers them."""

    def __init__(self, asking: Asking) -> None:
        """Ask by that."""
        self._asking = asking

    async def drops(self, who: Caller, span: Span, *, of: str, limit: int) -> flowapi.Drops:
        """Say what the gates of a VM, or of all that is in a scope, dropped.

        Raises:
            InvalidError: the time or the scope makes no sense.
            ForbiddenError: this person may not see that.
            NotFoundError: no such VM is on record.
            UnavailableError: the flow store cannot be asked.
        """
        name, vm, asked = await self._asking.about(self._asking.asked(who, span, limit), of)
        (rows, complete), reasons = await asyncio.gather(
            self._asking.answer(who, asked, counted.drops(vm, asked)), self._asking.rows(counted.reasons(vm, asked))
        )
        vnics = await self._asking.vnics(row["vnic"] for row in rows)
        hosts = may_see_hosts(who)
        return flowapi.Drops(
            of=name, packets=sum(row["packets"] for row in reasons),
            reasons=[
                flowapi.DropReason(
                    reason=reason_text(row["reason"]), description=reason_description(row["reason"]), packets=row["packets"], vnics=row["vnics"]
                )
                for row in reasons
            ],
            rows=[
                flowapi.DropRow(
                    host=row["host"] if hosts else "", vnic=vnic_text(row["vnic"], vnics), direction=direction_text(row["direction"]), reason=reason_text(row["reason"]),
                    packets=row["packets"], first=moment(row["first"]), last=moment(row["last"]),
                )
                for row in rows
            ],
            more=(rows[0]["rows"] if rows else 0) - len(rows), since=span.since, until=span.until, completeness=complete,
        )  # fmt: skip

    async def sightings(self, who: Caller, span: Span, *, vm: str) -> flowapi.Sightings:
        """Say what was seen of the messages that the links of a VM need.

        Raises:
            InvalidError: the time makes no sense, or there are several VMs of that name.
            ForbiddenError: this person may see nothing.
            NotFoundError: no such VM is on record.
            UnavailableError: the flow store cannot be asked.
        """
        path, of, asked = await self._asking.vm(self._asking.asked(who, span, MOST_ROWS), vm)
        rows, complete = await self._asking.answer(who, asked, counted.sightings(of, asked))
        vnics = await self._asking.vnics(row["vnic"] for row in rows)
        return flowapi.Sightings(
            vm=path,
            rows=[
                flowapi.SightingRow(
                    vnic=vnic_text(row["vnic"], vnics), kind=sighting_text(row["kind"]), direction=direction_text(row["direction"]), packets=row["packets"],
                    address=address_text(row["address"]), first=moment(row["first"]), last=moment(row["last"]),
                )
                for row in rows
            ],
            since=span.since, until=span.until, completeness=complete,
        )  # fmt: skip
