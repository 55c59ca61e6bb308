"""A real lab, small and quick: two hosts, two tenants with equal addresses, forged frames, one live migration."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from serai.lab.error import LabError
from serai.lab.image import default_image_directory
from serai.lab.lifecycle import Lab
from serai.lab.namespace import namespace_exists
from serai.lab.outside import TickSession, probe_tcp
from serai.lab.plan import LabGuest, LabHost, LabNetwork, LabPlan
from serai.lab.preflight import find_problems
from serai.lab.sniff import FrameSniffer

pytestmark = pytest.mark.scenario

# Names of its own, so that it can run beside a lab that somebody works with.
STATE = Path("/run/serai-lab-test")
PREFIX = "serai-test-"
WEB = IPv4Address("10.0.0.11")
FORGERIES = {"mac": "52:54:00:de:ad:01", "ip": "10.0.0.77", "arp": "10.0.0.66", "sha": "52:54:00:de:ad:02", "own": "-"}


def make_plan() -> LabPlan:
    networks = tuple(
        LabNetwork(
            name=name,
            bridge=f"br-{name}",
            vni=vni,
            subnet=IPv4Network("10.0.0.0/24"),
            outside=IPv4Address("10.0.0.250"),
        )
        for name, vni in (("acme", 100), ("globex", 200))
    )
    guests = tuple(
        LabGuest(
            domain=f"{network}-web",
            mac=f"52:54:00:00:0{number}:0b",
            address=IPv4Interface(f"{WEB}/24"),
            network=network,
            bridge=f"br-{network}",
            host=host,
        )
        for number, (network, host) in enumerate((("acme", "a"), ("globex", "b")))
    )
    hosts = tuple(LabHost(name=name, underlay=IPv4Address(f"192.168.70.{n}")) for n, name in enumerate("ab", start=1))
    return LabPlan(hosts=hosts, networks=networks, guests=guests, prefix=PREFIX)


def make_lab() -> Lab:
    return Lab(make_plan(), STATE, image_dir=default_image_directory())


def silent(_text: str) -> None:
    """Report nothing."""


def leftovers() -> list[str]:
    """Name what a lab of this test would leave behind: namespaces, mounts, directories, processes."""
    found = [name for name in make_plan().namespaces if namespace_exists(name)]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if PREFIX in line or str(STATE) in line]
    found += [str(STATE)] if STATE.exists() else []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                found += [command] if str(STATE) in command else []
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if problems := find_problems():
        pytest.skip("; ".join(problems))
    lab = make_lab()
    lab.down(silent)
    try:
        lab.make_hosts(silent)
        lab.start_guests(silent)
        yield lab
    finally:
        lab.down(silent)
    assert leftovers() == []


def test_everything_runs_where_it_was_planned(lab: Lab) -> None:
    status = lab.status()
    assert status.up
    assert all(host.running and host.libvirtd for host in status.hosts)
    assert [(guest.domain, guest.host, guest.state) for guest in status.guests] == [
        ("acme-web", "a", "running"),
        ("globex-web", "b", "running"),
    ]


def test_equal_addresses_are_different_guests(lab: Lab) -> None:
    for network in ("acme", "globex"):
        assert probe_tcp(lab.plan.outside_namespace(network), WEB, 80, timeout_seconds=5).peer == f"{network}-web"


def test_guest_probes_and_counts(lab: Lab) -> None:
    async def body() -> None:
        async with lab.shell("acme-web") as shell:
            outside = IPv4Address("10.0.0.250")
            tcp, icmp = await asyncio.gather(shell.probe("tcp", outside, 80), shell.probe("icmp", outside))
            assert (tcp.ok, tcp.error) == (False, "refused")
            assert icmp.ok
            assert (await shell.probe("udp", WEB, 53)).peer == "acme-web"
            assert (await shell.received())[53] == 1

    asyncio.run(body())


def test_forged_frames_are_seen_on_the_wire_and_in_one_network_only(lab: Lab) -> None:
    markers = {kind: f"FORGED-{kind}".encode() for kind in FORGERIES}

    async def body() -> None:
        async with lab.shell("acme-web") as shell:
            for kind, fake in FORGERIES.items():
                assert await shell.forge(kind, fake=fake, count=3, marker=f"FORGED-{kind}") == 3  # type: ignore[arg-type]

    with (
        FrameSniffer(lab.plan.host_namespace("b"), list(markers.values())) as witness,
        FrameSniffer(lab.plan.outside_namespace("globex"), list(markers.values())) as stranger,
    ):
        asyncio.run(body())
        assert all(witness.wait_for(marker, 3) for marker in markers.values())
    for marker in markers.values():
        assert witness.total(marker=marker, interface="vx-100", direction="in") == 3
    assert witness.total(interface="vx-200") == 0
    assert stranger.total() == 0


def test_open_connection_survives_a_live_migration_over_tls(lab: Lab) -> None:
    async def body() -> None:
        async with lab.shell("acme-web") as shell:
            flood = asyncio.create_task(
                shell.flood(IPv4Address("10.0.0.250"), 9, per_second=20, seconds=4, marker="ACROSS")
            )
            move = await asyncio.to_thread(lab.migrate, "acme-web", "b")
            assert (move.source, move.destination) == ("a", "b")
            # Asked on the old host, answered from the new one.
            assert await flood > 0
            assert await shell.ready() == "acme-web"

    with TickSession(lab.plan.outside_namespace("acme"), WEB) as session:
        asyncio.run(body())
        report = session.report()
    assert report.alive, report.error
    assert report.missing == 0
    assert report.ticks > 100
    assert lab.where_is("acme-web") == "b"
    with pytest.raises(LabError, match="is on host b already"):
        lab.migrate("acme-web", "b")


def test_hook_on_the_destination_can_refuse_a_move(lab: Lab) -> None:
    lab.host("a").install_hook('#!/bin/sh\n[ "$2" != prepare ] || { echo "no leave to come here" >&2; exit 1; }\n')
    with pytest.raises(LabError, match="no leave to come here"):
        lab.migrate("acme-web", "a")
    assert lab.where_is("acme-web") == "b"
    lab.host("a").install_hook("#!/bin/sh\nexit 0\n")
    assert lab.migrate("acme-web", "a").destination == "a"


def test_daemon_on_a_host_is_adopted_and_reaped(lab: Lab) -> None:
    host = lab.host("a")
    log = host.path("/var/log/libvirt/daemon.log")
    script = "sleep 0.1; echo parent $(cut -d' ' -f4 /proc/$$/stat) $WORD; exec sleep 60"
    pid = host.spawn(["sh", "-c", script], log=log, env={"WORD": "hello"})
    while not (said := log.read_text()):
        pass
    assert said == "parent 1 hello\n"
    os.kill(pid, 9)
    zombies = host.run(["sh", "-c", "sleep 0.2; cat /proc/[0-9]*/status | grep -c 'State:.Z'"])
    assert zombies.stdout == "0\n"
    with pytest.raises(LabError, match="did not stay alive"):
        host.spawn(["false"], log=log)


def test_hosts_share_neither_pins_nor_files(lab: Lab) -> None:
    first, second = lab.host("a"), lab.host("b")
    assert first.run(["mkdir", "/sys/fs/bpf/mine"]).returncode == 0
    assert "mine" not in second.run(["ls", "/sys/fs/bpf"]).stdout
    assert first.run(["touch", "/run/serai/mine"]).returncode == 0
    assert first.path("/run/serai/mine").exists()
    assert second.run(["ls", "/run/serai"]).stdout == ""


def test_second_lab_and_second_command_are_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="take it down first"):
        make_lab().make_hosts(silent)
    with lab.state.lock(), pytest.raises(LabError, match="another lab command"):
        make_lab().down(silent)


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from {module} import make_lab
lab, seen = make_lab(), []
def die(text):
    seen.append(text)
    if len(seen) == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
lab.make_hosts(die)
lab.start_guests(die)
"""


# Last, because it needs the names that the other tests' lab holds until here.
@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_down_cleans_up_after_sigkill(lab: Lab, step: int) -> None:
    lab.down(silent)
    here = Path(__file__)
    script = KILLED.format(here=str(here.parent), module=here.stem, step=step)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    assert STATE.exists()
    assert make_lab().down(silent)
    assert leftovers() == []
    assert not make_lab().down(silent)
