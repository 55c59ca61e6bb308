"""How relocations are shown to people: what they are for, how far they have come, and what has come of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.planshown import tell_stuck
from serai.cli.show import line
from serai.wire.client import segment
from serai.wire.planapi import StuckVm
from serai.wire.relocationapi import RelocatedVm, Relocation, RelocationShown

_STYLES: Final = {"done": "green", "failed": "red", "stopped": "yellow", "running": "cyan"}


def what(relocation: Relocation) -> str:
    """Say what a relocation is for."""
    if relocation.rebalance:
        return f"levelling the pool {relocation.rebalance}"
    return f"emptying {', '.join(relocation.evacuate)}"


def path(name: str) -> str:
    """Return where a relocation is asked for."""
    return f"/v1/relocations/{segment(name)}"


def tell_end(to: Console, shown: RelocationShown) -> None:
    """Say how a relocation has ended, how long it took, and which VMs stay, and why."""
    relocation = shown.relocation
    seconds = ((relocation.ended or datetime.now(UTC)) - relocation.asked).total_seconds()
    made = [each for each in shown.begun if each.state == "done"]
    style = "yellow" if relocation.stuck and relocation.state == "done" else _STYLES[relocation.state]
    stay = f", and {relocation.stuck} VM{' stays' if relocation.stuck == 1 else 's stay'}" if relocation.stuck else ""
    head = Text.assemble(
        (relocation.state.value.capitalize(), f"bold {style}"),
        f": {relocation.done} of {_moves(relocation.moves)} made in {seconds:.1f} s{stay}",
    )
    head.append(f"; {times}." if (times := _times(made)) else ".")
    line(to, head)
    if relocation.state in {"failed", "stopped"}:
        line(to, f"  {relocation.why}", style=_STYLES[relocation.state])
        again = (
            f"serai rebalance {relocation.rebalance}"
            if relocation.rebalance
            else f"serai evacuate {' '.join(relocation.evacuate)}"
        )
        left = f"{_moves(relocation.waiting)} not begun. " if relocation.waiting else ""
        line(to, f"  {left}`{again}` makes a new plan, from where VMs are now, and goes on.")
    stuck: Sequence[StuckVm] = shown.plan.stuck if shown.plan else ()
    if relocation.state == "done" and not stuck and relocation.evacuate:
        hosts = relocation.evacuate
        line(
            to,
            f"  {'Host' if len(hosts) == 1 else 'Hosts'} {', '.join(hosts)}: no VM is left of those that the plan found there.",
        )
    tell_stuck(to, stuck)


def is_well(relocation: Relocation) -> bool:
    """Say whether all is done that was wanted."""
    return relocation.state == "done" and relocation.stuck == 0


def summary(relocation: Relocation) -> str:
    """Count its moves in one phrase."""
    parts = [f"{relocation.done} of {relocation.moves} done"]
    for number, said in (
        (relocation.aborted, "aborted"),
        (relocation.under_way, "under way"),
        (relocation.waiting, "waiting" if relocation.ended is None else "not begun"),
    ):
        parts += [f"{number} {said}"] if number else []
    return ", ".join(parts)


def state(relocation: Relocation) -> Text:
    """Write where it stands."""
    return Text(relocation.state.value, _STYLES[relocation.state])


def tell_moves(to: Console, begun: Sequence[RelocatedVm]) -> None:
    """List the moves that have begun."""
    if not begun:
        return
    table = Table("MOVE", "VM", "FROM", "TO", "STATE", "TOOK", "NOTE", box=None, pad_edge=False)
    for each in begun:
        style = {"done": "green", "aborted": "red"}.get(each.state, "cyan")
        long = f"{took(each):.1f} s" if each.ended else "-"
        table.add_row(str(each.number), each.vm, each.source or "-", each.to, Text(each.state, style), long, each.why)
    to.print(table)


def _times(made: Sequence[RelocatedVm]) -> str:
    if not made:
        return ""
    longest = max(made, key=took)
    if len(made) == 1:
        return ""
    return f"a move took {statistics.median(map(took, made)):.1f} s (median), at the most {took(longest):.1f} s ({longest.vm})"


def took(each: RelocatedVm) -> float:
    """Return how long a move took that is over, in seconds; its turn is part of that."""
    return ((each.ended or each.asked) - each.asked).total_seconds()


def _moves(number: int) -> str:
    return f"{number} move{'' if number == 1 else 's'}"
