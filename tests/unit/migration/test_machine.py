"""The table of a move: whole, never stuck, and what must hold whatever it says."""

from __future__ import annotations

import itertools

import pytest

from serai.migration.diagram import mermaid, table
from serai.migration.machine import SAID, STEPS, TABLE, TOLD, after
from serai.migration.states import OVER, Command, Event, State
from serai.model.migration import Step

OVERDUE = (Event.OVERDUE, Event.OVERDUE_HERE, Event.OVERDUE_THERE)
BEFORE_LEAVE = (State.WAITING, State.PLANNED)
ON_THE_WAY = (State.PREPARED, State.COPIED, State.SWITCHED)
THERE = (State.LIVE, State.CARRIED, State.FENCED)


def test_every_state_and_event_is_in_it() -> None:
    assert TABLE.keys() == set(itertools.product(State, Event))
    assert {Event.OVERDUE, *SAID} <= set(Event)
    assert set(TOLD.values()) | {Event.STALE} == set(SAID)


@pytest.mark.parametrize("state", sorted(OVER))
def test_what_is_over_stays_over(state: State) -> None:
    for event in Event:
        then = after(state, event)
        assert then.state is state
        assert set(then.commands) <= {Command.FORGET, Command.REFUSE}


def test_every_state_can_be_come_to() -> None:
    found, new = {State.WAITING}, {State.WAITING}
    while new:
        new = {after(state, event).state for state in new for event in Event} - found
        found |= new
    assert found == set(State)


@pytest.mark.parametrize("overdue", OVERDUE)
@pytest.mark.parametrize("start", State)
def test_time_alone_ends_it(start: State, overdue: Event) -> None:
    state, steps = start, 0
    while state not in OVER:
        state, steps = after(state, overdue).state, steps + 1
        assert steps <= 3


def test_it_ends_exactly_where_it_is_said_to() -> None:
    for (state, _), then in TABLE.items():
        assert (Command.END in then.commands) == (then.state in OVER and state not in OVER)


def test_the_source_gets_its_leave_from_a_destination_that_is_ready_and_from_nothing_else() -> None:
    first = {
        (state, event)
        for (state, event), then in TABLE.items()
        if state in BEFORE_LEAVE and Command.DEPART in then.commands
    }
    assert first == {(State.PLANNED, Event.PREPARED)}
    for (state, _), then in TABLE.items():
        if Command.DEPART in then.commands:  # again: as long as it can begin, and nobody wants it back
            assert then.state in {State.PREPARED, State.COPIED}
            assert state in {State.PLANNED, State.PREPARED, State.COPIED}


def test_before_its_leave_it_is_ended_at_once_and_then_only_by_the_sources_word_or_by_time() -> None:
    for state in BEFORE_LEAVE:
        assert after(state, Event.ABORT).state is State.ABORTED
    ends = {
        (s, e) for (s, e), then in TABLE.items() if s in (*ON_THE_WAY, State.ABORTING) and then.state is State.ABORTED
    }
    assert {event for _, event in ends} == {Event.SOURCE_ABORTED, Event.OVERDUE, Event.OVERDUE_HERE}
    assert {state for state, event in ends if event in OVERDUE} == {State.ABORTING}


def test_a_person_can_abort_until_the_guest_is_stopped() -> None:
    refused = {state for state in State if Command.REFUSE in after(state, Event.ABORT).commands}
    assert refused == {State.SWITCHED, *THERE, *OVER}
    assert {after(state, Event.ABORT).state for state in (State.PREPARED, State.COPIED)} == {State.ABORTING}


def test_nobody_is_told_to_forget_a_guest_that_runs_at_the_destination() -> None:
    for (state, _), then in TABLE.items():
        if state in THERE:
            assert Command.FORGET not in then.commands
            assert then.state in {*THERE, *OVER}
            assert Command.DEPART not in then.commands


def test_it_goes_on_and_never_back() -> None:
    order = [State.WAITING, *STEPS]
    for (state, _), then in TABLE.items():
        if state in order and then.state in order:
            assert order.index(then.state) >= order.index(state) or {state, then.state} == {State.CARRIED, State.FENCED}


def test_words_that_come_again_or_late_change_nothing() -> None:
    said = {event: step for (_, step), event in TOLD.items() if step is not Step.ABORTED}
    for state, step in STEPS.items():
        for event, of in said.items():
            if list(Step).index(of) < list(Step).index(step) and {step, of} != {Step.FENCED, Step.CARRIED}:
                then = after(state, event)
                assert then.state is state, (state, event)


def test_rules_are_planned_from_its_turn_on_by_whoever_leads() -> None:
    assert after(State.WAITING, Event.TURN).commands == (Command.PLAN,)
    for state in set(State) - OVER - {State.WAITING}:
        assert after(state, Event.RESUMED) == type(after(state, Event.RESUMED))(state, (Command.PLAN,))


def test_the_diagram_has_every_way_and_the_table_every_deed() -> None:
    ways = {(s, then.state) for (s, _), then in TABLE.items() if s is not then.state}
    drawn = {tuple(line.split(":")[0].split(" --> ")) for line in mermaid().splitlines() if ": " in line}
    assert {(a.strip(), b.strip()) for a, b in drawn} == ways
    for (state, event), then in TABLE.items():
        changes = then.state is not state or then.commands
        if event not in (*SAID, *OVERDUE):  # those may stand there in one phrase
            assert any(line.startswith(f"| `{state}` |") and event in line for line in table().splitlines()) == bool(
                changes
            )
