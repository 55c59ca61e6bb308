"""Why moves end before they are made, in sentences for people."""

from __future__ import annotations

from datetime import timedelta

from serai.controller.moves.config import MoveSettings
from serai.controller.moves.events import Site
from serai.migration.states import State
from serai.store.records import MoveRecord


def overdue(move: MoveRecord, site: Site) -> str:
    """Say what has not come in time."""
    match move.state:
        case State.WAITING:
            return f"its turn has not come in time{f': {move.why}' if move.why else ''}"
        case State.PLANNED:
            return _not_ready(move, site)
        case State.ABORTING:
            silent = f"host {move.source} has not told in time what became of it"
            return f"{move.why} ({silent})" if move.why else silent
        case State.LIVE | State.CARRIED | State.FENCED:
            return f"host {move.to} said that it runs there, and it runs at host {move.source}"
        case State.PREPARED | State.COPIED if not move.migrate and not _comes(move, site):
            return f"the hypervisor has not begun to move it to host {move.to}, or has given up"
        case _:
            gone = [host for host in (move.source, move.to) if not site.connected(host)]
            silent = f"; host {' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} not connected" if gone else ""
            return f"it has not come further than {move.state!s} in time{silent}"


def _comes(move: MoveRecord, site: Site) -> bool:
    vnics = move.ticket.vnics if move.ticket else []
    return move.to in site.places(move.vm, vnics)


def _not_ready(move: MoveRecord, site: Site) -> str:
    if not site.connected(move.to):
        return f"host {move.to} is not connected, and was not ready in time"
    if (wanted := site.wanted(move.to)) is None or site.holds(move.to) != wanted:
        trouble = site.trouble(move.to)
        return f"host {move.to} did not hold the VM's rules in time{f': {trouble}' if trouble else ''}"
    return f"host {move.to} holds the VM's rules, and has not said in time that it is ready"


def told(host: str, why: str) -> str:
    """Say that a host has ended it."""
    return f"host {host}: {why or 'it gives no reason'}"


def limit(state: State, settings: MoveSettings) -> timedelta:
    """Return how long a move may stand at ``state``."""
    match state:
        case State.WAITING:
            seconds = settings.wait_seconds
        case State.PLANNED:
            seconds = settings.ticket_seconds
        case State.PREPARED | State.COPIED:
            seconds = settings.copy_seconds
        case State.SWITCHED:
            seconds = settings.switch_seconds
        case State.ABORTING:
            seconds = settings.abort_seconds
        case _:
            seconds = settings.finish_seconds
    return timedelta(seconds=seconds)
