"""What an agent is told at its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An agent's settings."""

    host: str
    """This host's name, as the policies and the controller know it."""
    socket: Path = Path("/run/serai/agent.sock")
    state: Path = Path("/var/lib/serai")
    """Where the last good ruleset is kept."""
    bpffs: Path = Path("/sys/fs/bpf/serai")
    """Where the gates are pinned: a directory on a bpffs."""
    libvirt: str = "qemu:///system"
    sweep_seconds: float = 1.0
    """How often flows that are over are removed."""
    flow_quota: int = 16384
    """How many flows one vNIC may hold."""
    map_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many entries the kernel maps hold at the most, by map; see bpf/maps.h for what stands otherwise."""
