"""A site for tests: its authority, a controller's keys, and hosts that have joined."""

from __future__ import annotations

import dataclasses
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serai.wire.keypair import key_pem, make_csr, new_key
from serai.wire.keys import Keys
from serai.wire.private import write_private
from serai.wire.tls import agents_context, host_context, peer_context

LOCAL = ("localhost", "127.0.0.1")


def now() -> datetime:
    return datetime.now(UTC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    directory: Path
    keys: Keys

    @classmethod
    def make(cls, directory: Path, *, names: tuple[str, ...] = LOCAL, age: timedelta = timedelta(0)) -> Site:
        return cls(directory=directory, keys=Keys.open(directory / "keys", names=names, now=now() - age))

    def agents(self) -> ssl.SSLContext:
        """What the controller listens for agents with."""
        return agents_context(self.keys.server, self.keys.server_key, self.keys.ca)

    def identity(self, host: str, *, age: timedelta = timedelta(0), under: str = "") -> Path:
        """The directory of a host that joined so long ago."""
        directory = self.directory / (under or host) / "identity"
        key = new_key()
        certificate = self.keys.authority.sign_host(make_csr(key, host), host, now() - age)
        write_private(directory / "host.key", key_pem(key).encode())
        write_private(directory / "host.pem", certificate.encode())
        write_private(directory / "ca.pem", self.keys.authority.pem.encode())
        return directory

    def host(self, host: str, *, age: timedelta = timedelta(0), under: str = "") -> ssl.SSLContext:
        """What such a host shows."""
        directory = self.identity(host, age=age, under=under)
        return host_context(directory / "host.pem", directory / "host.key", directory / "ca.pem")

    def listening(self, host: str, *, age: timedelta = timedelta(0), under: str = "") -> ssl.SSLContext:
        """What it lets other hosts in with."""
        directory = self.identity(host, age=age, under=under)
        return agents_context(directory / "host.pem", directory / "host.key", directory / "ca.pem")

    def reaching(self, host: str, *, age: timedelta = timedelta(0), under: str = "") -> ssl.SSLContext:
        """What it reaches other hosts with."""
        directory = self.identity(host, age=age, under=under)
        return peer_context(directory / "host.pem", directory / "host.key", directory / "ca.pem")
