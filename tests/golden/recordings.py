"""What gates recorded, as the golden cases write it: one kind of conversation a line.

``SOURCE -> TARGET SERVICE VERDICT SIDE CONNECTIONS BYTES HH:MM HH:MM [unanswered] [by RULE]``; ``{1..40}`` stands for each of
these numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address

from serai.model.flow_record import Verdict
from serai.model.policy import Direction
from serai.policy.questions.question import parse_service
from serai.policy.traffic.seen import Conversation

_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


def recording(text: str) -> list[Conversation]:
    """Read all lines; those that begin with ``#`` are comments."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [_conversation(each.split()) for line in lines for each in _each(line)]


def _each(line: str) -> Iterator[str]:
    found = _NUMBERS.search(line)
    if not found:
        yield line
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _each(line[: found.start()] + str(number) + line[found.end() :])


def _conversation(words: list[str]) -> Conversation:
    source, _, target, service, verdict, side, connections, octets, first, last, *more = words
    protocol, port = parse_service(service)
    return Conversation(
        source=source if source.startswith("/") else None,
        source_address=None if source.startswith("/") else ip_address(source),
        target=target if target.startswith("/") else None,
        target_address=None if target.startswith("/") else ip_address(target),
        protocol=protocol, port=port, verdict=Verdict[verdict.upper()], side=Direction(side),
        connections=int(connections), unanswered=int(connections) if "unanswered" in more else 0,
        packets=10 * max(1, int(connections)), bytes=int(octets), first=_at(first), last=_at(last),
        rule=more[more.index("by") + 1] if "by" in more else "",
    )  # fmt: skip


def _at(clock: str) -> datetime:
    return datetime.strptime(f"2026-03-01 {clock}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
