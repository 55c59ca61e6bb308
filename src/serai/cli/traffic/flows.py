"""``serai flows``: single records of traffic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from serai.cli.show import console, line
from serai.cli.traffic.asking import JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count, size
from serai.wire import flowapi

_FOLLOW_SECONDS: Final = 3.0
_LATE: Final = timedelta(seconds=60)
"""Records come up to so much later than what they tell of."""
_PAGE: Final = 1000
_STYLES: Final = {"accepted": "green", "denied": "red", "observed": "yellow"}
_WIDTHS: Final = (8, 30, 30, 10, 8, 8, 9)
_HEADINGS: Final = ("TIME", "FROM", "TO", "SERVICE", "VERDICT", "PACKETS", "BYTES")


@click.command(short_help="List records of traffic.")
@click.argument("narrowed", nargs=-1, metavar="[FILTER]...")
@during("1h")
@click.option("-n", "--limit", type=click.IntRange(1, _PAGE), default=50, show_default=True, help="How many.")
@click.option("--follow", is_flag=True, help="Go on, and print what comes.")
@JSON
def flows(narrowed: tuple[str, ...], since: str, until: str, limit: int, *, follow: bool, json_: bool) -> None:
    """List what gates have counted, record by record; with a FILTER, only what it fits, such as 'vm=web-1 and verdict=denied'.

    A record is what one gate counted of one conversation in about ten seconds; a conversation between two VMs is told by both their gates.
    docs/FLOWS.md has all that a filter may say.
    """
    params = {"filter": " ".join(narrowed), "limit": limit}
    if follow:
        _follow(params["filter"], json_=json_)
        return
    found = ask("/v1/flows", flowapi.FlowPage, params | window(since, until))
    if told_as_json(found, json_=json_):
        return
    _show(console(), reversed(found.records), heading=True)
    if found.after is not None:
        line(console(stderr=True), f"Only the latest {limit}: say -n, or narrow it down.", style="dim")
    tell_complete(found.completeness)


def _follow(narrowed: object, *, json_: bool) -> None:
    """Print what comes, none twice. Records of one moment come from many hosts, not all at once."""
    to = console()
    seen: dict[bytes, datetime] = {}
    begin = datetime.now(UTC)
    heading = True
    while True:
        end = datetime.now(UTC)
        since = max(begin - timedelta(seconds=1), end - _LATE)
        params = {
            "filter": narrowed,
            "limit": _PAGE,
            "since": since.isoformat(),
            "until": (end + timedelta(seconds=1)).isoformat(),
        }
        fresh = list(_fresh(ask("/v1/flows", flowapi.FlowPage, params).records, seen))
        for key in [key for key, at in seen.items() if at < since]:
            del seen[key]
        if json_:
            for record in fresh:
                line(to, json.dumps(msgspec.to_builtins(record)))
        elif fresh or heading:
            _show(to, fresh, heading=heading)
            heading = False
        time.sleep(_FOLLOW_SECONDS)


def _fresh(records: object, seen: dict[bytes, datetime]) -> Iterator[flowapi.Record]:
    for record in reversed(list(records)):  # type: ignore[call-overload]
        key = msgspec.json.encode(record)
        if key not in seen:
            seen[key] = record.at
            yield record


def _show(to: Console, records: object, *, heading: bool) -> None:
    if heading:
        line(to, f"{_row(_HEADINGS)}  RULE OR REASON", style="bold")
    for record in records:  # type: ignore[attr-defined]
        source, target = _ends(record)
        cells = (
            f"{record.at.astimezone():%H:%M:%S}", source, target, record.service, record.verdict, count(record.packets_out + record.packets_in),
            size(record.bytes_out + record.bytes_in),
        )  # fmt: skip
        text = Text(_row(cells))
        at = sum(_WIDTHS[:4]) + 2 * 4
        text.stylize(_STYLES[record.verdict], at, at + _WIDTHS[4])
        why = record.rule or ("" if record.reason == "none" else record.reason)
        notes = [note for note, is_so in (("no answer", record.unanswered), ("refused", record.refused)) if is_so]
        text.append(f"  {'; '.join([why, *notes] if why else notes)}")
        line(to, text)


def _row(cells: tuple[str, ...]) -> str:
    fitted = [_cut(cell, width) for cell, width in zip(cells, _WIDTHS, strict=True)]
    return "  ".join(
        [
            *(cell.ljust(width) for cell, width in zip(fitted[:5], _WIDTHS[:5], strict=True)),
            fitted[5].rjust(_WIDTHS[5]),
            fitted[6].rjust(_WIDTHS[6]),
        ]
    )


def _cut(text: str, width: int) -> str:
    """Shorten a path in its beginning: what tells one VM from another stands at its end."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


def _ends(record: flowapi.Record) -> tuple[str, str]:
    near = record.vm or record.local
    far = record.peer or record.remote
    return (near, far) if record.direction == "egress" else (far, near)
