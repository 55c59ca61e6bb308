"""Where VMs are, or are about to be: which hosts need whose rules. No I/O.

It follows from the VMs that there are, from what hosts report and from the moves that are planned, never from the order in which
that was learned. Each step says which VMs it may concern, so that nobody has to look at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Self

from serai.model.inventory import Mac, VirtualMachine, VnicId

Sign = Mac | VnicId
"""By what a host tells a vNIC: its MAC address, or its number."""


class Whereabouts:
    """The VMs, and the hosts that have reported."""

    def __init__(self) -> None:
        """Know of nobody."""
        self._vms: dict[str, VirtualMachine] = {}
        self._owners: dict[Sign, str] = {}
        """The VM that each sign is one of, by path."""
        self._declared: dict[str, set[str]] = {}
        """The VMs that are expected on a host."""
        self._hosts: dict[str, frozenset[Sign]] = {}
        """The signs that each host has reported."""
        self._seen: dict[Sign, set[str]] = {}
        """The hosts that report a sign."""
        self._moves: dict[str, str] = {}

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that have reported."""
        return self._hosts.keys()

    @property
    def moves(self) -> Mapping[str, str]:
        """Where VMs are about to go, by path."""
        return self._moves

    def signs(self, host: str) -> frozenset[Sign] | None:
        """Return what a host has reported; None where it has not."""
        return self._hosts.get(host)

    def seen(self, signs: Iterable[Sign]) -> frozenset[str]:
        """Return the hosts that have reported any of these signs."""
        return frozenset(host for sign in signs for host in self._seen.get(sign, ()))

    def among(self, vms: Mapping[str, VirtualMachine]) -> Self:
        """Return the same with these VMs and no others."""
        others = type(self)()
        others.know(vms)
        for host, signs in self._hosts.items():
            others.report(host, signs)
        for vm, to in self._moves.items():
            others.plan(vm, to)
        return others

    def know(self, vms: Mapping[str, VirtualMachine | None]) -> set[str]:
        """Let some VMs be otherwise (None: gone)."""
        for path in vms:
            if (was := self._vms.pop(path, None)) is not None:
                self._forget(path, was)
        for path, vm in vms.items():
            if vm is not None:
                self._vms[path] = vm
                for sign in signs_of(vm):
                    self._owners[sign] = path
                if vm.host is not None:
                    self._declared.setdefault(vm.host, set()).add(path)
        return set(vms)

    def _forget(self, path: str, vm: VirtualMachine) -> None:
        for sign in signs_of(vm):
            self._owners.pop(sign, None)
        if vm.host is not None:
            self._declared[vm.host].discard(path)

    def report(self, host: str, signs: frozenset[Sign] | None) -> set[str]:
        """A host says which vNICs are there: what is behind its taps, and what its gates guard. None: it is a host no more."""
        before = self._hosts.get(host)
        if before == signs:
            return set()
        if signs is None:
            del self._hosts[host]
        else:
            self._hosts[host] = signs
        return self._look(host, before or frozenset(), signs or frozenset(), other=before is None or signs is None)

    def _look(self, host: str, before: frozenset[Sign], after: frozenset[Sign], *, other: bool) -> set[str]:
        for sign in before - after:
            self._seen[sign].discard(host)
            if not self._seen[sign]:
                del self._seen[sign]
        for sign in after - before:
            self._seen.setdefault(sign, set()).add(host)
        touched = {path for sign in before ^ after if (path := self._owners.get(sign)) is not None}
        if other:  # where VMs belong, and where they go, counts while the host is one
            touched |= self._declared.get(host, set())
            touched |= {path for path, to in self._moves.items() if to == host}
        return touched & self._vms.keys()

    def plan(self, vm: str, to: str | None) -> set[str]:
        """A VM is about to move there; None: it is not."""
        if to is None:
            self._moves.pop(vm, None)
        else:
            self._moves[vm] = to
        return {vm} & self._vms.keys()

    def of(self, path: str) -> frozenset[str]:
        """Return the hosts that need the rules of a VM: those that have reported, and among them where it is or goes."""
        vm = self._vms.get(path)
        if vm is None:
            return frozenset()
        running = self.seen(signs_of(vm))
        expected = running or ({vm.host} if vm.host else set())
        going = {self._moves[path]} if path in self._moves else set()
        return frozenset(expected | going) & self._hosts.keys()

    def all_of(self, paths: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the hosts that need the rules of each of some VMs, by path."""
        return {path: self.of(path) for path in paths}


def signs_of(vm: VirtualMachine) -> Iterator[Sign]:
    """Go through the signs of a VM."""
    for vnic in vm.vnics:
        yield vnic.mac
        yield vnic.id
