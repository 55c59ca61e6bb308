"""Compiles a data center on paper, changes things in it, and takes the time."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from typing import Final

from serai.controller.parallel import compile_in_parallel
from serai.lab.scale import DataCenter, Scale, host_name, tenant_policies, vm_path
from serai.model.policy import Action, Clause, Direction, InCidr, Policy, PortRange, Rule, RuleRef
from serai.model.ports import TCP
from serai.model.ruleset_delta import Delta
from serai.model.update import Update
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.domains import Progress, untold

_COUNTED: Final = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
"""Whose time and memory count: ours, and that of the processes that compiled a share."""
_NEW_PREFIX: Final = IPv4Network("203.0.113.0/24")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How long something took."""

    seconds: float
    cpu_seconds: float
    hosts: int = 0
    """How many hosts it concerned."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A data center, compiled."""

    taken: Taken
    resident_bytes: int
    """The most memory that the process had, with the inventory and the policies in it, and what its helpers had."""
    largest: str
    """The host with the largest ruleset."""
    largest_bytes: int
    digest: str
    """SHA-256 over the digests of all hosts, by name."""


class Trial:
    """One data center, and what is done to it."""

    def __init__(self, scale: Scale, center: DataCenter) -> None:
        """Nothing is compiled yet."""
        self._scale, self._center = scale, center
        self._choice = random.Random(scale.seed)  # noqa: S311 (the same every time, on purpose)
        self._compiler = Compiler()

    @property
    def compiler(self) -> Compiler:
        """What ``compile`` made."""
        return self._compiler

    def compile(self, progress: Progress = untold) -> Outcome:
        """Compile everything, up to the digest of every host."""
        center = self._center
        with _timed() as taken:
            places = {path: (host,) for path, host in center.places.items()}
            self._compiler = Compiler.of(
                center.policies, center.columns, places, by=compile_in_parallel, progress=progress
            )
            digests = {host: self._compiler.digest(host) for host in sorted(self._compiler.hosts)}
        sizes = {host: sum(map(len, self._compiler.ruleset(host).parts.values())) for host in digests}
        largest = max(sizes, key=lambda host: (sizes[host], host))
        return Outcome(
            taken=dataclasses.replace(taken(), hosts=len(digests)),
            resident_bytes=resident_bytes(),
            largest=largest,
            largest_bytes=sizes[largest],
            digest=hashlib.sha256("".join(digests.values()).encode()).hexdigest(),
        )

    def edit(self) -> Taken:
        """Change the port of one rule of some tenant, until the changes of all hosts concerned are there to be sent."""
        _, _, app, _ = tenant_policies(self._choice.randrange(self._scale.tenants), self._scale)
        return self._update(_put(_with_port(app, self._choice.randrange(1024, 65536))))

    def move(self) -> Taken:
        """Move some VM to some host."""
        number = self._choice.randrange(self._scale.hosts * self._scale.vms)
        path = vm_path(number % self._scale.tenants, number // self._scale.tenants)
        return self._update(Update(places={path: (host_name(self._choice.randrange(self._scale.hosts)),)}))

    def rule_for_all(self) -> Taken:
        """Let the provider deny a prefix that no rule spoke of before."""
        ground_rules = self._center.policies[0]
        peers = (Clause(peer=InCidr(prefix=_NEW_PREFIX)),)
        ref = RuleRef.of(ground_rules.scope, ground_rules.name, Direction.INGRESS, "nothing-from-there")
        ingress = (Rule(ref=ref, action=Action.DENY, clauses=peers), *ground_rules.rules[Direction.INGRESS])
        rules = {**ground_rules.rules, Direction.INGRESS: ingress}
        return self._update(_put(dataclasses.replace(ground_rules, rules=rules)))

    def _update(self, update: Update) -> Taken:
        deltas: dict[str, Delta] = {}
        with _timed() as taken:
            deltas = self._compiler.update(update)
        return dataclasses.replace(taken(), hosts=len(deltas))


def resident_bytes() -> int:
    """Return the most memory that this process has had, and the largest one it forked (what they share counts twice)."""
    return sum(resource.getrusage(who).ru_maxrss for who in _COUNTED) * 1024


def _put(policy: Policy) -> Update:
    return Update(policies={f"{policy.scope}:{policy.name}": policy})


def _with_port(policy: Policy, port: int) -> Policy:
    """Return ``policy`` with its first ingress rule about this port."""
    first, *others = policy.rules[Direction.INGRESS]
    ports = (PortRange(protocol=TCP, first=port, last=port),)
    changed = dataclasses.replace(first, clauses=tuple(Clause(peer=c.peer, ports=ports) for c in first.clauses))
    return dataclasses.replace(policy, rules={**policy.rules, Direction.INGRESS: (changed, *others)})


@contextmanager
def _timed() -> Iterator[Callable[[], Taken]]:
    wall, cpu = time.perf_counter(), _cpu_seconds()
    found: list[Taken] = []
    yield lambda: found[0]
    found.append(Taken(seconds=time.perf_counter() - wall, cpu_seconds=_cpu_seconds() - cpu))


def _cpu_seconds() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, _COUNTED))
