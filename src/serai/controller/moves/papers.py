"""What is written about a move: the ticket with which it may begin, and the receipt of how it went."""

from __future__ import annotations

from datetime import datetime

import msgspec

from serai.migration.receipt import together, unheard
from serai.migration.states import Event, State
from serai.model.inventory import VirtualMachine
from serai.model.migration import Receipt, Ticket
from serai.store.records import MoveRecord

LONGEST = 4096
"""Characters of a reason, or of a person's name: hosts and people tell some of it."""
_OVERDUE = frozenset({Event.OVERDUE, Event.OVERDUE_HERE, Event.OVERDUE_THERE})


def ticket(move: MoveRecord, vm: VirtualMachine, source: str, until: datetime) -> Ticket:
    """Write a ticket.

    Raises:
        ValidationError: a name is too long for one.
    """
    told = {
        "move": move.id, "epoch": move.epoch, "vm": move.vm, "domain": vm.domain or vm.name,
        "vnics": [int(vnic.id) for vnic in vm.vnics], "source": source, "to": move.to, "until": until.timestamp(),
    }  # fmt: skip
    return msgspec.convert(told, Ticket)


def receipt(was: MoveRecord, move: MoveRecord, event: Event, now: datetime) -> Receipt | None:
    """Write the receipt of a move that ended by ``event``, and was before as ``was`` says; None: it never had a ticket.

    A host that has not told what it counted by the end of the time is named.
    """
    if move.ticket is None:
        return None
    return Receipt(
        ticket=move.ticket, by=move.by[:LONGEST], began=move.asked.timestamp(), ended=now.timestamp(), made=move.state is State.DONE, reached=move.reached,
        facts=together(move.here, move.there, move.digest), why=move.why or move.note,
        unheard=unheard(was.state, move.source, move.to) if event in _OVERDUE else [],
    )  # fmt: skip
