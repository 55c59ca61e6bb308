"""A move between two hosts and a controller, in every order in which things can happen: killed, cut off, interrupted, too late.

The hosts are played by what they are bound to do (docs/MOVES.md); what is true, the test knows. Connections keep the order of what they
carry, and lose what they carry when they are cut. All that can be come to is looked at, so that nothing is left to chance.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from serai.migration.machine import TOLD, after
from serai.migration.states import OVER, Command, Event, State
from serai.model.migration import Step

HERE, THERE = True, False
"""The source, and the destination: as in ``TOLD``."""
LONGEST: Final = 2
"""So much is on its way in one direction at the most: who has more to say waits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What an agent knows of the move, and what its gate does."""

    step: Step | None = None
    """What it said last; None: it knows of no move."""
    gate: bool = False
    connected: bool = True
    heard: tuple[Command, ...] = ()
    """What was sent to it, and is on its way."""
    said: tuple[Step, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Play:
    """How everything is."""

    state: State = State.PLANNED
    """As it is written down: a controller that is killed goes on from there."""
    source: Host = Host(gate=True)
    destination: Host = Host()
    guest: bool = HERE
    stopped: bool = False
    guessed: bool = False
    """The end was written down for want of news."""

    def host(self, which: bool) -> Host:  # noqa: FBT001
        return self.source if which else self.destination

    def having(self, which: bool, **what: object) -> Play:  # noqa: FBT001
        changed = dataclasses.replace(self.host(which), **what)  # type: ignore[arg-type]
        return dataclasses.replace(self, **{"source" if which else "destination": changed})

    # The controller

    def happens(self, event: Event) -> Play:
        then = after(self.state, event)
        guess = event in {Event.OVERDUE, Event.OVERDUE_HERE} and self.state is State.ABORTING
        play = dataclasses.replace(self, state=then.state, guessed=self.guessed or guess)
        for command in then.commands:
            match command:
                case Command.EXPECT:
                    play = play.send(THERE, command)
                case Command.DEPART:
                    play = play.send(HERE, command)
                case Command.FORGET | Command.END:
                    play = play.send(HERE, Command.FORGET).send(THERE, Command.FORGET)
                case Command.PLAN | Command.REFUSE:
                    pass
        return play

    def send(self, which: bool, command: Command) -> Play:  # noqa: FBT001
        host = self.host(which)
        return self.having(which, heard=(*host.heard, command)) if host.connected else self

    # The hosts

    def says(self, which: bool, step: Step, **what: object) -> Play:  # noqa: FBT001
        host = self.host(which)
        return self.having(which, step=step, said=(*host.said, step) if host.connected else (), **what)


Action = Callable[[Play], Play]


def listens(which: bool) -> Action:  # noqa: FBT001
    """The controller hears what a host said next."""

    def does(play: Play) -> Play:
        if not play.host(which).said:
            return play
        step, *rest = play.host(which).said
        return play.having(which, said=tuple(rest)).happens(TOLD[which, step])

    return does


def hears(which: bool) -> Action:  # noqa: FBT001
    """A host hears what was sent to it next."""

    def does(play: Play) -> Play:
        if not play.host(which).heard:
            return play
        command, *rest = play.host(which).heard
        play = play.having(which, heard=tuple(rest))
        step = play.host(which).step
        match which, command:
            case False, Command.EXPECT:
                return play.says(THERE, step or Step.PREPARED)
            case True, Command.DEPART if play.guest is HERE and step is None:
                return play.says(HERE, Step.COPIED)
            case True, Command.DEPART if step is not None:
                return play.says(HERE, step)
            case True, Command.FORGET if play.guest is HERE and step not in {None, Step.ABORTED}:
                return back(play)
            case True, Command.FORGET if play.guest is HERE:
                return play.says(HERE, Step.ABORTED) if play.state not in OVER else play.having(HERE, step=None)
            case _, Command.FORGET:
                return play.having(which, step=None)
        return play

    return does


def back(play: Play) -> Play:
    """The source stays what it was, or is that again; the destination hears of it over the connection between the two."""
    play = dataclasses.replace(play, stopped=False).says(HERE, Step.ABORTED, gate=True)
    return play.having(THERE, step=None)


def works(which: bool) -> Action:  # noqa: FBT001
    """A host does the next thing that is its own to do, over the connection between the two."""

    def does(play: Play) -> Play:
        match which, play.source.step, play.destination.step:
            case True, Step.COPIED, Step.PREPARED if play.guest is HERE:
                return dataclasses.replace(play, stopped=True).says(HERE, Step.SWITCHED, gate=False)
            case True, Step.SWITCHED, Step.CARRIED:
                return play.says(HERE, Step.FENCED)
            case False, Step.SWITCHED, Step.PREPARED:
                return dataclasses.replace(play, guest=THERE, stopped=False).says(THERE, Step.LIVE, gate=True)
            case False, _, Step.LIVE:
                return play.says(THERE, Step.CARRIED)
        return play

    return does


def fails(play: Play) -> Play:
    """Something goes wrong before the guest runs at the destination."""
    return back(play) if play.guest is HERE and play.source.step in {Step.COPIED, Step.SWITCHED} else play


def refuses(play: Play) -> Play:
    """The destination takes nothing more: what comes is malformed, or wider than policy allows."""
    return play.says(THERE, Step.ABORTED) if play.guest is HERE and play.destination.step is Step.PREPARED else play


def forgets(which: bool) -> Action:  # noqa: FBT001
    """An agent is killed and begins anew; gates go on, and a guest that was stopped for a move runs again."""

    def does(play: Play) -> Play:
        play = cut(which)(play).having(which, step=None)
        if which is HERE and play.guest is HERE:
            return dataclasses.replace(play, stopped=False).having(HERE, gate=True).having(THERE, step=None)
        return play

    return does


# Connections


def cut(which: bool) -> Action:  # noqa: FBT001
    def does(play: Play) -> Play:
        if not play.host(which).connected:
            return play
        play = play.having(which, connected=False, heard=(), said=())
        return play.happens(Event.SOURCE_LEFT if which else Event.DESTINATION_LEFT)

    return does


def comes(which: bool) -> Action:  # noqa: FBT001
    def does(play: Play) -> Play:
        host = play.host(which)
        if host.connected:
            return play
        play = play.having(which, connected=True, said=() if host.step is None else (host.step,))
        return play.happens(Event.SOURCE_CAME if which else Event.DESTINATION_CAME)

    return does


def restarts(play: Play) -> Play:
    """Another controller leads."""
    return cut(THERE)(cut(HERE)(play)).happens(Event.RESUMED)


# What the controller sees for itself


def looks(play: Play) -> Play:
    both = play.source.connected and play.destination.connected
    if both and play.destination.gate and play.guest is THERE:
        return play.happens(Event.THERE)
    return play.happens(Event.HELD) if play.state is State.PLANNED and play.destination.connected else play


def time_is_over(play: Play) -> Play:
    if play.destination.connected and play.destination.gate:
        return play.happens(Event.OVERDUE_THERE)
    both = play.source.connected and play.destination.connected
    return play.happens(Event.OVERDUE_HERE if both and play.guest is HERE else Event.OVERDUE)


def aborts(play: Play) -> Play:
    return play.happens(Event.ABORT)


ACTIONS: dict[str, Action] = {
    **{f"{does.__name__} {'here' if which else 'there'}": does(which) for does in (hears, listens, works, cut, comes, forgets) for which in (HERE, THERE)},
    **{does.__name__: does for does in (fails, refuses, restarts, looks, time_is_over, aborts)},
}  # fmt: skip


def wrong(play: Play) -> str:
    """Say what must not be; empty: nothing is wrong."""
    if play.source.gate and play.destination.gate:
        return "two gates forward"
    if play.stopped and (play.source.gate or play.destination.gate):
        return "a gate forwards for a guest that is stopped"
    if play.guest is THERE and play.source.gate:
        return "a gate forwards for a guest that is gone"
    if play.state is State.DONE and play.guest is HERE:
        return "it is said to have moved, and has not"
    if play.state is State.ABORTED and play.guest is THERE and not play.guessed:
        return "it is said to be where it was, and is not"
    return ""


def crowded(play: Play) -> bool:
    return any(len(way) > LONGEST for host in (play.source, play.destination) for way in (host.heard, host.said))


def all_that_can_be(begin: Play) -> Iterator[tuple[Play, Callable[[], list[str]]]]:
    """Go through all that can be come to, each with the way there."""
    before: dict[Play, tuple[Play, str] | None] = {begin: None}
    waiting = deque([begin])

    def way(to: Play) -> list[str]:
        steps = []
        at = before[to]
        while at is not None:
            steps.append(at[1])
            at = before[at[0]]
        return steps[::-1]

    while waiting:
        play = waiting.popleft()
        yield play, lambda play=play: way(play)  # type: ignore[misc]
        for name, does in ACTIONS.items():
            then = does(play)
            if then not in before and not crowded(then):
                before[then] = play, name
                waiting.append(then)


def test_whatever_happens_one_gate_forwards_and_the_end_is_true() -> None:
    seen, ends = 0, set()
    for play, way in all_that_can_be(Play()):
        assert not (why := wrong(play)), (why, way(), play)
        seen += 1
        ends |= {(play.state, play.guest, play.guessed)} if play.state in OVER else set()
    assert seen > 10_000
    assert {state for state, _, guessed in ends if not guessed} == OVER


def test_undisturbed_it_comes_to_an_end_by_the_hosts_words() -> None:
    play = looks(Play())
    order = ("hears", "works", "listens")
    for name in [f"{does} {where}" for _ in range(8) for where in ("there", "here") for does in order]:
        play = ACTIONS[name](play)
    assert (play.state, play.guest, play.source.gate, play.destination.gate) == (State.DONE, THERE, False, True)


@given(
    st.lists(st.sampled_from(Event), max_size=60),
    st.sampled_from([Event.OVERDUE, Event.OVERDUE_HERE, Event.OVERDUE_THERE]),
)
def test_whatever_is_said_it_ends_once_its_times_are_over(events: list[Event], overdue: Event) -> None:
    state, ends = State.WAITING, 0
    for event in (*events, overdue, overdue, overdue):
        then = after(state, event)
        state, ends = then.state, ends + (Command.END in then.commands)
    assert state in OVER
    assert ends == 1
