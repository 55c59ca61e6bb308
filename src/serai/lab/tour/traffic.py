"""What the controller keeps of all that was tried: who talked to whom, and how complete that is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from serai.lab.datacenter import RECORD_SECONDS
from serai.lab.tour.findings import Recorded
from serai.lab.tour.stage import Stage
from serai.wire import flowapi
from serai.wire.client import Client

_WHOLE = 100.0
_SHOWN = 12


async def show_traffic(stage: Stage, since: datetime) -> Recorded:
    """Wait until every host has told of the time until now, and ask the controller about it."""
    stage.narrator.chapter(
        "Who talks to whom",
        f"Every {RECORD_SECONDS} s each agent tells the controller what its gates have counted since. It keeps that for weeks; "
        "this is what it knows of the tour.",
    )
    with stage.narrator.working("Waiting for the last records"):
        await asyncio.to_thread(stage.center.wait_told)
    window = {"since": since.isoformat(), "until": datetime.now(UTC).isoformat()}
    with stage.center.controller.client() as client:
        pairs = await asyncio.to_thread(_top, client, window | {"by": "pairs"})
        denied = await asyncio.to_thread(_top, client, window | {"by": "denied"})
    stage.narrator.say(f"Who opened most, in {pairs.total.connections} connections and {pairs.total.packets} packets:")
    _table(stage, pairs)
    stage.narrator.say(f"What was denied, in {denied.total.packets} packets, and by which rule or for which reason:")
    _table(stage, denied)
    complete = pairs.completeness
    stage.narrator.found(f"{complete.sentence()}.", good=complete.percent == _WHOLE and complete.records > 0)
    return Recorded(records=complete.records, percent=complete.percent)


def _top(client: Client, params: dict[str, str]) -> flowapi.Top:
    return client.ask("GET", "/v1/top", flowapi.Top, params=params | {"limit": str(_SHOWN)})


def _table(stage: Stage, top: flowapi.Top) -> None:
    headings = [*(heading.upper() for heading in top.headings), "PACKETS", "BYTES", "CONNECTIONS"]
    rows = [[*row.names, str(row.packets), str(row.bytes), str(row.connections)] for row in top.rows]
    stage.narrator.table(headings, rows)
