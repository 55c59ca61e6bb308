"""A site for benchmarks: controllers and agents, each in a process of its own, on this machine; all ends with the benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serai.lab.population import Population, body_of, key_of
from serai.lab.scale import Scale, host_name
from serai.store.records import Commit, Entry
from serai.store.store import Store
from serai.wire import api
from serai.wire.client import Client, ClientError
from serai.wire.keys import Keys
from serai.wire.profile import find

_START_SECONDS: Final = 120.0
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m")
"""A module that is run as a process, and killed when this one dies."""


class SiteError(RuntimeError):
    """The site does not do what it should; the message says where it has told why."""


@dataclasses.dataclass(kw_only=True)
class Controller:
    """One controller."""

    directory: Path
    database: str
    keys: Path
    port: int
    agents_port: int
    others: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where people reach it."""
        return f"https://localhost:{self.port}"

    @property
    def agents_url(self) -> str:
        """Where agents reach it."""
        return f"wss://localhost:{self.agents_port}"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.directory.mkdir(exist_ok=True)
        config = self.directory / "controller.toml"
        told = {
            "database": self.database, "keys": str(self.keys), "names": ["localhost", "127.0.0.1"], "address": "127.0.0.1",
            "port": self.port, "agents_port": self.agents_port, "controllers": list(self.others),
            "client": str(self.keys.parent / "client.toml"),
        }  # fmt: skip
        told_limits = (
            '[flows]\nstore = "off"\n'
            "[limits]\nstrangers_per_second = 1000\nstrangers_burst = 1000\n"  # all hosts come from one address here
        )
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()) + told_limits)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_WITH_US, "serai.cli.main", "controller", "run", "--config", str(config)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def client(self) -> Client:
        """Ask it, as the first person."""
        profile = find({"XDG_CONFIG_HOME": str(self.directory)}, self.keys.parent / "client.toml")
        return Client(dataclasses.replace(profile, url=self.url))

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ask("GET", "/v1/whoami", api.Person)
            except (ClientError, ValueError):
                if time.monotonic() > until or (self.process and self.process.poll() is not None):
                    raise SiteError(f"the controller does not start: see {self.directory / 'log'}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Kill it, with no time to say anything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def peak_bytes(self) -> int:
        """Return the most memory that it has had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


@dataclasses.dataclass(kw_only=True)
class Site:
    """Controllers over one database, and agents."""

    directory: Path
    scale: Scale
    controllers: list[Controller]
    agents: subprocess.Popen[bytes] | None = None

    @property
    def population(self) -> Population:
        """What there is."""
        return Population(self.scale)

    def fill(self) -> None:
        """Put all resources into the database, in one revision."""
        first = self.controllers[0]
        signer = Keys.open(first.keys, names=["localhost", "127.0.0.1"], now=datetime.now(UTC)).audit_signer()

        async def fill() -> None:
            store = await Store.open(first.database, signer=signer)
            try:
                writes = {key_of(each): body_of(each) for each in self.population.documents()}
                entry = Entry(who="bench", verb="apply", object="resources", scope="/", outcome="done")
                commit = Commit(
                    head=0, by="bench", message="the population", digest="", writes=dict(writes), audit=entry
                )
                await store.revisions.commit(commit, datetime.now(UTC))
            finally:
                await store.close()

        asyncio.run(fill())

    def start_agents(self) -> None:
        """Give each host a token, and start all agents in one process."""
        tokens = {}
        with self.controllers[0].client() as client:
            for number in range(self.scale.hosts):
                host = host_name(number)
                made = client.ask("POST", "/v1/join-tokens", api.JoinToken, body=api.JoinTokenRequest(host=host))
                tokens[host] = made.token
        file = self.directory / "tokens.json"
        file.write_text(json.dumps(tokens))
        s = self.scale
        numbers = map(str, (s.hosts, s.vms, s.vnics, s.tenants))
        with (self.directory / "agents.log").open("ab") as log:
            self.agents = subprocess.Popen(
                [*_WITH_US, "bench.agents", self.controllers[0].url, str(file), str(self.directory / "hosts"), *numbers],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def stop(self) -> None:
        """End all of it."""
        for process in (self.agents, *(controller.process for controller in self.controllers)):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.contextmanager
def site(directory: Path, scale: Scale, database: str, controllers: int = 1) -> Iterator[Site]:
    """Make a site over ``database``; nothing runs yet."""
    ports = _free_ports(2 * controllers)
    pairs = [ports[at : at + 2] for at in range(0, len(ports), 2)]
    urls = [f"wss://localhost:{agents}" for _, agents in pairs]
    made = Site(
        directory=directory, scale=scale,
        controllers=[
            Controller(
                directory=directory / f"controller-{at}", database=database, keys=directory / "keys", port=port,
                agents_port=agents, others=tuple(url for url in urls if url != urls[at]),
            )
            for at, (port, agents) in enumerate(pairs)
        ],
    )  # fmt: skip
    try:
        yield made
    finally:
        made.stop()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
