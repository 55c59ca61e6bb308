"""The whole line on real guests: from a policy file to a packet that a kernel drops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from serai.lab.datacenter import DataCenter
from serai.lab.error import LabError
from serai.lab.outside import TickSession, probe_tcp
from serai.wire.local import AgentError

pytestmark = pytest.mark.scenario

NAME = "st"
ADDRESSES = {"web": "10.0.0.11", "app": "10.0.0.12", "db": "10.0.0.13"}
PORTS = (22, 23, 80, 5432, 8080)

# Written by hand from the policy files' comments, not by the evaluator.
REACHABLE = {
    ("acme-web", "app", 8080),
    ("acme-app", "db", 5432),
    ("globex-web", "app", 8080),
    ("globex-app", "db", 5432),
}
ANSWERS_PING = {"acme": False, "globex": True}


def serai(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a verb of the lab as a user would."""
    return run("lab", "--name", NAME, *words, check=check)


def run(*words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "serai.cli.main", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=check, timeout=300, env={**os.environ, **environment}
    )


def asked(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Ask the lab's controller, as a user does after `eval "$(serai lab env)"`."""
    lines = serai("env").stdout.splitlines()
    told = dict(shlex.split(each)[1].split("=", 1) for each in lines)
    return run(*words, check=check, **told)


def commands() -> Iterator[bytes]:
    """The command lines of all processes; those that end meanwhile are left out."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_bytes()


@pytest.fixture(scope="module")
def center() -> Iterator[DataCenter]:
    serai("down")
    try:
        up = serai("up", check=False)
        assert up.returncode == 0, up.stderr
        yield DataCenter.open(Path(f"/run/{NAME}-lab"))
    finally:
        serai("down")


def test_status_shows_every_gate_enforcing(center: DataCenter) -> None:
    status = json.loads(serai("status", "--json").stdout)
    gates = {g["domain"]: g for host in status["hosts"] for g in host["agent"]["gates"]}
    assert set(gates) == {guest.domain for guest in center.lab.plan.guests}
    assert {gate["mode"] for gate in gates.values()} == {"enforce"}
    assert all(gate["vnic"] for gate in gates.values())


@pytest.mark.usefixtures("center")
def test_a_second_up_finds_the_lab_up() -> None:
    began = time.monotonic()
    assert "up already" in serai("up").stdout
    assert time.monotonic() - began < 30, "it is found, not built again"


def test_who_reaches_whom(center: DataCenter) -> None:
    async def probe_all() -> None:
        for guest in center.lab.plan.guests:
            tenant, role = guest.domain.split("-")
            async with center.lab.shell(guest.domain) as shell:
                wanted = [(peer, port) for peer in ADDRESSES if peer != role for port in PORTS]
                results = await asyncio.gather(
                    *(shell.probe("tcp", IPv4Address(ADDRESSES[peer]), port, timeout_ms=1500) for peer, port in wanted)
                )
                for (peer, port), result in zip(wanted, results, strict=True):
                    expected = (guest.domain, peer, port) in REACHABLE
                    assert result.ok == expected, (guest.domain, peer, port, result)
                    assert result.peer == (f"{tenant}-{peer}" if expected else "")
                peer = next(name for name in ADDRESSES if name != role)
                ping = await shell.probe("icmp", IPv4Address(ADDRESSES[peer]), timeout_ms=1500)
                assert ping.ok == ANSWERS_PING[tenant]

    asyncio.run(probe_all())


def test_users_reach_the_web_and_nothing_else(center: DataCenter) -> None:
    for network in center.lab.plan.networks:
        outside = center.lab.plan.outside_namespace(network.name)
        tenant = network.name.split("-")[0]
        assert probe_tcp(outside, IPv4Address(ADDRESSES["web"]), 80).peer == f"{tenant}-web"
        assert probe_tcp(outside, IPv4Address(ADDRESSES["web"]), 22).error == "timeout"
        assert probe_tcp(outside, IPv4Address(ADDRESSES["db"]), 5432).error == "timeout"


def test_bad_policies_change_nothing(center: DataCenter, tmp_path: Path) -> None:
    before = {host: status.digest for host, status in center.statuses().items() if status}
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: serai.dev/v1\nkind: Policy\nmetadata: {name: x, scope: /nobody}\nspec: {tier: Tenant, egres: []}\n"
    )
    refused = serai("apply", str(tmp_path), check=False)
    assert refused.returncode == 2
    assert "bad.yaml" in refused.stderr
    edited = center.policies.path / "acme.yaml"
    good = edited.read_text()
    try:
        edited.write_text(good.replace("action: Accept", "action: Allow", 1))
        assert serai("apply", check=False).returncode == 2
    finally:
        edited.write_text(good)
    assert {host: status.digest for host, status in center.statuses().items() if status} == before


def test_a_policy_change_ends_an_established_session(center: DataCenter) -> None:
    edited = center.policies.path / "acme.yaml"
    good = edited.read_text()
    outside = center.lab.plan.outside_namespace("acme-front")
    try:
        with TickSession(outside, IPv4Address(ADDRESSES["web"])) as session:
            time.sleep(0.5)
            assert session.report().ticks > 5
            edited.write_text(good.replace("ports: [tcp/80, tcp/7778]", "ports: [tcp/80]"))
            assert edited.read_text() != good
            serai("apply")
            time.sleep(0.3)
            ticks = session.report().ticks
            time.sleep(1.0)
            assert session.report().ticks == ticks, "not one tick after the change"
    finally:
        edited.write_text(good)
        serai("apply")


def test_two_agents_on_one_host_are_one_too_many(center: DataCenter) -> None:
    second = center.lab.host("a").run(
        [sys.executable, "-m", "serai.cli.main", "agent", "run", "--host", "a", "--state", "/run/serai/state"]
    )
    assert second.returncode == 2
    assert "another agent guards this host" in second.stderr
    assert all(center.statuses().values())


def test_no_agent_no_start_and_a_guarded_one_with_it(center: DataCenter) -> None:
    guest = center.lab.plan.guest("globex-db")
    center.lab.hypervisor(guest.host).destroy(guest.domain)
    center.kill_agent(guest.host)
    try:
        with pytest.raises(LabError, match="gates cannot be made ready"):
            center.lab.start_guest(guest.domain)
        with pytest.raises(AgentError):
            center.agent_status(guest.host)
    finally:
        center.start_agent(guest.host)
    center.lab.start_guest(guest.domain)
    status = center.agent_status(guest.host)
    assert [g.vnic for g in status.gates if g.domain == guest.domain] == ["/globex/crm:db/eth0"]

    async def wait() -> None:
        async with center.lab.shell(guest.domain) as shell:
            assert await shell.ready() == guest.domain

    asyncio.run(wait())


def test_a_move_of_its_own_carries_connections(center: DataCenter) -> None:
    outside = center.lab.plan.outside_namespace("acme-front")
    origin = center.lab.where_is("acme-web")
    to = "b" if origin == "a" else "a"
    for wrong in (origin, "nowhere"):
        refused = asked("migrate", "/acme/shop:web", wrong, check=False)
        assert refused.returncode == 2
        assert wrong in refused.stderr
    with TickSession(outside, IPv4Address(ADDRESSES["web"])) as session:
        moved = asked("migrate", "/acme/shop:web", to, check=False)
        assert moved.returncode == 0, moved.stderr
        time.sleep(1.0)
        ticks = session.report()
        time.sleep(0.5)
        later = session.report()
    assert later.alive
    assert later.missing == 0
    assert later.ticks > ticks.ticks
    assert center.lab.where_is("acme-web") == to
    gates = {host: [g.vnic for g in status.gates] for host, status in center.statuses().items() if status}
    assert "/acme/shop:web/eth0" in gates[to]
    assert "/acme/shop:web/eth0" not in gates[origin]


@pytest.mark.usefixtures("center")
def test_tour() -> None:
    tour = serai("tour", "--json", check=False)
    assert tour.returncode == 0, tour.stdout + tour.stderr
    found = json.loads(tour.stdout)
    assert found["probes"]["as_expected"] == found["probes"]["total"] > 200
    assert found["spoof"]["sent"] == 80
    assert found["spoof"]["passed"] == 0
    assert found["migration"]["tcp_survived"] is True
    assert found["migration"]["gap_ms"] > 0
    assert found["migration"]["unprotected_packets"] == 0
    assert found["agent_killed"] == {"leaked": 0, "broken": 0}
    assert found["recorded"]["percent"] == 100
    assert found["recorded"]["records"] > 50


@pytest.mark.usefixtures("center")
def test_flows_of_both_gates_agree() -> None:
    rows = json.loads(serai("flows", "--json").stdout)
    pairs: dict[tuple[str, ...], dict[str, tuple[int, int]]] = {}
    for row in rows:
        if row["verdict"] == "accepted" and row["service"] == "tcp/5432":
            pairs.setdefault((row["from"], row["to"]), {})[row["side"]] = (row["packets"], row["bytes"])
    assert ("/acme/shop:app", "/acme/shop:db") in pairs
    for sides in pairs.values():
        assert sides["egress"] == sides["ingress"], "what one gate lets out, the other lets in"


@pytest.mark.usefixtures("center")
def test_down_leaves_nothing() -> None:
    serai("down")
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"{NAME}-" not in namespaces
    assert not Path(f"/run/{NAME}-lab").exists()
    mounts = Path("/proc/self/mounts").read_text()
    assert f"/run/{NAME}-lab" not in mounts
    assert not any(f"/run/{NAME}-lab".encode() in command for command in commands())
    assert "There is no lab" in serai("down").stdout
