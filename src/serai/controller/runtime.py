"""Does what the core decides, with agents reached through their sockets on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from serai.controller.core import Controller, Event, HostReported, Refusal, SendRuleset, WorldChanged
from serai.model.inventory import Mac, VnicId
from serai.model.world import World
from serai.wire import local
from serai.wire.local import AgentError


class ApplyError(RuntimeError):
    """Some hosts do not hold what they should; the message names them, and those that do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Every host holds the ruleset it should."""

    digests: Mapping[str, str]
    """What each host acknowledged, by host."""
    changed: tuple[str, ...]
    """The hosts that held another ruleset before."""


class ControllerRuntime:
    """A controller over the agents of some hosts."""

    def __init__(self, agents: Mapping[str, Path]) -> None:
        """Talk to these agents: the socket of each, by host."""
        self._agents = dict(agents)
        self._core = Controller()

    def status(self, host: str) -> local.StatusReply:
        """Ask one agent how it is.

        Raises:
            AgentError: it does not answer.
        """
        return local.ask(self._agents[host], local.Status(), local.StatusReply)

    def apply(self, world: World) -> Applied:
        """Have every host enforce ``world``.

        Raises:
            ApplyError: a host does not answer, refuses, or has no room for it; every such host goes on with what it holds.
        """
        return self.settle(WorldChanged(world=world))

    def settle(self, *events: Event) -> Applied:
        """Take ``events``, hear all hosts, and bring them to where they should be.

        Raises:
            ApplyError: as for ``apply``.
        """
        reports: dict[str, HostReported] = {}
        failures: dict[str, str] = {}
        for host in self._agents:
            try:
                reports[host] = self._report(host)
            except AgentError as error:
                failures[host] = str(error)
        commands: dict[str, SendRuleset] = {}
        for answer in self._core.handle(*events, *reports.values()):
            match answer:
                case SendRuleset():
                    commands[answer.ruleset.host] = answer
                case Refusal(event=HostReported(host=host)):
                    failures[host] = str(answer.why)
                case Refusal():
                    raise ApplyError(f"not applied anywhere: {answer.why}") from answer.why
        digests = {host: report.digest or "" for host, report in reports.items() if host not in failures}
        for host, command in commands.items():
            if host in failures:
                continue
            try:
                digests[host] = self._send(host, command)
            except AgentError as error:
                failures[host] = str(error)
                del digests[host]
        if failures:
            wrong = "; ".join(
                f"host {host} goes on with what it holds: {why}" for host, why in sorted(failures.items())
            )
            message = f"not applied everywhere (applied on: {', '.join(sorted(digests)) or 'none'}): {wrong}"
            raise ApplyError(message)
        return Applied(digests=dict(sorted(digests.items())), changed=tuple(sorted(commands)))

    def _send(self, host: str, command: SendRuleset) -> str:
        """Have an agent enforce a ruleset, and return the digest of what its kernel holds then."""
        if command.change is not None:
            change = local.Change(delta=command.change.encode())
            return local.ask(self._agents[host], change, local.ApplyReply).digest
        request = local.Apply(ruleset=command.ruleset.encode())
        return local.ask(self._agents[host], request, local.ApplyReply).digest

    def _report(self, host: str) -> HostReported:
        status = self.status(host)
        macs = frozenset(Mac(gate.mac) for gate in status.gates if gate.mac)
        vnics = frozenset(VnicId(gate.vnic_id) for gate in status.gates if gate.vnic_id)
        return HostReported(host=host, macs=macs, vnics=vnics, digest=status.digest)

    def agent(self, host: str) -> Path:
        """The socket of the agent of ``host``."""
        return self._agents[host]
