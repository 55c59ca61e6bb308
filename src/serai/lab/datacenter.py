"""The whole of Serai in a box: a lab whose hosts have agents, with a controller over them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serai.agent.install import hook_script
from serai.analysis.naming import NamedRow, named_rows
from serai.controller.move import Moved, move
from serai.controller.runtime import Applied, ControllerRuntime
from serai.lab.error import LabError
from serai.lab.image import default_image_directory
from serai.lab.lifecycle import Lab, LabStatus
from serai.lab.policies import EXAMPLES, PolicyDirectory, plan_of
from serai.lab.process import wait_until_gone
from serai.lab.state import DEFAULT_STATE_DIRECTORY, LabState
from serai.model.world import World
from serai.wire import local
from serai.wire.local import AgentError

Progress = Callable[[str], None]

_AGENT_SOCKET = "/run/serai/agent.sock"
_AGENT_STATE = "/run/serai/state"
_ANSWER_SECONDS = 20.0
_POLL_SECONDS = 0.05


class DataCenter:
    """Two hypervisor hosts, their VMs, an agent on each host, and the controller."""

    def __init__(self, lab: Lab, policies: PolicyDirectory) -> None:
        """Compose the parts; ``plan`` and ``open`` do that."""
        self.lab = lab
        self.policies = policies
        self.controller = ControllerRuntime({host.name: host.path(_AGENT_SOCKET) for host in lab.hosts})

    @classmethod
    def plan(
        cls, source: Path = EXAMPLES, state: Path = DEFAULT_STATE_DIRECTORY, *, prefix: str = "serai-"
    ) -> DataCenter:
        """Plan a data center after the files of ``source``; nothing is made yet."""
        plan = plan_of(PolicyDirectory(source).load(), prefix=prefix)
        lab = Lab(plan, state, image_dir=default_image_directory())
        return cls(lab, PolicyDirectory(state / "policies"))

    @classmethod
    def open(cls, state: Path = DEFAULT_STATE_DIRECTORY) -> DataCenter:
        """Open the data center that is up. LabError when none is."""
        plan = LabState(state).plan()
        if plan is None:
            raise LabError("no lab is up: bring one up with 'serai lab up'")
        return cls(Lab(plan, state, image_dir=default_image_directory()), PolicyDirectory(state / "policies"))

    def up(self, source: Path, progress: Progress) -> None:
        """Make it all: hosts, then agents with their rulesets, and only then the VMs.

        LabError where a step fails; ``down`` then cleans up.
        """
        self.lab.make_hosts(progress, hook=hook_script())
        self.policies.copy_from(source)
        for host in self.lab.hosts:
            self.start_agent(host.name)
            progress(f"host {host.name}: the agent is ready")
        applied = self.apply(self.policies.load())
        progress("policies: " + ", ".join(f"host {host} holds {d[:12]}" for host, d in applied.digests.items()))
        self.lab.start_guests(progress)

    def is_whole(self) -> bool:
        """Say whether every host, agent and VM is there."""
        status = self.lab.status()
        return (
            all(host.libvirtd for host in status.hosts)
            and all(guest.state == "running" for guest in status.guests)
            and all(self._answers(host.name) for host in self.lab.hosts)
        )

    def down(self, progress: Progress) -> bool:
        """Take everything away; False when there was nothing."""
        return self.lab.down(progress)

    def start_agent(self, host: str) -> None:
        """Start the agent of a host and wait until it answers."""
        machine = self.lab.host(host)
        command = [sys.executable, "-m", "serai.cli.main", "agent", "run", "--host", host, "--state", _AGENT_STATE]
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

    def apply(self, world: World) -> Applied:
        """Have every host enforce ``world``."""
        return self.controller.apply(world)

    def move(self, world: World, vm: str, to: str) -> Moved:
        """Move the VM at the path ``vm`` to another host, with its rules and its connections."""
        machine, target = world.vms[vm], self.lab.plan.host(to).name
        domain = machine.domain or machine.name
        origin = self.lab.where_is(domain)

        def migrate() -> None:
            self.lab.migrate(domain, target)

        return move(self.controller, world, machine, origin=origin, to=target, migrate=migrate)

    def statuses(self) -> Mapping[str, local.StatusReply | None]:
        """How each host's agent is; None where it does not answer."""
        found: dict[str, local.StatusReply | None] = {}
        for host in self.lab.hosts:
            try:
                found[host.name] = self.controller.status(host.name)
            except AgentError:
                found[host.name] = None
        return found

    def status(self) -> LabStatus:
        """How the hosts and VMs are."""
        return self.lab.status()

    def rows(self, world: World, *hosts: str) -> list[NamedRow]:
        """What the gates of these hosts (none given: of all) have counted."""
        replies = {
            host: local.ask(self.controller.agent(host), local.Rows(), local.RowsReply)
            for host in hosts or [host.name for host in self.lab.hosts]
        }
        rules = {text: number for reply in replies.values() for text, number in reply.rules.items()}
        return named_rows(world, {host: reply.rows for host, reply in replies.items()}, rules)

    def _answers(self, host: str) -> bool:
        try:
            self.controller.status(host)
        except AgentError:
            return False
        return True
