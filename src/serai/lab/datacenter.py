"""The whole of Serai in a box: a lab whose hosts have agents, with a controller over them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serai.agent.install import hook_script
from serai.analysis.naming import NamedRow, named_rows
from serai.inventory.files import read_directory
from serai.lab.controller import LabController
from serai.lab.error import LabError
from serai.lab.host import HypervisorHost
from serai.lab.hostfiles import PKI
from serai.lab.image import default_image_directory
from serai.lab.lifecycle import Lab, LabStatus
from serai.lab.policies import EXAMPLES, PolicyDirectory, plan_of
from serai.lab.process import wait_until_gone
from serai.lab.state import DEFAULT_STATE_DIRECTORY, LabState
from serai.model.migration import Receipt
from serai.model.world import World
from serai.wire import api, local
from serai.wire.local import AgentError

Progress = Callable[[str], None]

RECORD_SECONDS = 2
"""How often the lab's agents tell what their gates have counted: nobody shall wait for it here."""

_AGENT_SOCKET = "/run/serai/agent.sock"
_AGENT_STATE = "/run/serai/state"
_AGENT_CONFIG = "/run/serai/agent.toml"
_ANSWER_SECONDS = 20.0
_POLL_SECONDS = 0.05


class DataCenter:
    """Two hypervisor hosts, their VMs, an agent on each host, and the controller."""

    def __init__(
        self,
        lab: Lab,
        policies: PolicyDirectory,
        entry: Mapping[str, str] | None = None,
        moves: Mapping[str, float] | None = None,
    ) -> None:
        """Compose the parts; ``plan`` and ``open`` do that."""
        self.lab = lab
        self.policies = policies
        self.controller = LabController(lab.plan, lab.state, entry or {}, moves)

    @classmethod
    def plan(
        cls,
        source: Path = EXAMPLES,
        state: Path = DEFAULT_STATE_DIRECTORY,
        *,
        prefix: str = "serai-",
        entry: Mapping[str, str] | None = None,
        moves: Mapping[str, float] | None = None,
    ) -> DataCenter:
        """Plan a data center after the files of ``source``; nothing is made yet. ``entry``, ``moves``: the controller's tables of these names."""
        plan = plan_of(PolicyDirectory(source).load(), prefix=prefix)
        lab = Lab(plan, state, image_dir=default_image_directory())
        return cls(lab, PolicyDirectory(state / "policies"), entry, moves)

    @classmethod
    def open(cls, state: Path = DEFAULT_STATE_DIRECTORY) -> DataCenter:
        """Open the data center that is up. LabError when none is."""
        plan = LabState(state).plan()
        if plan is None:
            raise LabError("no lab is up: bring one up with 'serai lab up'")
        return cls(Lab(plan, state, image_dir=default_image_directory()), PolicyDirectory(state / "policies"))

    def up(self, source: Path, progress: Progress) -> None:
        """Make it all: hosts, the controller with its policies, then agents that join it, and only then the VMs.

        LabError where a step fails; ``down`` then cleans up.
        """
        self.lab.make_hosts(progress, hook=hook_script())
        self.policies.copy_from(source)
        self.controller.start()
        progress(f"controller: answers at {self.controller.profile().url}")
        applied = self.controller.apply(dict(read_directory(self.policies.path)))
        progress(f"policies: revision {applied.revision} is in force")
        with ThreadPoolExecutor(len(self.lab.hosts)) as pool:
            for host, _ in zip(self.lab.hosts, pool.map(self._bring_in, self.lab.hosts), strict=True):
                progress(f"host {host.name}: has joined, and its agent is ready")
        self.controller.wait_held(applied.revision)
        progress("policies: " + ", ".join(f"host {host} holds {d[:12]}" for host, d in self.digests().items()))
        self.lab.start_guests(progress)

    def is_whole(self) -> bool:
        """Say whether every host, agent and VM is there, and the controller."""
        status = self.lab.status()
        return (
            all(host.libvirtd for host in status.hosts)
            and all(guest.state == "running" for guest in status.guests)
            and all(self._answers(host.name) for host in self.lab.hosts)
            and self.controller.answers()
        )

    def down(self, progress: Progress) -> bool:
        """Take everything away; False when there was nothing."""
        return self.lab.down(progress)

    def start_agent(self, host: str) -> None:
        """Start the agent of a host and wait until it answers."""
        machine = self.lab.host(host)
        options = ["--host", host, "--state", _AGENT_STATE, "--config", _AGENT_CONFIG]
        command = [sys.executable, "-m", "serai.cli.main", "agent", "run", *options]
        machine.spawn(command, log=self.agent_log(host), name="agent")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self._answers(host):
            if time.monotonic() > deadline:
                raise LabError(f"the agent of host {host} does not answer: see {self.agent_log(host)}")
            time.sleep(_POLL_SECONDS)

    def kill_agent(self, host: str) -> None:
        """Kill the agent of a host with SIGKILL, and wait until it is gone."""
        record = self.lab.state.process(f"{host}.agent")
        if record is None or not record.alive():
            raise LabError(f"host {host} has no running agent")
        record.kill()
        if not wait_until_gone([record], timeout_seconds=_ANSWER_SECONDS):
            raise LabError(f"the agent of host {host} does not end")

    def agent_log(self, host: str) -> Path:
        """Where the agent of a host writes."""
        return self.lab.host(host).path("/var/log/libvirt/serai-agent.log")

    def apply(self) -> api.Applied:
        """Have every host enforce what stands in the lab's directory, and wait until it does."""
        applied = self.controller.apply(dict(read_directory(self.policies.path)))
        self.controller.wait_held(applied.revision)
        return applied

    def move(self, vm: str, to: str) -> Receipt:
        """Move the VM at the path ``vm`` to another host, with its rules and its connections. LabError when it stayed where it was."""
        return self.controller.move(vm, to)

    def agent_status(self, host: str) -> local.StatusReply:
        """Ask the agent of a host how it is. AgentError when it does not answer."""
        return local.ask(self._socket(host), local.Status(), local.StatusReply)

    def statuses(self) -> Mapping[str, local.StatusReply | None]:
        """How each host's agent is; None where it does not answer."""
        found: dict[str, local.StatusReply | None] = {}
        for host in self.lab.hosts:
            try:
                found[host.name] = self.agent_status(host.name)
            except AgentError:
                found[host.name] = None
        return found

    def digests(self) -> Mapping[str, str]:
        """The ruleset that each host's kernel holds; empty where there is none, or nobody to ask."""
        return {host: (status.digest or "") if status else "" for host, status in self.statuses().items()}

    def status(self) -> LabStatus:
        """How the hosts and VMs are."""
        return self.lab.status()

    def wait_told(self) -> None:
        """Wait until the controller has been told what has happened until now, or 20 s: what is missing then shows in its answers."""
        time.sleep(2 * RECORD_SECONDS)  # an interval may have begun just now, and takes its time to be told
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            if all(s and s.records and not s.records.batches for s in self.statuses().values()):
                return
            time.sleep(_POLL_SECONDS)

    def rows(self, world: World, *hosts: str) -> list[NamedRow]:
        """What the gates of these hosts (none given: of all) have counted."""
        replies = {
            host: local.ask(self._socket(host), local.Rows(), local.RowsReply)
            for host in hosts or [host.name for host in self.lab.hosts]
        }
        rules = {text: number for reply in replies.values() for text, number in reply.rules.items()}
        return named_rows(world, {host: reply.rows for host, reply in replies.items()}, rules)

    def _bring_in(self, host: HypervisorHost) -> None:
        """Have a host join, and start its agent."""
        settings = f'record_seconds = {RECORD_SECONDS}\nmigration_uri = "qemu+tls://{{host}}/system?pkipath={PKI}"\n'
        host.path(_AGENT_CONFIG).write_text(settings)
        token = self.controller.join_token(host.name)
        command = [sys.executable, "-m", "serai.cli.main", "agent", "join", self.controller.url]
        joined = host.run([*command, "--host", host.name, "--state", _AGENT_STATE, "--token", token])
        if joined.returncode:
            raise LabError(f"host {host.name} cannot join: {joined.stderr.strip()}")
        self.start_agent(host.name)

    def _socket(self, host: str) -> Path:
        return self.lab.host(host).path(_AGENT_SOCKET)

    def _answers(self, host: str) -> bool:
        try:
            self.agent_status(host)
        except AgentError:
            return False
        return True
