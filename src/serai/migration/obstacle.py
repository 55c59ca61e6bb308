"""What keeps a VM from a host: each names the tag, the rule or the pool that does.

A name that is empty stands for what whoever is told may not know.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostLacksTag:
    """The VM has a tag that the host does not carry."""

    kind: ClassVar[str] = "host-lacks-tag"
    host: str
    tag: str

    def __str__(self) -> str:
        return f"{_host(self.host)} does not carry the tag {self.tag}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLacksTag:
    """The VM has a tag that a network which it is attached to does not carry: it may run nowhere."""

    kind: ClassVar[str] = "network-lacks-tag"
    network: str
    """Its path."""
    vnic: str
    """The VM's first one on it."""
    tag: str

    def __str__(self) -> str:
        return f"the network {self.network} of its vNIC {self.vnic} does not carry the tag {self.tag}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExclusiveHost:
    """The host carries a tag that the VM does not have, and a rule keeps it for those that have."""

    kind: ClassVar[str] = "exclusive-host"
    host: str
    tag: str
    rule: str

    def __str__(self) -> str:
        return f"{_host(self.host)} takes only VMs with the tag {self.tag} (PlacementRule {self.rule})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeptApart:
    """Others that the VM is kept apart from are on the host, or on their way to it."""

    kind: ClassVar[str] = "kept-apart"
    host: str
    rule: str
    other: str
    """The first of them, by path."""
    more: int = 0
    """How many there are beside it."""

    def __str__(self) -> str:
        more = f" and {self.more} more" if self.more else ""
        return f"{_host(self.host)} has {self.other or 'another VM'}{more}, to be kept apart from it (PlacementRule {self.rule})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OtherPool:
    """The host is not in the pool of the host that the VM runs on."""

    kind: ClassVar[str] = "other-pool"
    host: str
    pool: str | None
    """Its pool; None: it is in none."""
    own: str | None
    """That of the host that the VM runs on."""

    def __str__(self) -> str:
        return f"it runs in {_pool(self.own)}, and {_host(self.host)} is in {_pool(self.pool)}: VMs move within one"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NoHost:
    """No host could take the VM, whatever else runs where."""

    kind: ClassVar[str] = "no-host"
    tags: tuple[str, ...]
    """Its tags, in order."""

    def __str__(self) -> str:
        tags = f"the tag{'s' if len(self.tags) > 1 else ''} {', '.join(self.tags)}" if self.tags else "no tags"
        return f"no host takes a VM with {tags}"


Obstacle = HostLacksTag | NetworkLacksTag | ExclusiveHost | KeptApart | OtherPool | NoHost


def withheld(obstacle: Obstacle, *, host: bool, other: bool) -> Obstacle:
    """Return an obstacle without the name of the host, and without that of another VM."""
    if host and not isinstance(obstacle, NetworkLacksTag | NoHost):
        obstacle = dataclasses.replace(obstacle, host="")
    return dataclasses.replace(obstacle, other="") if other and isinstance(obstacle, KeptApart) else obstacle


def _host(name: str) -> str:
    return f"host {name}" if name else "its host"


def _pool(name: str | None) -> str:
    return "no pool" if name is None else f"the pool {name}"
