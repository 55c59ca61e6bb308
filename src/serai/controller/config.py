"""What a controller is told at its start: a file, which may be missing."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path
from typing import Annotated, Self

import msgspec

from serai.controller.api.doorkeeper import Limits
from serai.controller.moves.config import MoveSettings
from serai.controller.oidc import OidcSettings
from serai.controller.placing.entering import EntrySettings
from serai.controller.planning.config import PlanningSettings
from serai.controller.traffic.config import FlowSettings

FILE = Path("/etc/serai/controller.toml")
"""Read where there is one and no other is named."""

_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class ConfigError(ValueError):
    """The config file cannot be used; the message names the file, the place and what to write."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A controller's settings; the file has the same names."""

    database: str = "sqlite:////var/lib/serai/serai.db"
    """Where state is kept: ``sqlite:///FILE``, or ``postgresql://...`` for several controllers."""
    keys: Path = Path("/etc/serai/keys")
    """The site's keys: of its certificate authority, of its audit log, and this controller's own. All controllers need the same ones."""
    names: list[str] = msgspec.field(default_factory=lambda: [socket.gethostname()])
    """Names and addresses by which people and agents reach this controller; the first is what they are told."""
    address: str = "0.0.0.0"  # noqa: S104 (agents and people are on other machines)
    """Where it listens."""
    port: _Port = 8743
    """For people and tools: HTTPS."""
    agents_port: _Port = 8744
    """For agents: WebSockets over mutual TLS."""
    controllers: list[str] = msgspec.field(default_factory=list)
    """Where agents find the other controllers, such as ``wss://c2.example:8744``."""
    client: Path = Path("/etc/serai/client.toml")
    """Where the first start writes a token for whoever administers this machine."""
    limits: Limits = msgspec.field(default_factory=Limits)
    """How much one caller may ask; where many come from one address, more."""
    flows: FlowSettings = msgspec.field(default_factory=FlowSettings)
    """Where records of traffic are kept."""
    moves: MoveSettings = msgspec.field(default_factory=MoveSettings)
    """How VMs are moved."""
    planning: PlanningSettings = msgspec.field(default_factory=PlanningSettings)
    """What plans of moves leave free, and aim for."""
    entry: EntrySettings = msgspec.field(default_factory=EntrySettings)
    """What is asked of VMs that come in from another host."""
    oidc: OidcSettings | None = None
    """Who else speaks for people."""

    @classmethod
    def read(cls, file: Path | None = None) -> Self:
        """Read a config file (TOML); None: the usual one, where there is one.

        Raises:
            ConfigError: it cannot be read, or says what is not understood.
        """
        if file is None and not FILE.exists():
            return cls()
        file = file or FILE
        try:
            return msgspec.convert(tomllib.loads(file.read_text()), cls, dec_hook=_path)
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigError(f"{file}: {error}") from error

    @property
    def agents_url(self) -> str:
        """Where agents reach this controller."""
        return f"wss://{_bracketed(self.names[0])}:{self.agents_port}"

    @property
    def url(self) -> str:
        """Where people reach this controller."""
        return f"https://{_bracketed(self.names[0])}:{self.port}"


def _path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"{value!r} is no path")


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
