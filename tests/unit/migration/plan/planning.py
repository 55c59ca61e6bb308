"""Small data centers for plans, and the slow, obvious way to find out what can be done in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from hypothesis import strategies as st

from serai.migration.plan.asked import Evacuate, Machine, PlanHost

_T = TypeVar("_T")
World = tuple[list[PlanHost], list[Machine], Evacuate]
State = tuple[str, ...]
"""The host of each VM, in order."""


def host(name: str, memory_mib: int, *, vnics: int = 100, flows: int | None = None, admits: bool = True) -> PlanHost:
    return PlanHost(name=name, memory_mib=memory_mib, vnics=vnics, flows=flows, admits=admits)


def vm(path: str, at: str, memory_mib: int, allowed: str, apart: tuple[str, ...] = (), *, vnics: int = 1) -> Machine:
    names = frozenset(allowed.split())
    return Machine(path=path, host=at, memory_mib=memory_mib, vnics=vnics, allowed=names, apart=apart)


@st.composite
def worlds(draw: Callable[[st.SearchStrategy[_T]], _T], most_vms: int = 7) -> World:
    """Hosts with hardly any room, so that VMs are in each other's way."""
    names = draw(st.sampled_from((("a", "b", "c"), ("a", "b", "c", "d"))))
    load = dict.fromkeys(names, 0)
    machines = []
    for number in range(draw(st.integers(3, most_vms))):
        at, memory = draw(st.sampled_from(names)), draw(st.integers(1, 4))
        elsewhere = draw(st.frozensets(st.sampled_from(names), min_size=1))
        allowed = elsewhere | ({at} if draw(st.integers(0, 9)) else frozenset())
        apart = tuple(group for group in ("g", "h") if draw(st.integers(0, 7)) == 0)
        vnics = draw(st.integers(0, 1))
        machines.append(
            Machine(path=f"/t:{number}", host=at, memory_mib=memory, vnics=vnics, allowed=allowed, apart=apart)
        )
        load[at] += memory
    hosts = [
        PlanHost(
            name=name,
            memory_mib=max(0, load[name] + draw(st.sampled_from((-1, 0, 0, 1, 1, 2, 3)))),
            vnics=draw(st.sampled_from((2, 3, 100))),
            admits=draw(st.integers(0, 19)) > 0,
        )
        for name in names
    ]
    leave = draw(st.frozensets(st.sampled_from(names), min_size=1, max_size=2))
    return hosts, machines, Evacuate(hosts=leave)


def most_that_leave(world: World) -> int:
    """Try every sequence of moves."""
    hosts, machines, goal = world
    start: State = tuple(machine.host for machine in machines)
    seen, waiting, best = {start}, [start], 0
    left = sum(at in goal.hosts for at in start)
    while waiting:
        state = waiting.pop()
        best = max(best, left - sum(at in goal.hosts for at in state))
        for after in _after(hosts, machines, goal, state):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return best


def _after(hosts: list[PlanHost], machines: list[Machine], goal: Evacuate, state: State) -> Iterator[State]:
    for number, machine in enumerate(machines):
        for to in hosts:
            there = [other for other, at in zip(machines, state, strict=True) if at == to.name]
            if (
                to.name not in goal.hosts
                and to.admits
                and to.name in machine.allowed
                and to.name != state[number]
                and not any(set(machine.apart) & set(other.apart) for other in there)
                and _fits(machine.memory_mib, (other.memory_mib for other in there), to.memory_mib)
                and _fits(machine.vnics, (other.vnics for other in there), to.vnics)
            ):
                yield (*state[:number], to.name, *state[number + 1 :])


def _fits(need: int, held: Iterator[int], room: int) -> bool:
    return need == 0 or need + sum(held) <= room
