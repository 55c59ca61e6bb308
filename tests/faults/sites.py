"""A site for tests of faults: a controller in a process of its own, and simulated hosts that remember all that they ever held."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serai.agent.join import join
from serai.agent.link.runtime import LinkConfig
from serai.lab.simulated import Pool, SimulatedAgent, SimulatedHost
from serai.model.decode import decode
from serai.model.inventory import vnic_id
from serai.model.ruleset import HostRuleset
from serai.model.tenancy import Scope
from serai.policy.compile import compile_host
from serai.wire import api
from serai.wire.client import Client, ClientError
from serai.wire.profile import ProfileError, find

HERE = Path(__file__).parent
PATIENCE = 30.0
HOSTS = ("a", "b")


def resources(port: int) -> str:
    """Two hosts with a VM each of one tenant, and the port that is open between them."""
    parts = ["kind: Tenant\nmetadata: {name: acme}"]
    parts += [f"kind: Host\nmetadata: {{name: {host}}}" for host in HOSTS]
    parts.append("kind: Network\nmetadata: {name: front, scope: /acme}\nspec: {subnets: [10.0.0.0/24]}")
    parts += [
        f"kind: VirtualMachine\nmetadata: {{name: vm-{host}, scope: /acme}}\nspec: {{host: {host}, vnics: "
        f'[{{network: front, mac: "52:54:00:00:00:0{at}", addresses: [10.0.0.{at}]}}]}}'
        for at, host in enumerate(HOSTS, 1)
    ]
    parts.append(
        "kind: Policy\nmetadata: {name: all, scope: /acme}\nspec:\n  tier: Tenant\n"
        f"  ingress: [{{name: some, action: Accept, ports: [tcp/{port}]}}]"
    )
    return "\n---\n".join(f"apiVersion: serai.dev/v1\n{part}\n" for part in parts)


def digest(host: str, port: int) -> str:
    """What a host must hold then, by the whole compiler and nothing of the controller."""
    return compile_host(decode({"all.yaml": resources(port)}), host, [f"/acme:vm-{host}"]).digest


class Memory(SimulatedHost):
    """Remembers the digest of every ruleset that it ever held."""

    def __init__(self, name: str, pool: Pool) -> None:
        at = HOSTS.index(name) + 1
        self.ever: list[str] = []
        super().__init__(name, {vnic_id(Scope("/acme"), f"vm-{name}", "eth0"): f"52:54:00:00:00:0{at}"}, pool)  # type: ignore[dict-item]

    def _hold(self, ruleset: HostRuleset, bridge: HostRuleset | None) -> None:
        super()._hold(ruleset, bridge)
        self.ever.append(ruleset.digest)


class Site:
    """One controller, and its hosts."""

    def __init__(
        self,
        directory: Path,
        database: str | None = None,
        *,
        first: Site | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        """``first``: the controller beside which this is another."""
        self.directory, self.database = directory, database or f"sqlite:///{directory}/serai.db"
        self.home = first.home if first else directory
        ports = []
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                free = stack.enter_context(socket.socket())
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        self.url, self.agents_port = f"https://localhost:{ports[0]}", ports[1]
        self.agents_url = f"wss://localhost:{ports[1]}"
        told = {
            "database": self.database, "keys": str(self.home / "keys"), "names": ["localhost"], "address": "127.0.0.1",
            "port": ports[0], "agents_port": ports[1], "client": str(self.home / "client.toml"),
        }  # fmt: skip
        written = [f"{n} = {json.dumps(v)}\n" for n, v in told.items()]
        written += [
            '[flows]\nstore = "off"\n',
            "[limits]\n",
            *(f"{n} = {json.dumps(v)}\n" for n, v in (limits or {}).items()),
        ]
        (directory / "controller.toml").write_text("".join(written))
        self.process: subprocess.Popen[bytes] | None = None
        pool = Pool()
        self.hosts = first.hosts if first else {name: Memory(name, pool) for name in HOSTS}
        self.agents: dict[str, SimulatedAgent] = {}
        self._works: list[concurrent.futures.Future[Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def another(self) -> Site:
        """Return another controller over the same database; it does not run yet."""
        directory = self.directory / "another"
        directory.mkdir()
        return Site(directory, self.database, first=self)

    def start(self, place: str = "") -> None:
        """Start the controller, which will die at ``place``."""
        command = [sys.executable, str(HERE / "mortal.py"), str(self.directory / "controller.toml"), place]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.until(self._answers, "the controller answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            with self.client() as client:
                client.ask("GET", "/v1/whoami", api.Person)
        except (ClientError, ProfileError):
            return False
        return True

    def log(self) -> str:
        return (self.directory / "log").read_text()[-4000:]

    def client(self) -> Client:
        profile = find({"XDG_CONFIG_HOME": str(self.home / "nowhere")}, self.home / "client.toml")
        return Client(dataclasses.replace(profile, url=self.url))

    def leads(self) -> bool:
        """Say whether it leads."""
        with self.client() as client:
            return "serai_leads 1.0" in client.text("/metrics")

    def connect(
        self, *names: str, by: Mapping[str, Sequence[str]] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Have hosts (none named: all) join, and keep their links from now on; ``by``: where some find controllers, if elsewhere."""
        for name in names or HOSTS:
            with self.client() as client:
                asked = api.JoinTokenRequest(host=name)
                token = client.ask("POST", "/v1/join-tokens", api.JoinToken, body=asked).token
            join(self.url, token, self.directory / name, name)
            self.link(name, self.hosts[name], by=by, clock=clock)

    def link(
        self,
        name: str,
        host: Memory,
        *,
        by: Mapping[str, Sequence[str]] | None = None,
        clock: Callable[[], float] = time.time,
        state: str = "",
    ) -> SimulatedAgent:
        """Let an agent of a host that has joined begin; ``state``: where its disk is, if elsewhere."""
        agents = by[name] if by and name in by else []
        state_directory = self.directory / (state or name)
        agent = SimulatedAgent(host, LinkConfig(host=name, state=state_directory, agents=agents, clock=clock))
        self.agents[name] = agent
        self.run(agent.run())
        return agent

    def run(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Do something in the loop of the hosts."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._works.append(doing)  # a loop by itself keeps nothing that is waited for by nobody
        return doing

    def status(self) -> dict[str, api.HostStatus]:
        """How the controller sees the hosts."""
        with self.client() as client:
            return {host.name: host for host in client.ask("GET", "/v1/status", api.Status).hosts}

    def apply(self, port: int, message: str = "") -> int | None:
        """Open another port; None: nobody said that it was done."""
        request = api.ChangeRequest(files={"all.yaml": resources(port)}, message=message)
        try:
            with self.client() as client:
                return client.ask("POST", "/v1/apply", api.Applied, body=request).revision
        except ClientError:
            return None

    def head(self) -> int:
        with self.client() as client:
            return client.ask("GET", "/v1/status", api.Status).revision

    def hold(self, port: int) -> bool:
        """Say whether all hosts hold what follows from that port."""
        return all(host.held()[0] == bytes.fromhex(digest(name, port)) for name, host in self.hosts.items())

    def stand(self, port: int) -> bool:
        """Say whether that is so, and all hosts are connected and on record with it."""
        told = [(host.connected, host.behind) for host in self.status().values()]
        return self.hold(port) and told == [(True, False)] * len(self.hosts)

    def until(self, holds: Callable[[], bool], what: str) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < PATIENCE, f"never: {what}\n{self.log()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def audit_is_whole(self) -> bool:
        with self.client() as client:
            asked = api.AuditVerifyRequest(checkpoints=[])
            return client.ask("POST", "/v1/audit/verify", api.AuditVerdict, body=asked).ok

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @staticmethod
    async def _end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def site(
    directory: Path, database: str | None = None, *, dies: str = "", limits: Mapping[str, float] | None = None
) -> Iterator[Site]:
    made = Site(directory, database, limits=limits)
    try:
        made.start(dies)
        yield made
    finally:
        made.close()
