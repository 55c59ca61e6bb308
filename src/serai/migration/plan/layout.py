"""Who is where, as arrays: kinds of VMs that nothing tells apart, and what hosts hold."""

from __future__ import annotations

import collections
import operator
from collections.abc import Iterable
from typing import Final

import numpy as np

from serai.migration.plan.asked import Machine, PlanError, PlanHost
from serai.migration.plan.program import Bools, Ints

NEEDS: Final = ("memory_mib", "vnics", "flows")
"""What hosts have room for, in the order of the columns of ``sizes``, ``room`` and ``load``."""
_UNLIMITED: Final = 1 << 47
"""Beyond NO_BOUND, whatever is taken off."""

_Kind = tuple[int, int, int, int, tuple[str, ...]]
"""Number of the hosts that are allowed, memory, vNICs, flows, groups."""


class Layout:
    """A data center while it is planned for: what does not change, and where VMs are by now.

    VMs, hosts and kinds are numbers here, given by name and content: the order in which they were told does not matter.
    """

    def __init__(self, hosts: Iterable[PlanHost], machines: Iterable[Machine], closed: frozenset[str]) -> None:
        """Sort everything into arrays.

        Args:
            hosts: all of them.
            machines: all of them.
            closed: names of hosts to which nobody shall move.

        Raises:
            PlanError: a name comes twice, a host is not known, or something is less than nothing.
        """
        self.hosts: Final = tuple(sorted(hosts, key=lambda host: host.name))
        self.machines: Final = sorted(machines, key=operator.attrgetter("path"))
        self.number: Final = {host.name: at for at, host in enumerate(self.hosts)}
        self.room: Final = np.array([_room(host) for host in self.hosts], np.int64).reshape(-1, len(NEEDS))
        self.closed: Final = np.array([host.name in closed for host in self.hosts], bool)
        self.admits: Final = np.array([host.admits for host in self.hosts], bool)
        self.place = self._places()
        self._sets, told = self._kinds()
        kinds = sorted(set(told))
        numbers = {kind: at for at, kind in enumerate(kinds)}
        self.kind: Final = np.fromiter((numbers[kind] for kind in told), np.int64, len(told))
        self.sizes: Final = np.array([kind[1:4] for kind in kinds], np.int64).reshape(-1, len(NEEDS))
        self.apart: Final = [tuple(dict.fromkeys(kind[4])) for kind in kinds]
        self.allowed: Final = np.array([kind[0] for kind in kinds], np.int64)
        """Of each kind: a number for the hosts that it may run on; the same for the same hosts."""
        self._named: Final[list[Bools]] = [
            np.array([host.name in names for host in self.hosts], bool) for names in self._sets
        ]
        self._spots: Final[list[Bools]] = [named & self.admits & ~self.closed for named in self._named]
        self._by_kind: Final = np.argsort(self.kind, kind="stable")
        self._kind_start: Final = np.searchsorted(self.kind[self._by_kind], np.arange(len(kinds) + 1))
        self._kinds_of_group: Final = collections.defaultdict[str, list[int]](list)
        for at, groups in enumerate(self.apart):
            for group in groups:
                self._kinds_of_group[group].append(at)
        self._check()
        self.load = self._loads()

    def spots(self, kind: int) -> Bools:
        """Return the hosts to which a kind may move as far as placement, pools and the goal go."""
        return self._spots[int(self.allowed[kind])]

    def named(self, kind: int) -> Bools:
        """Return the hosts that a kind is allowed to run on."""
        return self._named[int(self.allowed[kind])]

    def of_kind(self, kind: int) -> Ints:
        """Return all VMs of a kind."""
        return self._by_kind[self._kind_start[kind] : self._kind_start[kind + 1]]

    def group(self, group: str) -> Ints:
        """Return the VMs that are to be kept apart."""
        return np.concatenate([self.of_kind(kind) for kind in self._kinds_of_group[group]])

    def neighbours(self, kind: int) -> set[int]:
        """Return the kinds whose VMs must be kept apart from those of one; it is one of them."""
        return {other for group in self.apart[kind] for other in self._kinds_of_group[group]}

    def fits(self, kind: int) -> Bools:
        """Return the hosts that would take one VM more of a kind, as things are."""
        need = self.sizes[kind]
        found: Bools = self.spots(kind) & ((self.room - self.load >= need) | (need == 0)).all(axis=1)
        for group in self.apart[kind]:
            found[self.place[self.group(group)]] = False
        return found

    def move(self, machine: int, to: int) -> None:
        """Have a VM run on another host."""
        need = self.sizes[self.kind[machine]]
        self.load[self.place[machine]] -= need
        self.load[to] += need
        self.place[machine] = to

    def put_back(self, places: Ints) -> None:
        """Have everybody where they were before."""
        self.place = places.copy()
        self.load = self._loads()

    def _places(self) -> Ints:
        try:
            return np.fromiter((self.number[each.host] for each in self.machines), np.int64, len(self.machines))
        except KeyError:
            lost = next(each for each in self.machines if each.host not in self.number)
            raise PlanError(
                f"VM {lost.path} runs on {lost.host}, which is none of the hosts: name all of them"
            ) from None

    def _kinds(self) -> tuple[list[frozenset[str]], list[_Kind]]:
        """Return the sets of hosts that are allowed, in an order, and the kind of each VM."""
        sets = sorted({each.allowed for each in self.machines}, key=sorted)
        number = {names: at for at, names in enumerate(sets)}
        return sets, [(number[m.allowed], m.memory_mib, m.vnics, m.flows, m.apart) for m in self.machines]

    def _loads(self) -> Ints:
        hosts, needs = len(self.hosts), self.sizes[self.kind]
        return np.stack([np.bincount(self.place, need, hosts) for need in needs.T], axis=1).astype(np.int64)

    def _check(self) -> None:
        """Raise PlanError where something cannot be."""
        names = [host.name for host in self.hosts]
        for what, those in (("host", names), ("VM", [machine.path for machine in self.machines])):
            if len(set(those)) < len(those):
                twice = next(name for name, count in collections.Counter(those).items() if count > 1)
                raise PlanError(f"{what} {twice} is there twice: name each once")
        if (self.sizes < 0).any():
            vm = self.machines[int(self.of_kind(int(np.argmax((self.sizes < 0).any(axis=1))))[0])]
            raise PlanError(f"VM {vm.path} needs less than nothing: memory, vNICs and flows are 0 or more")
        if (self.room < 0).any():
            host = self.hosts[int(np.argmax((self.room < 0).any(axis=1)))]
            raise PlanError(f"host {host.name} has room for less than nothing: take off no more headroom than there is")


def _room(host: PlanHost) -> tuple[int, int, int]:
    return host.memory_mib, host.vnics, _UNLIMITED if host.flows is None else host.flows
