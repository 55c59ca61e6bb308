"""Says what is wrong with a plan, by making its moves one by one on paper. It shares nothing with what makes plans."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping

from serai.migration.plan.answer import Move, Plan, Rule
from serai.migration.plan.asked import Evacuate, Goal, Machine, PlanHost, Rebalance


def faults(hosts: Iterable[PlanHost], machines: Iterable[Machine], goal: Goal, plan: Plan) -> list[str]:
    """Return what is wrong with a plan; nothing: it is sound."""
    world = _World(hosts, machines, goal)
    found: list[str] = []
    for moves in plan.rounds:
        staying = []
        for move in moves:  # who leaves in a round holds its room until the round is over
            found += world.objections(move)
            if not world.knows(move):
                continue
            world.arrive(move)
            staying.append(move)
        for move in staying:
            world.depart(move)
    found += world.unlike(plan)
    return found


class _World:
    """Where everybody is."""

    def __init__(self, hosts: Iterable[PlanHost], machines: Iterable[Machine], goal: Goal) -> None:
        self._goal = goal
        self._hosts = {host.name: host for host in hosts}
        self._machines = {machine.path: machine for machine in machines}
        self._at = {machine.path: machine.host for machine in self._machines.values()}
        self._held: Mapping[str, set[str]] = collections.defaultdict(set)
        for path, host in self._at.items():
            self._held[host].add(path)
        self._needs = {name: [0, 0, 0] for name in self._hosts}
        self._groups = {name: collections.Counter[str]() for name in self._hosts}
        for machine in self._machines.values():
            self._count(machine, machine.host, 1)
        self._moved: set[str] = set()

    def knows(self, move: Move) -> bool:
        return move.machine in self._machines and move.to in self._hosts

    def arrive(self, move: Move) -> None:
        self._held[move.to].add(move.machine)
        self._count(self._machines[move.machine], move.to, 1)
        self._at[move.machine] = move.to
        self._moved.add(move.machine)

    def depart(self, move: Move) -> None:
        self._held[move.source].discard(move.machine)
        self._count(self._machines[move.machine], move.source, -1)
        self._moved.discard(move.machine)

    def objections(self, move: Move) -> Iterator[str]:
        """Go through what speaks against a move now."""
        said = f"{move.machine} from {move.source} to {move.to}"
        if not self.knows(move):
            yield f"{said}: there is no such VM, or no such host"
            return
        if move.machine in self._moved:
            yield f"{said}: it moves twice in a round"
        if self._at[move.machine] != move.source:
            yield f"{said}: it is at {self._at[move.machine]}"
        if move.to == move.source:
            yield f"{said}: that is no move"
        match self._goal:
            case Evacuate(hosts=hosts) if move.to in hosts:
                yield f"{said}: that host is to become empty"
            case Rebalance(hosts=hosts) if not {move.to, move.source} <= hosts:
                yield f"{said}: that is not among the hosts that are to be filled equally"
        yield from (f"{said}: {rule.value}" for rule in self.against(self._machines[move.machine], move.to))

    def against(self, machine: Machine, name: str) -> Iterator[Rule]:
        """Go through the rules that keep a VM from a host now."""
        host = self._hosts[name]
        if name not in machine.allowed:
            yield Rule.PLACEMENT
        if not host.admits:
            yield Rule.ADMISSION
        itself = machine.path in self._held[name]
        if any(self._groups[name][group] > itself for group in machine.apart):
            yield Rule.APART
        rooms = (host.memory_mib, host.vnics, host.flows)
        for rule, room, held, need in zip(
            (Rule.MEMORY, Rule.VNICS, Rule.FLOWS), rooms, self._needs[name], machine.needs, strict=True
        ):
            if need and room is not None and held + need > room:
                yield rule

    def unlike(self, plan: Plan) -> Iterator[str]:
        """Go through what a plan says wrongly about how things stand after it."""
        if isinstance(self._goal, Rebalance):
            if len(plan.moves) > self._goal.most_moves:
                yield f"{len(plan.moves)} moves are more than {self._goal.most_moves}"
            return
        stay = {path for host in self._goal.hosts for path in self._held[host]}
        told = {stuck.machine: stuck for stuck in plan.stuck}
        yield from (f"{path} stays, and nothing is said about it" for path in sorted(stay - told.keys()))
        yield from (f"{path} is said to stay, and does not" for path in sorted(told.keys() - stay))
        for path in sorted(stay & told.keys()):
            machine = self._machines[path]
            said = {(block.rule, host) for block in told[path].blocks for host in block.hosts}
            for name in sorted(self._hosts.keys() - self._goal.hosts):
                against = set(self.against(machine, name))
                if not against:
                    yield f"{path} is said to be stuck, and could move to {name}"
                elif name in machine.allowed and not any((rule, name) in said for rule in against):
                    yield f"{path}: nothing is said about {name}"
            if not told[path].blocks:
                yield f"{path}: no rule is said to block it"

    def _count(self, machine: Machine, host: str, times: int) -> None:
        for at, need in enumerate(machine.needs):
            self._needs[host][at] += times * need
        for group in set(machine.apart):
            self._groups[host][group] += times
