"""How a move goes: for each state, and each thing that can happen, what becomes of it and what is done. One table; no I/O, no clock.

What hosts tell may be lost, come twice, late or in another order; each word of theirs says where the guest is by what they see
themselves, and is believed. Before the source has its leave (``DEPART``) a move is ended by the controller alone. From then on
the two hosts finish it between themselves, and the controller only learns how it went.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from serai.migration.states import Command, Event, State
from serai.model.migration import Step


@dataclasses.dataclass(frozen=True, slots=True)
class Then:
    """What becomes of a move."""

    state: State
    commands: tuple[Command, ...] = ()


Table = Mapping[tuple[State, Event], Then]

SAID: Final = (
    Event.PREPARED, Event.STALE, Event.COPIED, Event.SWITCHED, Event.LIVE, Event.CARRIED, Event.FENCED,
    Event.SOURCE_ABORTED, Event.DESTINATION_ABORTED,
)  # fmt: skip
"""What hosts say; all else the controller sees, or is told by people and clocks."""
_OVERDUE: Final = (Event.OVERDUE, Event.OVERDUE_HERE, Event.OVERDUE_THERE)
_ROUTES: Final = (Event.SOURCE_LEFT, Event.SOURCE_CAME, Event.DESTINATION_LEFT, Event.DESTINATION_CAME)
_BEYOND: Final = {
    Event.SWITCHED: State.SWITCHED, Event.LIVE: State.LIVE, Event.CARRIED: State.CARRIED, Event.FENCED: State.FENCED,
}  # fmt: skip
"""Where a host's word leads from any state before: each step includes those before it."""


def _waiting() -> Table:
    here, end = State.WAITING, Then(State.ABORTED, (Command.END,))
    return {
        (here, Event.TURN): Then(State.PLANNED, (Command.PLAN,)),
        **{(here, event): end for event in (Event.ABORT, Event.IMPOSSIBLE, *_OVERDUE)},
        # No host has heard of it: what one says is of another life of the database, and where the VM is, is looked at in its turn.
        **{(here, event): Then(here) for event in (*SAID, *_ROUTES, Event.THERE, Event.RESUMED)},
        # Nothing is planned yet, so that nothing can be held for it.
        (here, Event.HELD): Then(here),
    }


def _planned() -> Table:
    here, end = State.PLANNED, Then(State.ABORTED, (Command.END,))
    return {
        (here, Event.HELD): Then(here, (Command.EXPECT,)),
        (here, Event.IMPOSSIBLE): end,
        (here, Event.PREPARED): Then(State.PREPARED, (Command.DEPART,)),
        # Rules have changed since it was asked: it is asked anew when it holds them.
        (here, Event.STALE): Then(here),
        # That the source has its leave is written down before it gets it. A database that was set back has forgotten it: hosts have not.
        (here, Event.COPIED): Then(State.COPIED),
        **{(here, event): Then(state) for event, state in _BEYOND.items()},
        (here, Event.SOURCE_ABORTED): end,
        (here, Event.DESTINATION_ABORTED): end,
        # Somebody else has moved it.
        (here, Event.THERE): end,
        # A gap in a connection is no failure. What was said may be lost: it is said again when the destination tells what it holds.
        **{(here, event): Then(here) for event in _ROUTES},
        # Without its leave the source has done nothing.
        (here, Event.ABORT): end,
        **{(here, event): end for event in _OVERDUE},
        (here, Event.RESUMED): Then(here, (Command.PLAN,)),
        # It has had its turn.
        (here, Event.TURN): Then(here),
    }


def _on_the_way(here: State) -> Table:
    """The source has its leave: what it does with it only it can say."""
    back = Then(State.ABORTING, (Command.FORGET,))
    again = {Event.SOURCE_CAME: Then(here, (Command.DEPART,)), Event.DESTINATION_CAME: Then(here, (Command.EXPECT,))}
    table = {
        # The agent of the destination has begun anew, and may listen elsewhere.
        (here, Event.PREPARED): Then(here, (Command.DEPART,)),
        # Rules may change while a VM moves: both hosts get the changes.
        **{(here, event): Then(here) for event in (Event.HELD, Event.STALE, Event.TURN)},
        (here, Event.IMPOSSIBLE): back,
        (here, Event.COPIED): Then(State.COPIED),
        **{(here, event): Then(state) for event, state in _BEYOND.items()},
        (here, Event.SOURCE_ABORTED): Then(State.ABORTED, (Command.END,)),
        (here, Event.DESTINATION_ABORTED): back,
        (here, Event.THERE): Then(State.LIVE),
        **{(here, event): Then(here) for event in (Event.SOURCE_LEFT, Event.DESTINATION_LEFT)},
        # An agent that was restarted has forgotten it; one that was not hears nothing new.
        **{(here, event): then for event, then in again.items()},
        (here, Event.ABORT): back,
        **{(here, event): back for event in _OVERDUE},
        (here, Event.RESUMED): Then(here, (Command.PLAN,)),
    }
    if here is State.SWITCHED:
        table |= {
            # Late words of before.
            **{(here, event): Then(here) for event in (Event.PREPARED, Event.COPIED)},
            # The guest is stopped there: leave to begin is of no use any more.
            (here, Event.SOURCE_CAME): Then(here),
            # It is a matter of moments, and only the hosts know whether the guest runs at the destination already.
            (here, Event.ABORT): Then(here, (Command.REFUSE,)),
        }
    return table


