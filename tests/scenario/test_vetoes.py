"""Who may not run where is refused through plain ``virsh``, with the reason, and stays where it was: real libvirt, real guests."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.lab.datacenter import DataCenter
from serai.lab.domain import domain_xml
from serai.lab.image import build_image, default_image_directory
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from serai.wire import local
from serai.wire.moveapi import MoveList
from serai.wire.relocationapi import RelocationList

pytestmark = pytest.mark.scenario

NAME = "ve"
SITE = """apiVersion: serai.dev/v1
kind: Site
metadata: {name: site}
spec: {mode: enforce}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
spec: {address: 192.168.74.1, tags: [pci]}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: b}
spec: {address: 192.168.74.2}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: front, scope: /acme}
spec: {subnets: [10.0.0.0/24], bridge: br-acme, vni: 100, tags: [pci]}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: back, scope: /acme}
spec: {subnets: [10.0.1.0/24], bridge: br-back, vni: 101}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: vault, scope: /acme}
spec:
  host: a
  domain: acme-vault
  tags: [pci]
  memory: 96
  vnics: [{network: front, mac: "52:54:00:ac:00:11", addresses: [10.0.0.11]}]
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: web, scope: /acme}
spec:
  host: a
  domain: acme-web
  memory: 96
  vnics: [{network: front, mac: "52:54:00:ac:00:12", addresses: [10.0.0.12]}]
