"""How plans of moves are asked for, and shown: who goes where in which order, how full hosts become, and who cannot move, and why."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.show import console, line
from serai.cli.traffic.figures import bar
from serai.wire.client import Client
from serai.wire.planapi import PlannedHost, PlannedMove, PlanReply, PlanRequest, StuckVm

_SECONDS: Final = 120.0
"""How long a plan is waited for: those asked for before it are made before it."""
_FEW_MOVES: Final = 24
"""So many are shown one by one; more, by where they go."""
_MOST_ROWS: Final = 24
"""Lines of a table at the most."""
_MOST_REASONS: Final = 12
"""VMs, or sorts of them, whose reasons are shown."""
_NAMED: Final = 3
_BAR: Final = 12
"""Characters."""
_GETTING_FULL: Final = 0.9
_MIB_IN_GIB: Final = 1024
_ALL: Final = "`--json` has all of them"


def planned(client: Client, request: PlanRequest) -> PlanReply:
    """Ask a controller for a plan.

    Raises:
        ClientError: it makes none; the text says why.
    """
    return client.ask("POST", "/v1/plans", PlanReply, body=request, seconds=_SECONDS)


def shown(reply: PlanReply) -> None:
    """Show a plan to a person."""
    to = console()
    line(to, _headline(reply), style="bold")
    for note in _notes(reply):
        line(to, note)
    for each in (_hosts(to, reply), _moves(to, reply)):
        for text in each:
            line(to, text)
    tell_stuck(to, reply.stuck)


def memory(mib: int) -> str:
    """Write MiB as people say it."""
    if mib < _MIB_IN_GIB:
        return f"{mib} MiB"
    gib = mib / _MIB_IN_GIB
    return f"{gib:.1f} GiB" if gib < 100 else f"{gib:,.0f} GiB"  # noqa: PLR2004 (three digits are enough)


def fullness(host: PlannedHost, mib: int) -> float:
    """Return what share of its memory for VMs a host has given away; 1 where nobody knows how much it has."""
    return mib / host.memory if host.memory else 1.0


# What it comes to


def _headline(reply: PlanReply) -> str:
    moves = sum(map(len, reply.rounds))
    if reply.goal.rebalance:
        return _levelled(reply, moves)
    what = f"Emptying {_names(reply.goal.evacuate)}"
    if not moves and not reply.stuck:
        return f"{what}: no VM is there. Nothing to do."
    go = f"{_vms(moves)} {'goes' if moves == 1 else 'go'} in {_rounds(reply)}" if moves else "no VM can go"
    stay = f", {len(reply.stuck)} cannot" if reply.stuck and moves else ""
    return f"{what}: {go}{stay}."


def _levelled(reply: PlanReply, moves: int) -> str:
    pool = f"the pool {reply.goal.rebalance}"
    before, _ = _fullness(reply)
    if not before:
        return f"Nobody knows how full the hosts of {pool} are."
    if not moves:
        return f"{pool[0].upper()}{pool[1:]} is {'level' if reply.proven else 'left as it is'}: {_spread(before)}. Nothing to do."
    return f"Levelling {pool} with {moves} move{'' if moves == 1 else 's'}."


def _fullness(reply: PlanReply) -> tuple[dict[str, float], dict[str, float]]:
    """Return how full hosts are, and will be, as far as that is known."""
    known = [host for host in reply.hosts if host.memory and not host.unknown]
    return (
        {host.host: fullness(host, host.before.memory) for host in known},
        {host.host: fullness(host, host.after.memory) for host in known},
    )


def _spread(full: dict[str, float]) -> str:
    most, least = max(full, key=lambda host: full[host]), min(full, key=lambda host: full[host])
    if f"{full[most]:.0%}" == f"{full[least]:.0%}":
        return f"all its hosts are {full[most]:.0%} full"
    return f"the fullest host, {most}, is {full[most]:.0%} full, the emptiest, {least}, {full[least]:.0%}"


def _notes(reply: PlanReply) -> Iterator[str]:
    if reply.goal.rebalance and reply.rounds:
        for when, full in zip(("Now", "Then"), _fullness(reply), strict=True):
            if full:
                yield f"{when} {_spread(full)}."
    better = "moves more of them" if reply.goal.evacuate else "levels it better, or with fewer moves"
    if reply.proven and reply.stuck:
        yield f"No plan {better}: that is proven."
    elif not reply.proven:
        yield f"There may be a plan that {better}: the search was ended after as much work as it is given."


def _rounds(reply: PlanReply) -> str:
    number = len(reply.rounds)
    return "one round, in any order" if number == 1 else f"{number} rounds, each after the one before it"


# How full hosts are


def _hosts(to: Console, reply: PlanReply) -> Iterator[Text]:
    """Show hosts before and after: those that were asked about first, then those to which most goes."""
    asked = frozenset(reply.goal.evacuate)
    ordered = sorted(
        reply.hosts,
        key=lambda each: (each.host not in asked, each.before.vms - each.after.vms if asked else 0, each.host),
    )
    if not ordered:
        return
    line(to, "")
    table = _table("HOST", "VMS", "BEFORE", "", "AFTER", "", "FREE THEN", "", right={1, 3, 5, 6})
    for each in ordered[:_MOST_ROWS]:
        table.add_row(
            each.host,
            f"{each.before.vms} → {each.after.vms}" if each.before.vms != each.after.vms else str(each.before.vms),
            *_bar(each, each.before.memory),
            *_bar(each, each.after.memory),
            memory(max(each.memory - each.after.memory, 0)) if each.memory and not each.unknown else "-",
            Text("to become empty", "dim")
            if each.host in asked
            else Text("takes nobody" if each.closed else "", "yellow"),
        )
    to.print(table)
    yield from _closed(each for each in ordered if each.host not in asked)
    if rest := ordered[_MOST_ROWS:]:
        fullest = max(fullness(each, each.after.memory) for each in rest)
        come = sum(each.after.vms - each.before.vms for each in rest)
        yield Text(
            f"and {len(rest)} hosts more, with {come:+d} VMs together; none of them becomes fuller than {fullest:.0%}. {_ALL}.",
            "dim",
        )


def _closed(hosts: Iterable[PlannedHost]) -> Iterator[Text]:
    """Say why hosts take nobody: those for which the same is so together."""
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for each in hosts:
        if each.closed:
            reasons[each.closed].append(each.host)
    for why, names in reasons.items():
        yield Text.assemble((f"{_names(names)} {'takes' if len(names) == 1 else 'take'} nobody", "yellow"), f": {why}")


def _bar(host: PlannedHost, mib: int) -> tuple[Text, Text]:
    if not host.memory:
        return Text("?".ljust(_BAR), "dim"), Text("?", "dim")
    share = fullness(host, mib)
    if host.unknown:
        return Text("?".ljust(_BAR), "dim"), Text(f"≥{share:.0%}", "dim")
    style = "red" if share > 1 else "yellow" if share > _GETTING_FULL else "green"
    drawn = bar(share, _BAR)
    return Text.assemble((drawn.rstrip(), style), ("·" * (_BAR - len(drawn.rstrip())), "dim")), Text(
        f"{share:.0%}", style
    )


# Who goes where


def _moves(to: Console, reply: PlanReply) -> Iterator[Text]:
    moves = [(number, move) for number, each in enumerate(reply.rounds, 1) for move in each]
    if not moves:
        return
    line(to, "")
    if len(moves) <= _FEW_MOVES:
        table = _table("ROUND", "VM", "FROM", "TO", "MEMORY", right={0, 4})
        for number, move in moves:
            table.add_row(str(number), move.vm, move.source, move.to, memory(move.memory))
        to.print(table)
        return
    sums = list(_by_destination(moves))
    table = _table("ROUND", "TO", "VMS", "MEMORY", "FROM", "SUCH AS", right={0, 2, 3})
    for number, host, some in sums[:_MOST_ROWS]:
        table.add_row(
            str(number), host, str(len(some)), memory(sum(move.memory for move in some)),
            _names(sorted({move.source for move in some})), some[0].vm,
        )  # fmt: skip
    to.print(table)
    if rest := sums[_MOST_ROWS:]:
        left = sum(len(some) for _, _, some in rest)
        yield Text(f"and {_vms(left)} more, to {len({host for _, host, _ in rest})} hosts. {_ALL}.", "dim")
    else:
        yield Text(f"{len(moves)} moves; {_ALL}.", "dim")


def _by_destination(moves: Iterable[tuple[int, PlannedMove]]) -> Iterator[tuple[int, str, list[PlannedMove]]]:
    """Go through the moves of each round, those to one host together: most first."""
    found: dict[tuple[int, str], list[PlannedMove]] = collections.defaultdict(list)
    for number, move in moves:
        found[number, move.to].append(move)
    for (number, host), some in sorted(found.items(), key=lambda each: (each[0][0], -len(each[1]), each[0][1])):
        yield number, host, some


# Who cannot, and why


def tell_stuck(to: Console, stuck: Sequence[StuckVm]) -> None:
    """Tell why VMs stay: those for which the same is so together."""
    alike: dict[tuple[str, ...], list[StuckVm]] = collections.defaultdict(list)
    for each in stuck:
        alike[tuple(each.why)].append(each)
    if alike:
        line(to, "")
    for why, vms in list(alike.items())[:_MOST_REASONS]:
        hosts = _names(sorted({each.host for each in vms}))
        stay = f"{'stays' if len(vms) == 1 else 'stay'} on {hosts}:"
        line(to, Text(f"{_names([each.vm for each in vms])} {stay}", "bold yellow"))
        for reason in why:
            line(to, Text(f"  {reason}"))
    if left := sum(len(vms) for vms in list(alike.values())[_MOST_REASONS:]):
        line(to, Text(f"and {_vms(left)} more stay. {_ALL}.", "dim"))


def _table(*headings: str, right: Iterable[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at in right else "left", overflow="fold")
    return table


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    if more > 0:
        return f"{', '.join(names[:_NAMED])} and {more} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nothing"


def _vms(number: int) -> str:
    return f"{number} VM{'' if number == 1 else 's'}"
