"""The hosts of a lab that a VM moves between: their processes, the wire between them, and what is seen of the VM there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from serai.lab.process import ProcessRecord
from serai.model.reasons import Reason
from serai.wire.local import AgentError

if TYPE_CHECKING:
    from serai.lab.datacenter import DataCenter

VM, DOMAIN, VNIC = "/acme:web", "acme-web", "/acme:web/eth0"
PATIENCE_SECONDS = 60.0
"""How long anything may take on a busy machine, before it counts as never."""
LOOK_SECONDS = 0.02


def until(holds: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it does not come to it that {what}"
        time.sleep(LOOK_SECONDS)


# Processes


class Process(ProcessRecord):
    """One that may be stopped for a while."""

    def send(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.pid, number)


def agent(center: DataCenter, host: str) -> Process:
    record = center.lab.state.process(f"{host}.agent")
    assert record is not None
    return Process(name=record.name, pid=record.pid, start_ticks=record.start_ticks)


def libvirtd(center: DataCenter, host: str) -> Process:
    return _inside(center, host, "/run/libvirt/libvirtd.pid")


def qemu(center: DataCenter, host: str) -> Process:
    return _inside(center, host, f"/run/libvirt/qemu/{DOMAIN}.pid")


def _inside(center: DataCenter, host: str, file: str) -> Process:
    found = ProcessRecord.of(file, center.lab.host(host).pid_in(file))
    return Process(name=file, pid=found.pid, start_ticks=found.start_ticks)


@contextlib.contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Nothing comes of a process meanwhile."""
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


def cut(center: DataCenter, *, off: bool) -> None:
    """Keep the hosts from reaching each other, not from reaching the controller; or let them again."""
    for port in range(len(center.lab.hosts)):
        command = ["bridge", "-n", center.lab.plan.underlay_namespace, "link", "set", "dev", f"port{port}"]
        subprocess.run([*command, "isolated", "on" if off else "off"], check=True)


# What is seen


def domains(center: DataCenter) -> dict[str, str]:
    """How the guest is, at the hosts that have it."""
    known = {host.name: center.lab.hypervisor(host.name) for host in center.lab.hosts}
    return {
        name: states[DOMAIN]
        for name, hypervisor in known.items()
        if hypervisor.alive() and DOMAIN in (states := hypervisor.domains())
    }


def gates(center: DataCenter) -> dict[str, list[str | None]]:
    """Whom the gates guard that are at the guest's taps, host by host; None: nobody, they are closed."""
    found = {
        host: [gate.vnic for gate in status.gates if gate.domain == DOMAIN or gate.vnic == VNIC]
        if status
        else ["nobody answers"]
        for host, status in center.statuses().items()
    }
    return {host: guards for host, guards in found.items() if guards}


def guarded(center: DataCenter, host: str) -> list[str | None]:
    """Whom the gates of a host guard."""
    try:
        return [gate.vnic for gate in center.agent_status(host).gates]
    except AgentError:
        return []


def flows(center: DataCenter, host: str) -> int | None:
    """How many flows live at a host; None: nobody answers."""
    status = center.statuses()[host]
    return status.flows if status else None


def denied(center: DataCenter, host: str) -> list[int]:
    """How many packets from the VM, and to it, its gate has dropped that no rule allows."""
    status = center.agent_status(host)
    (number,) = [gate.vnic_id for gate in status.gates if gate.vnic == VNIC]
    counts = {
        drop.direction: drop.packets for drop in status.drops if drop.vnic_id == number and drop.reason == Reason.DENIED
    }
    return [counts.get("egress", 0), counts.get("ingress", 0)]