"""


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataCenter]:
    state = LabState(Path(f"/run/{NAME}-lab"))
    take_down(state, lambda _: None)
    source = tmp_path_factory.mktemp("site")
    (source / "site.yaml").write_text(SITE)
    made = DataCenter.plan(source, state.directory, prefix=f"{NAME}-", entry={"tickets": "require", "tls": "require"})
    try:
        made.up(source, lambda _: None)
        yield made
    finally:
        take_down(state, lambda _: None)


def virsh(center: DataCenter, host: str, *words: str) -> subprocess.CompletedProcess[str]:
    return center.lab.host(host).run(["virsh", "-q", *words])


def migrate(center: DataCenter, domain: str, *options: str) -> str:
    """Do what an administrator does who knows nothing of Serai; return what it says."""
    uri = center.lab.host("b").migration_uri()
    target = ["--migrateuri", "tcp://192.168.74.2", *options]
    done = virsh(center, "a", "migrate", "--live", "--p2p", domain, uri, *target)
    assert done.returncode, "it has moved"
    assert center.lab.where_is(domain) == "a"
    return done.stderr


def linked(center: DataCenter, host: str) -> None:
    """Wait until an agent talks to the controller again."""
    deadline = time.monotonic() + 30
    while not ((link := center.agent_status(host).link) and link.connected):
        assert time.monotonic() < deadline, "the agent does not come back"
        time.sleep(0.1)


def guarded(center: DataCenter) -> dict[str, str | None]:
    return {gate.domain or "": gate.vnic for gate in center.agent_status("a").gates}


def test_who_lacks_a_tag_is_refused_at_the_door(center: DataCenter) -> None:
    why = migrate(center, "acme-vault", "--tls", "--tls-destination", "b")
    assert "acme-vault may not run here: host b does not carry the tag pci" in why
    assert guarded(center)["acme-vault"] == "/acme:vault/eth0"


def test_who_has_no_ticket_is_refused_and_told_how_to_get_one(center: DataCenter) -> None:
    why = migrate(center, "acme-web", "--tls", "--tls-destination", "b")
    assert "it comes without a ticket: move it with `serai migrate /acme:web b`" in why


def test_what_may_come_in_clear_is_refused(center: DataCenter) -> None:
    settings = center.lab.host("b").path("/etc/libvirt/qemu.conf")
    assert "migrate_tls_force = 1" in settings.read_text(), "the lab takes nothing in clear"
    assert "only with VIR_MIGRATE_TLS" in migrate(center, "acme-web"), "libvirt itself refuses what is not encrypted"
    text = settings.read_text()
    try:
        settings.write_text(text.replace("migrate_tls_force = 1", "migrate_tls_force = 0"))
        assert "set migrate_tls_force = 1 in qemu.conf" in migrate(
            center, "acme-web", "--tls", "--tls-destination", "b"
        )
    finally:
        settings.write_text(text)


def test_who_is_plugged_into_another_network_does_not_start(center: DataCenter) -> None:
    center.lab.hypervisor("a").destroy("acme-web")
    guest = center.lab.plan.guest("acme-web")
    image = build_image(default_image_directory(), lambda _: None)
    for wrong, why in (
        (dataclasses.replace(guest, bridge="br-back"), "bridge br-back: its network /acme:front is br-acme"),
        (dataclasses.replace(guest, domain="twin"), "whose domain is called acme-web"),
    ):
        file = center.lab.host("a").path("/run/guests/wrong.xml")
        file.write_text(domain_xml(wrong, image))
        done = virsh(center, "a", "create", "/run/guests/wrong.xml")
        assert done.returncode
        assert why in done.stderr
    center.lab.start_guest("acme-web")
    assert guarded(center)["acme-web"] == "/acme:web/eth0"


def test_nobody_runs_twice(center: DataCenter) -> None:
    image = build_image(default_image_directory(), lambda _: None)
    file = center.lab.host("b").path("/run/guests/twin.xml")
    file.write_text(domain_xml(center.lab.plan.guest("acme-web"), image))
    done = virsh(center, "b", "create", "/run/guests/twin.xml")
    assert done.returncode
    assert "/acme:web runs on host a" in done.stderr


def test_without_an_agent_nobody_comes_in(center: DataCenter) -> None:
    center.kill_agent("b")
    try:
        assert "Is the agent running?" in migrate(center, "acme-web", "--tls", "--tls-destination", "b")
    finally:
        center.start_agent("b")


def test_without_a_controller_nobody_comes_in_and_who_is_at_home_starts(center: DataCenter) -> None:
    center.controller.kill()
    try:
        assert "no controller answers" in migrate(center, "acme-web", "--tls", "--tls-destination", "b")
        center.lab.hypervisor("a").destroy("acme-vault")
        center.lab.start_guest("acme-vault")
        assert guarded(center)["acme-vault"] == "/acme:vault/eth0"
    finally:
        center.controller.start()
        for host in "ab":
            linked(center, host)


def test_the_agent_answers_the_hook_at_once(center: DataCenter) -> None:
    """The whole way: hook, agent, controller and back."""
    asked = local.Enter(definition=virsh(center, "a", "dumpxml", "acme-web").stdout)
    socket = center.lab.host("a").path("/run/serai/agent.sock")
    assert local.ask(socket, asked, local.EnterReply) == local.EnterReply()


def test_who_can_leaves_a_host_that_is_emptied_and_who_cannot_is_told_why(center: DataCenter) -> None:
    """This one is the last: the VMs are elsewhere after it."""

    def evacuate(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serai.cli.main", "evacuate", "a", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **center.controller.environment()}
        )  # fmt: skip

    planned = evacuate("--plan", "--json")
    assert planned.returncode == 1, planned.stderr
    plan = json.loads(planned.stdout)
    assert [[move["vm"], move["to"]] for each in plan["rounds"] for move in each] == [["/acme:web", "b"]]
    [stuck] = plan["stuck"]
    assert stuck["vm"] == "/acme:vault"
    assert center.lab.where_is("acme-web") == "a", "a plan does nothing"
    done = evacuate("--yes")
    assert done.returncode == 1, "not all are gone"
    assert "Done: 1 of 1 move made" in done.stdout, done.stdout + done.stderr
    after = done.stdout.partition("Done:")[2]
    assert "/acme:vault stays on a:" in after
    assert any("b" in why and "tag pci" in why for why in stuck["why"]), stuck
    assert all(why in after for why in stuck["why"])
    assert (center.lab.where_is("acme-web"), center.lab.where_is("acme-vault")) == ("b", "a")
    with center.controller.client() as client:
        [relocation] = client.ask("GET", "/v1/relocations", RelocationList).relocations
        assert (relocation.state, relocation.done, relocation.stuck) == ("done", 1, 1)
        [move] = client.ask("GET", "/v1/moves", MoveList).moves
    assert move.receipt
    assert (move.receipt.made, move.receipt.ticket.to, move.receipt.facts.unprotected) == (True, "b", 0)
    assert move.receipt.facts.encrypted
