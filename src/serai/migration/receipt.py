"""What is proven about a move, put together from what its two hosts told."""

from __future__ import annotations

from serai.migration.states import State
from serai.model.migration import Facts


def grown(known: Facts, told: Facts) -> Facts:
    """Return what a host has told in all, after it told ``told``: what it leaves out it has told before, or does not know."""
    return Facts(
        digest=told.digest or known.digest,
        flows_first=max(known.flows_first, told.flows_first),
        flows_later=max(known.flows_later, told.flows_later),
        refused=max(known.refused, told.refused),
        unprotected=max(known.unprotected, told.unprotected),
        encrypted=known.encrypted if told.encrypted is None else told.encrypted,
        gap_us=known.gap_us if told.gap_us is None else told.gap_us,
    )


def together(source: Facts, destination: Facts, digest: str) -> Facts:
    """Return the facts of a move: ``digest`` is what was attested of the destination before the source had its leave.

    Of flows the destination's count is what has arrived. Each host's gate has its own unprotected packets. Where the two do not agree
    on what the memory went over, it is not called encrypted.
    """
    said = {source.encrypted, destination.encrypted} - {None}
    return Facts(
        digest=digest,
        flows_first=destination.flows_first or source.flows_first,
        flows_later=destination.flows_later or source.flows_later,
        refused=destination.refused or source.refused,
        unprotected=source.unprotected + destination.unprotected,
        encrypted=all(said) if said else None,
        gap_us=destination.gap_us if source.gap_us is None else source.gap_us,
    )


def unheard(ended_at: State, source: str, destination: str) -> list[str]:
    """Return the hosts that have not told how a move ended that stood at ``ended_at`` when its time was over."""
    match ended_at:
        case State.LIVE:
            return [source, destination]
        case State.CARRIED | State.ABORTING:
            return [source]
        case State.FENCED:
            return [destination]
        case _:
            return []
