"""``serai flows --follow``: records as they come, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from serai.cli.show import console, line
from serai.wire import flowapi
from serai.wire.client import Client, ClientError

PAGE: Final = 1000
_SECONDS: Final = 3.0
_LATE: Final = timedelta(seconds=30)
"""Hosts tell of a moment so much later than others, and are heard still."""
_AHEAD: Final = timedelta(seconds=2)
"""Clocks of hosts differ a little."""
_PAGES: Final = 10
_PASSES: Final = frozenset({None, 429, 500, 502, 503, 504})
"""Statuses of troubles that pass; None: nobody answered."""
_ASK_SECONDS: Final = 30.0


class Follower:
    """Remembers which records were told."""

    def __init__(self, client: Client, narrowed: str, begin: datetime) -> None:
        """Tell of records that fit a filter, from ``begin`` on."""
        self._client, self._narrowed, self._begin = client, narrowed, begin
        self._told: dict[bytes, datetime] = {}

    def fresh(self, now: datetime) -> list[flowapi.Record]:
        """Return the records that nobody was told of yet, the earliest first.

        Raises:
            ClientError: the controller does not answer, or says no.
        """
        found = [(msgspec.json.encode(record), record) for record in self._records(self._begin, now + _AHEAD)]
        fresh = [record for key, record in reversed(found) if key not in self._told]
        self._begin = max(self._begin, now - _LATE)
        known = {**self._told, **{key: record.at for key, record in found}}
        self._told = {key: at for key, at in known.items() if at >= self._begin}
        return sorted(fresh, key=lambda record: record.at)

    def _records(self, since: datetime, until: datetime) -> Iterator[flowapi.Record]:
        """Go through the records of a time, the latest first."""
        after: str | None = None
        for _ in range(_PAGES):
            params = {
                "filter": self._narrowed or None, "since": since.isoformat(), "until": until.isoformat(), "limit": PAGE, "after": after,
            }  # fmt: skip
            page = self._client.ask("GET", "/v1/flows", flowapi.FlowPage, params=params, seconds=_ASK_SECONDS)
            yield from page.records
            after = page.after
            if after is None:
                return
        complain(f"There are more than {_PAGES * PAGE} records at once, and not all are shown: narrow it down.")


def follow(follower: Follower, show: Callable[[list[flowapi.Record]], None]) -> None:
    """Show records as they come, until somebody interrupts; troubles that pass are told once each.

    Raises:
        ClientError: the controller says no.
    """
    trouble, first = "", True
    while True:
        try:
            show(follower.fresh(datetime.now(UTC)))
        except ClientError as error:
            if first or error.status not in _PASSES or error.name == "untrusted":
                raise
            if str(error) != trouble:
                complain(f"{error}; it is asked again and again")
            trouble = str(error)
        else:
            if trouble:
                complain("It answers again.")
            trouble, first = "", False
        time.sleep(_SECONDS)


def complain(text: str) -> None:
    """Tell the person at the terminal something that is no record."""
    line(console(stderr=True), text, style="yellow")
