"""Keeps the rulesets of a whole data center up to date: what changed is compiled again, and nothing else.

What comes out depends on what is, never on how it came about: after any sequence of updates every host's ruleset has the bytes
that compiling everything anew would give it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Self, TypeVar

from serai.model.address import Prefix
from serai.model.columns import Columns
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action, Direction, Policy
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.tenancy import Scope
from serai.model.update import Update
from serai.model.world import LAST_WORD
from serai.policy.compiler.census import Members, census
from serai.policy.compiler.domains import (
    CompiledDomain,
    DomainCompiler,
    Guest,
    Progress,
    Shapes,
    compile_domains,
    guests,
    untold,
)
from serai.policy.compiler.fit import ROOM, Capacity
from serai.policy.compiler.host import Host, Plan
from serai.policy.compiler.inventory import Inventory
from serai.policy.compiler.spell import SpelledPolicy
from serai.policy.compiler.statutes import Statutes

_MANY: Final = 1000
"""From so many things on it is worth while to pause the garbage collector."""
_STALE: Final = 2
"""How many shapes a domain may leave behind, one with another, before all are forgotten."""

T = TypeVar("T")


class Compiler:
    """A data center, compiled."""

    def __init__(
        self,
        *,
        last_word: Mapping[Direction, Action] = LAST_WORD,
        quarantine: Sequence[Prefix] = (),
        room: Capacity = ROOM,
        by: DomainCompiler = compile_domains,
    ) -> None:
        """Begin with nothing: no policies, no VMs, no hosts.

        Args:
            last_word: what is said of a connection that no tier decides.
            quarantine: what VMs in quarantine may reach.
            room: what each host has room for.
            by: compiles routing domains; another than ``compile_domains`` may take other ways to the same.
        """
        self._room, self._by = room, by
        self._statutes = Statutes({}, last_word, quarantine)
        self._shapes: Shapes = {}
        self._inventory = Inventory(Columns.of(()))
        self._members: dict[str, Members] = {}
        self._domains: dict[str, CompiledDomain] = {}
        self._domains_under: dict[Scope, set[str]] = {}
        """The routing domains in which policies of a scope below the provider's matter."""
        self._guests: dict[str, Guest] = {}
        self._guests_in: dict[str, set[str]] = {}
        """The VMs in a routing domain."""
        self._places: dict[str, frozenset[str]] = {}
        self._hosts: dict[str, Host] = {}

    @classmethod
    def of(
        cls,
        policies: Iterable[Policy],
        columns: Columns,
        places: Mapping[str, Collection[str]],
        *,
        last_word: Mapping[Direction, Action] = LAST_WORD,
        quarantine: Sequence[Prefix] = (),
        room: Capacity = ROOM,
        by: DomainCompiler = compile_domains,
        progress: Progress = untold,
    ) -> Self:
        """Compile a whole data center at once: ``places`` are as in ``Update``, the rest as for a new one.

        Raises:
            FitError: a host has no room for what it would have to hold.
            CollisionError: two different things would have the same number.
        """
        made = cls(last_word=last_word, quarantine=quarantine, room=room, by=by)
        with _collector_paused(len(columns.paths)):
            made._inventory = Inventory(columns)
            made._statutes = Statutes.of(map(SpelledPolicy, policies), last_word, quarantine)
            members = {each.name: each for each in census(columns)}
            domains = by(list(members.values()), made._statutes, made._shapes, progress)
            change = _Change(
                statutes=made._statutes, shapes=made._shapes, members=members, domains=domains,
                guests={guest.path: guest for guest in guests(columns)},
                places={path: frozenset(hosts) for path, hosts in places.items()},
            )  # fmt: skip
            made._commit(change, made._plans(change))
        return made

    @property
    def domains(self) -> int:
        """How many routing domains there are."""
        return len(self._domains)

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that need some VM's rules, or once did."""
        return self._hosts.keys()

    def ruleset(self, host: str) -> HostRuleset:
        """Return the ruleset of ``host``: an empty one where it needs no VM's rules."""
        return self._host(host).ruleset

    def digest(self, host: str) -> str:
        """Return the digest of the ruleset of ``host``."""
        return self._host(host).digest

    def _host(self, name: str) -> Host:
        return self._hosts.get(name) or Host(name)

    def update(self, update: Update, progress: Progress = untold) -> dict[str, Delta]:
        """Take an update in; return what it changes, by host.

        Raises:
            FitError: a host has no room for what it would have to hold; nothing has changed.
            CollisionError: two different things would have the same number; nothing has changed.
        """
        change, plans = self._prepare(update, progress)
        self._inventory.change(update.vms)
        self._commit(change, plans)
        return _deltas(plans)

    def foresee(self, update: Update, progress: Progress = untold) -> dict[str, Delta]:
        """Return what an update would change, by host. Nothing changes.

        Raises:
            FitError: a host has no room for what it would have to hold.
            CollisionError: two different things would have the same number.
        """
        return _deltas(self._prepare(update, progress)[1])

    def _prepare(self, update: Update, progress: Progress) -> tuple[_Change, Mapping[str, Plan]]:
        """Compile what is otherwise, and work out what that means for hosts."""
        statutes = self._statutes.replaced(
            {_parted(path): SpelledPolicy(policy) if policy else None for path, policy in update.policies.items()},
            update.last_word,
            update.quarantine,
        )
        known = statutes.alike(self._statutes) and len(self._shapes) < _STALE * (len(self._domains) + 1)
        shapes = self._shapes if known else {}
        changed: dict[str, Guest | None] = dict.fromkeys(update.vms)
        changed |= {guest.path: guest for guest in guests(Columns.of(vm for vm in update.vms.values() if vm))}
        joined = {name for guest in changed.values() if guest for name in guest.domains}
        moved = joined | {name for path in changed.keys() & self._guests.keys() for name in self._guests[path].domains}
        stirred = self._stirred(update, statutes) | moved
        with _collector_paused(len(stirred)):
            members: dict[str, Members | None] = dict.fromkeys(moved)
            members |= {each.name: each for each in self._census(moved, update.vms)}
            wanted = [each for name in sorted(stirred) if (each := members.get(name, self._members.get(name)))]
            domains: dict[str, CompiledDomain | None] = dict.fromkeys(moved)
            domains |= self._by(wanted, statutes, shapes, progress)
            change = _Change(
                statutes=statutes, shapes=shapes, members=members, domains=domains, guests=changed,
                places={path: frozenset(hosts) for path, hosts in update.places.items()},
            )  # fmt: skip
            return change, self._plans(change)

    def _stirred(self, update: Update, statutes: Statutes) -> set[str]:
        """Name the routing domains in which something else may be said now."""
        if not statutes.alike(self._statutes):
            return set(self._domains)
        scopes = {_parted(path)[0] for path in update.policies}
        return {name for scope in scopes for name in self._domains_under.get(scope, ())}

    def _census(self, moved: Collection[str], vms: Mapping[str, VirtualMachine | None]) -> Iterator[Members]:
        """Count who is in some routing domains, after a change of VMs."""
        if not moved:
            return iter(())
        before = {path for name in moved for path in self._guests_in.get(name, ())}
        return census(self._inventory.columns(before, vms), moved)

    def _plans(self, change: _Change) -> dict[str, Plan]:
        """Work out what becomes of each host that a change may concern, by name."""
        leaving: dict[str, list[Guest]] = collections.defaultdict(list)
        arriving: dict[str, list[Guest]] = collections.defaultdict(list)
        for path in change.guests.keys() | change.places.keys():
            before = self._guests.get(path)
            after = change.guests.get(path, before)
            was = self._places.get(path, frozenset())
            if before:
                for host in was:
                    leaving[host].append(before)
            if after:
                for host in change.places.get(path, was):
                    arriving[host].append(after)
        # Hosts of all others that are in a domain where something is said otherwise.
        around = {
            host
            for name in change.domains
            for path in self._guests_in.get(name, ())
            for host in self._places.get(path, ())
        }
        domains = _Layered(change.domains, self._domains)
        return {
            host: self._host(host).plan(leaving[host], arriving[host], domains, change.statutes, self._room)
            for host in sorted(leaving.keys() | arriving.keys() | around)
        }

    def _commit(self, change: _Change, plans: Mapping[str, Plan]) -> None:
        """Make a change what is. Nothing here can fail."""
        self._statutes, self._shapes = change.statutes, change.shapes
        for name, members in change.members.items():
            if name in self._members:
                for scope in self._members[name].scopes:
                    self._domains_under[scope].discard(name)
            if members:
                for scope in members.scopes:
                    self._domains_under.setdefault(scope, set()).add(name)
        for path, guest in change.guests.items():
            if path in self._guests:
                for name in self._guests[path].domains:
                    self._guests_in[name].discard(path)
            if guest:
                for name in guest.domains:
                    self._guests_in.setdefault(name, set()).add(path)
        _patch(self._members, change.members)
        _patch(self._domains, change.domains)
        _patch(self._guests, change.guests)
        self._places |= change.places
        for host, plan in plans.items():
            self._hosts.setdefault(host, Host(host)).carry_out(plan)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Change:
    """What will be otherwise; None: gone."""

    statutes: Statutes
    shapes: Shapes
    members: Mapping[str, Members | None]
    domains: Mapping[str, CompiledDomain | None]
    guests: Mapping[str, Guest | None]
    places: Mapping[str, frozenset[str]]


class _Layered(Mapping[str, CompiledDomain]):
    """Domains as they will be, and below those as they are: a lookup in two tables, and nothing else."""

    def __init__(self, above: Mapping[str, CompiledDomain | None], below: Mapping[str, CompiledDomain]) -> None:
        self._above, self._below = above, below

    def __getitem__(self, name: str) -> CompiledDomain:
        return self._above.get(name) or self._below[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._above.keys() | self._below.keys())

    def __len__(self) -> int:
        return len(self._above.keys() | self._below.keys())


def _deltas(plans: Mapping[str, Plan]) -> dict[str, Delta]:
    return {host: plan.delta for host, plan in plans.items() if plan.delta.before != plan.delta.after}


def _patch(table: dict[str, T], changes: Mapping[str, T | None]) -> None:
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _parted(path: str) -> tuple[Scope, str]:
    """Take the path of a policy apart."""
    scope, _, name = path.rpartition(":")
    return Scope(scope), name


@contextlib.contextmanager
def _collector_paused(things: int) -> Iterator[None]:
    """Keep the garbage collector from looking through a great many things, while they are made, for cycles that they have not."""
    if things < _MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # What was made stays, and nobody need look through it after every few edits.
        gc.freeze()
        gc.enable()
