"""What was seen of a rule, in the words of a comment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from serai.model.policy import Direction
from serai.policy.traffic.drafts import Draft
from serai.policy.traffic.narrow import width
from serai.policy.traffic.seen import total
from serai.policy.traffic.selection import Selection
from serai.policy.traffic.spots import joined, span

_STEP = 1024


def evidence(draft: Draft) -> Iterator[str]:
    """Say how much was seen of a rule, when, of how many, and what it admits beyond."""
    if draft.once:
        yield "seen once" if len(draft.services) == 1 else "seen once each"
    amount = total(need.amount for need in draft.seen)
    when = f"{moment(amount.first)} to {moment(amount.last)}" if amount.first != amount.last else moment(amount.last)
    connections = count(amount.connections, "connection") if amount.connections else "connections that had begun before"
    if amount.unanswered:
        connections += f" ({amount.unanswered:,} without an answer)"
    yield f"{connections}, {size(amount.bytes)}, {when} UTC"
    subjects = f"{_of(len({need.vm for need in draft.seen}), draft.subject.chosen.bit_count())}"
    peers = _seen_peers(draft)
    yield f"from {peers} to {subjects}" if draft.direction is Direction.INGRESS else f"from {subjects} to {peers}"
    rare = sum(need.amount.connections == 1 for need in draft.seen)
    if rare and not draft.once:
        yield f"{rare} of {count(len(draft.seen), 'kind')} of conversations seen once"
    yield from _wider(draft)


def of_subject(subject: Selection, drafts: Iterable[Draft]) -> Iterator[str]:
    """Say where a policy selects more VMs than were seen."""
    seen = {need.vm for draft in drafts for need in draft.seen}
    chosen = subject.chosen.bit_count()
    if len(seen) < chosen:
        yield f"selects {count(chosen, 'VM')}, of which {len(seen)} {'was' if len(seen) == 1 else 'were'} seen: no labels tell them apart"


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Write a number of bytes."""
    value, units = float(number), iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    if number < _STEP:
        return count(number, "byte")
    unit = ""
    while value >= _STEP and (following := next(units, "")):
        value, unit = value / _STEP, following
    return f"{value:.1f} {unit}"


def moment(at: datetime) -> str:
    """Write a time, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _of(seen: int, chosen: int) -> str:
    return f"{seen} of {count(chosen, 'VM')}"


def _seen_peers(draft: Draft) -> str:
    if isinstance(draft.peer, Selection):
        return _of(len({need.peer for need in draft.seen}), draft.peer.chosen.bit_count())
    found = len({need.address for need in draft.seen})
    return f"{found:,} address{'' if found == 1 else 'es'}"


def _wider(draft: Draft) -> Iterator[str]:
    """Say what was made wider, because there was too much to write."""
    if isinstance(draft.peer, Selection):
        if len({need.peer for need in draft.seen}) < draft.peer.chosen.bit_count():
            yield "no labels tell the other ends that were seen from those that were not"
    else:
        held = sum(last - first + 1 for first, last in joined(map(span, draft.peer)))
        seen = len({need.address for need in draft.seen})
        if held > seen:
            yield f"the prefixes hold {many(held)} addresses, whoever has them: those seen were too many to write"
    ports, admitted = width(draft.services), width(draft.ports)
    if admitted > ports:
        yield f"the ranges hold {admitted:,} ports, {ports:,} of which were seen: those were too many to write"


def many(number: int) -> str:
    """Write a number that may be beyond all measure."""
    return f"{number:,}" if number < 2**40 else f"2^{number.bit_length() - 1}"
