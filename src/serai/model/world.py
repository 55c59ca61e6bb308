"""Everything a verdict depends on, in one immutable value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from serai.model.address import Address, Prefix
from serai.model.invariant import Invariant
from serai.model.inventory import Host, Network, VirtualMachine, Vnic
from serai.model.placement import NO_TERMS, PlacementTerms
from serai.model.policy import Action, Direction, Policy
from serai.model.registered import NOTHING_REGISTERED, Registry

LAST_WORD: Mapping[Direction, Action] = MappingProxyType(
    {Direction.INGRESS: Action.DENY, Direction.EGRESS: Action.ACCEPT}
)
"""What is said of a connection that no tier decides, unless the site says otherwise."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A consistent set of resources: every reference resolved, no name or address twice."""

    hosts: Mapping[str, Host] = dataclasses.field(default_factory=dict)
    """By name."""
    networks: Mapping[str, Network] = dataclasses.field(default_factory=dict)
    """By path."""
    vms: Mapping[str, VirtualMachine] = dataclasses.field(default_factory=dict)
    """By path."""
    policies: tuple[Policy, ...] = ()
    """In no particular order; tier, scope, priority and name say when each is asked."""
    last_word: Mapping[Direction, Action] = dataclasses.field(default_factory=lambda: LAST_WORD)
    quarantine: tuple[Prefix, ...] = ()
    """What an isolated VM may reach and be reached from, in order."""
    invariants: tuple[Invariant, ...] = ()
    """What the policies have to keep true, in order of path. No verdict depends on them."""
    placement: PlacementTerms = NO_TERMS
    """Where VMs may run. No verdict depends on it, and no ruleset."""
    registry: Registry = NOTHING_REGISTERED
    """What VMs boot from and are made of. The same is true of it."""

    def vnics(self) -> Iterator[tuple[VirtualMachine, Vnic]]:
        """Go through every vNIC with its VM, in order of path."""
        for path in sorted(self.vms):
            vm = self.vms[path]
            for vnic in vm.vnics:
                yield vm, vnic

    def holder(self, routing_domain: str, address: Address) -> tuple[VirtualMachine, Vnic] | None:
        """Return who holds ``address`` in ``routing_domain``, or None when no VM does."""
        for vm, vnic in self.vnics():
            if vnic.network.routing_domain == routing_domain and address in vnic.held:
                return vm, vnic
        return None