def _there(here: State) -> Table:
    """The guest runs at the destination: what is not told by the end of the time stays unknown."""
    done, stay = Then(State.DONE, (Command.END,)), Then(here)
    table = {
        # Late words; and a source that says that nothing has moved, against the destination: sight decides in the end.
        **{(here, event): stay for event in SAID},
        **{(here, event): stay for event in (*_ROUTES, Event.HELD, Event.THERE, Event.TURN)},
        # Where it runs it is reported from: its rules follow from that.
        (here, Event.IMPOSSIBLE): stay,
        (here, Event.ABORT): Then(here, (Command.REFUSE,)),
        (here, Event.OVERDUE): done,
        (here, Event.OVERDUE_THERE): done,
        # Whatever was told: it is where it was.
        (here, Event.OVERDUE_HERE): Then(State.ABORTED, (Command.END,)),
        (here, Event.RESUMED): Then(here, (Command.PLAN,)),
    }
    match here:
        case State.LIVE:
            table |= {
                (here, Event.CARRIED): Then(State.CARRIED),
                (here, Event.FENCED): Then(State.FENCED),
            }
        case State.CARRIED:
            table |= {(here, Event.FENCED): done}
        case _:
            table |= {(here, Event.CARRIED): done}
    return table


def _aborting() -> Table:
    here, again = State.ABORTING, Then(State.ABORTING, (Command.FORGET,))
    beyond = {event: state for event, state in _BEYOND.items() if event is not Event.SWITCHED}
    return {
        (here, Event.SOURCE_ABORTED): Then(State.ABORTED, (Command.END,)),
        # The destination does not know what the source does.
        (here, Event.DESTINATION_ABORTED): Then(here),
        # They had not heard it.
        **{(here, event): again for event in (Event.PREPARED, Event.STALE, Event.COPIED)},
        # Perhaps too late: the source says next that it went on, or that it went back.
        (here, Event.SWITCHED): Then(here),
        # It was too late.
        **{(here, event): Then(state) for event, state in beyond.items()},
        (here, Event.THERE): Then(State.LIVE),
        (here, Event.OVERDUE_THERE): Then(State.LIVE),
        **{(here, event): again for event in (Event.SOURCE_CAME, Event.DESTINATION_CAME)},
        **{(here, event): Then(here) for event in (Event.SOURCE_LEFT, Event.DESTINATION_LEFT)},
        # It is being aborted.
        (here, Event.ABORT): Then(here),
        # The destination does not guard it, and its gate stays closed for whoever it has forgotten.
        (here, Event.OVERDUE): Then(State.ABORTED, (Command.END,)),
        (here, Event.OVERDUE_HERE): Then(State.ABORTED, (Command.END,)),
        (here, Event.RESUMED): Then(here, (Command.PLAN,)),
        # Of no use any more.
        **{(here, event): Then(here) for event in (Event.HELD, Event.IMPOSSIBLE, Event.TURN)},
    }


def _over(here: State) -> Table:
    """Whoever goes on about it has not heard that it is over."""
    return {
        **{(here, event): Then(here, (Command.FORGET,)) for event in SAID},
        (here, Event.ABORT): Then(here, (Command.REFUSE,)),
        **{(here, event): Then(here) for event in Event if event not in {*SAID, Event.ABORT}},
    }


TABLE: Final[Table] = {
    **_waiting(),
    **_planned(),
    **_on_the_way(State.PREPARED),
    **_on_the_way(State.COPIED),
    **_on_the_way(State.SWITCHED),
    **_there(State.LIVE),
    **_there(State.CARRIED),
    **_there(State.FENCED),
    **_aborting(),
    **_over(State.DONE),
    **_over(State.ABORTED),
}
"""What becomes of a move, by where it stands and what happens: every pair is in it."""

STEPS: Final[Mapping[State, Step]] = {
    State.PLANNED: Step.PLANNED,
    State.PREPARED: Step.PREPARED,
    State.COPIED: Step.COPIED,
    State.SWITCHED: Step.SWITCHED,
    State.LIVE: Step.LIVE,
    State.CARRIED: Step.CARRIED,
    State.FENCED: Step.FENCED,
}
"""How far a move has come that stands there. Of those that are aborted, or being aborted, it is what it was before."""

TOLD: Final[Mapping[tuple[bool, Step], Event]] = {
    (False, Step.PREPARED): Event.PREPARED,
    (True, Step.COPIED): Event.COPIED,
    (True, Step.SWITCHED): Event.SWITCHED,
    (False, Step.LIVE): Event.LIVE,
    (False, Step.CARRIED): Event.CARRIED,
    (True, Step.FENCED): Event.FENCED,
    (True, Step.ABORTED): Event.SOURCE_ABORTED,
    (False, Step.ABORTED): Event.DESTINATION_ABORTED,
}
"""What it means that the source (True), or the destination, says that a move has come so far; nothing else is theirs to say."""


def after(state: State, event: Event) -> Then:
    """Return what becomes of a move that stands at ``state`` when ``event`` happens."""
    return TABLE[state, event]
