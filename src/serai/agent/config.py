"""What an agent is told at its start: by options, and by a file that sets limits."""

from __future__ import annotations

import dataclasses
import enum
import re
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

import msgspec

from serai.model.flow import FLOWS_OF_A_VNIC, IDLE_CLASSES, NEW_FLOWS_A_SECOND

FILE = Path("/etc/serai/agent.toml")
"""Read where there is one and no other is named."""

BPFFS = Path("/sys/fs/bpf/serai")
"""Where the gates are pinned, unless something else is said."""

_Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)]


class ConfigError(ValueError):
    """The config file cannot be used; the message names the file, the place and what to write."""


class Alone(enum.StrEnum):
    """What becomes of VMs that are started while nobody can be asked about them."""

    START = "start"
    VETO = "veto"


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much there may be of what, and where controllers are: the config file."""

    flows_per_vnic: _Count = FLOWS_OF_A_VNIC
    """How many flows a vNIC may hold whose definition does not say; each takes some 210 bytes, from the start."""
    new_flows_per_second: _Count = NEW_FLOWS_A_SECOND
    """How many flows it may open a second, and others to it."""
    idle_seconds: Mapping[str, _Seconds] = msgspec.field(default_factory=dict)
    """How long flows may be silent, where it differs from ``IdleSeconds``; by its names in lower case."""
    map_sizes: Mapping[str, _Count] = msgspec.field(default_factory=dict)
    """How many entries the kernel maps hold at the most, by map; see bpf/maps.h for what stands otherwise."""
    record_seconds: Annotated[int, msgspec.Meta(ge=1, le=300)] = 10
    """How often what the gates count is told, once the host has joined a site."""
    records_megabytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 256
    """How much of that the host's disk keeps while no controller takes it; beyond, the oldest goes, and is counted."""
    without_controller: Alone = Alone.START
    """What becomes of VMs that are started here while no controller answers: ``start``, or ``veto``."""
    without_agent: Alone = Alone.VETO
    """The same while no agent runs; the libvirt hook reads it from the usual file."""
    controllers: Annotated[Sequence[str], msgspec.Meta(max_length=64)] = ()
    """Where controllers are for people, ``https://name:port``: what they told when the host joined, unless something stands here."""
    agents: Annotated[Sequence[str], msgspec.Meta(max_length=64)] = ()
    """Where they listen for agents, ``wss://name:port``; the same."""
    handoff_address: str = ""
    """Where other hosts hand over the flows of VMs that come to this one: an address of this host that they reach, and by which its
    hypervisor takes guests. Unless something stands here it is the one by which controllers are reached."""
    handoff_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8745
    migration_uri: str = "qemu+tls://{host}/system"
    """How this host's hypervisor reaches the one that a guest is moved to: ``{host}`` is its name, ``{address}`` where it takes flows."""
    migration_seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 600
    """How long moving a guest may take; beyond, it stays where it is."""

    def __post_init__(self) -> None:
        """Refuse names that nothing is called by."""
        known = [name.lower() for name in IDLE_CLASSES]
        for name in self.idle_seconds:
            if name not in known:
                message = f"idle_seconds knows no {name!r}: it has {', '.join(known)}"
                raise ValueError(message)
        for key, scheme, urls in (("controllers", "https", self.controllers), ("agents", "wss", self.agents)):
            for url in urls:
                if not re.fullmatch(rf"{scheme}://[^/?#@\s]+:[0-9]{{1,5}}/?", url):
                    message = f"{key} lists {url!r}: write {scheme}://NAME:PORT"
                    raise ValueError(message)
        if self.handoff_address:
            try:
                ip_address(self.handoff_address)
            except ValueError as error:
                raise ValueError(
                    f"handoff_address is {self.handoff_address!r}: write an IP address of this host"
                ) from error
        try:
            self.migration_uri.format(host="h", address="a")
        except (LookupError, ValueError) as error:
            message = f"migration_uri is {self.migration_uri!r}: only {{host}} and {{address}} may stand in it"
            raise ValueError(message) from error

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a config file (TOML).

        Raises:
            ConfigError: it cannot be read, or says what is not understood.
        """
        try:
            return msgspec.convert(tomllib.loads(file.read_text()), cls)
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigError(f"{file}: {error}") from error

    @property
    def idle(self) -> dict[str, int]:
        """``idle_seconds`` by the names of ``IdleSeconds``."""
        return {name.upper(): seconds for name, seconds in self.idle_seconds.items()}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An agent's settings."""

    host: str
    """This host's name, as the policies and the controller know it."""
    socket: Path = Path("/run/serai/agent.sock")
    state: Path = Path("/var/lib/serai")
    """Where the last good ruleset is kept."""
    bpffs: Path = BPFFS
    """Where the gates are pinned: a directory on a bpffs."""
    libvirt: str = "qemu:///system"
    sweep_seconds: float = 1.0
    """How often flows that are over are removed, and how often the watchdog looks at every gate."""
    listen_seconds: float = 0.2
    """How often the gates' events are read."""
    limits: Limits = dataclasses.field(default_factory=Limits)
