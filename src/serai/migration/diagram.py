"""Draws the state machine of a move from its table: ``python -m serai.migration.diagram`` prints what docs/MOVES.md shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from serai.migration.machine import SAID, TABLE
from serai.migration.states import OVER, Command, Event, State

_ALIKE: Final = (
    ("a host says anything", SAID),
    ("time is over", (Event.OVERDUE, Event.OVERDUE_HERE, Event.OVERDUE_THERE)),
)
"""What is told in one phrase, where all of it comes to the same."""


def mermaid() -> str:
    """Return the diagram, in Mermaid's language: an arrow for each way from one state to another."""
    arrows = [
        f"    {state} --> {target}: {'<br/>'.join(_phrases(events))}"
        for (state, target, _), events in _grouped().items()
        if state is not target
    ]
    ends = [f"    {state} --> [*]" for state in State if state in OVER]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.WAITING}", *arrows, *ends, ""])


def table() -> str:
    """Return a table, in Markdown, of all that changes anything, with what is done; what is not in it changes nothing."""
    rows = [
        f"| `{state}` | {'; '.join(_phrases(events))} | `{target}` | {', '.join(map('`{}`'.format, commands)) or '-'} |"
        for (state, target, commands), events in _grouped().items()
    ]
    return "\n".join(["| at | what happens | then | what is done |", "| --- | --- | --- | --- |", *rows, ""])


def _grouped() -> dict[tuple[State, State, tuple[Command, ...]], list[Event]]:
    """Return the events that lead from one state to another, and have the same done."""
    groups: dict[tuple[State, State, tuple[Command, ...]], list[Event]] = {}
    for state in State:
        for event in Event:
            then = TABLE[state, event]
            if then.state is not state or then.commands:
                groups.setdefault((state, then.state, then.commands), []).append(event)
    return groups


def _phrases(events: Iterable[Event]) -> list[str]:
    left, phrases = list(events), list[str]()
    for phrase, alike in _ALIKE:
        if set(alike) <= set(left):
            left = [event for event in left if event not in alike]
            phrases.append(phrase)
    return [*left, *phrases]


if __name__ == "__main__":
    print(f"```mermaid\n{mermaid()}```\n\n{table()}", end="")  # noqa: T201 (a program of its own)
