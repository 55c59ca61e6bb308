"""A real DHCP client and a real server (busybox) with a gate between them."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from cases import CLOSED, OPEN, PATH, PEER, VM, Setup
from conftest import GateUnderTest
from namespaces import Station, isolated, mount_bpf
from test_taps import neighborhood

from serai.datapath.attach import Attacher
from serai.datapath.object import GateObject
from serai.model.inventory import ORDINARY, PortSecurity, Serves
from serai.model.reasons import Reason

SERVER = PortSecurity(serves=frozenset({Serves.DHCP}))


def offer(directory: Path, address: str) -> subprocess.Popen[bytes]:
    """Serve one address in the namespace of the calling thread."""
    (directory / "leases").touch()
    (directory / "udhcpd.conf").write_text(
        f"start {address}\nend {address}\ninterface eth0\nmax_leases 1\n"
        f"lease_file {directory}/leases\npidfile {directory}/pid\n"
    )
    command = ["busybox", "timeout", "60", "busybox", "udhcpd", "-f", str(directory / "udhcpd.conf")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask() -> str:
    """Ask for an address in the namespace of the calling thread, and return what the client says."""
    command = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "8", "-T", "1", "-s", "/bin/true"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30).stderr


def forget_address(station: Station) -> None:
    station.ip("-4", "addr", "flush", "dev", "eth0")


@isolated
@pytest.mark.parametrize(
    ("security", "from_vm"), [(ORDINARY, False), (SERVER, True), (ORDINARY, True)], ids=["client", "server", "rogue"]
)
def test_leases(loaded_gate: GateObject, tmp_path: Path, *, security: PortSecurity, from_vm: bool) -> None:
    """A VM gets its lease under a policy that denies everything; who may not serve gives none though all is accepted."""
    gate = GateUnderTest(loaded_gate)
    with neighborhood() as (vm, peer):
        ifindex = socket.if_nametoindex("vm0")
        Attacher(mount_bpf(tmp_path / "bpf") / "links", loaded_gate.programs).attach(ifindex)
        rogue = from_vm and security is ORDINARY
        gate.guard(Setup(policies=OPEN if rogue else CLOSED, security=security).world(), PATH, ifindex=ifindex)
        client, server, address = (peer, vm, PEER) if from_vm else (vm, peer, VM)
        forget_address(client)
        serving = server.submit(offer, tmp_path, address).result()
        try:
            said = client.submit(ask).result()
        finally:
            serving.kill()
            serving.wait()
            reasons = {row.reason for row in gate.denials() if row.vnic}
            gate.gates.unbind(ifindex)
            gate.clear()
    assert (f"lease of {address} obtained" in said) != rogue, said
    assert (Reason.DHCP_SERVER in reasons) == rogue
