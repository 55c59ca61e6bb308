"""Who may not run where is refused through plain ``virsh``, with the reason, and stays where it was: real libvirt, real guests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from disks import overlay
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
    center.move("/acme:web", "a")


class Machine:
    """The VM acme-web with files of its own to boot from, defined on host a as an administrator does."""

    def __init__(self, center: DataCenter, files: Path) -> None:
        image = build_image(default_image_directory(), lambda _: None)
        self.center, self.files = center, files
        self.kernel, self.initrd, self.base = files / "vmlinux", files / "initramfs", files / "base.raw"
        shutil.copy(image.kernel, self.kernel)
        shutil.copy(image.initramfs, self.initrd)
        self.base.write_bytes(b"layer" * 100_000)
        disk = overlay(files / "disk.qcow2", self.base.name)
        own = dataclasses.replace(image, kernel=self.kernel, initramfs=self.initrd)
        self.xml = domain_xml(center.lab.plan.guest("acme-web"), own).replace(
            "</devices>",
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>"
            "<readonly/></disk><graphics type='vnc' port='-1' passwd='secret'/><channel type='unix'><target type='virtio' name='agent.0'/></channel>"
            "<console type='pty'><target type='virtio' port='1'/></console><disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"
            "</devices>",
        )

    def define(self, xml: str = "") -> None:
        virsh(self.center, "a", "destroy", "acme-web")
        self.center.lab.host("a").path("/run/guests/machine.xml").write_text(xml or self.xml)
        done = virsh(self.center, "a", "define", "/run/guests/machine.xml")
        assert done.returncode == 0, done.stderr

    def start(self) -> str:
        """Return why it does not start; empty: it does."""
        return virsh(self.center, "a", "start", "acme-web").stderr

    def described(self, host: str = "a") -> local.DescribeReply:
        definition = virsh(self.center, host, "dumpxml", "--migratable", "acme-web").stdout
        socket = self.center.lab.host(host).path("/run/serai/agent.sock")
        return local.ask(socket, local.Describe(definition=definition), local.DescribeReply)

    def register(self, written: str) -> None:
        """Do by a program what somebody does with an editor."""
        said = yaml.safe_load(
            "\n".join(line[2:] for line in written.splitlines() if line.startswith("#   ") or line == "# spec:")
        )["spec"]
        fields = f"  images: {said['images']}\n  definition: {said['definition']}\n"
        site = SITE.replace("  domain: acme-web\n", "  domain: acme-web\n" + fields)
        (self.center.policies.path / "site.yaml").write_text(f"{site}\n---\n{written}")
        self.center.apply()


@pytest.fixture(scope="module")
def machine(center: DataCenter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(center, tmp_path_factory.mktemp("images"))
    made.define()
    assert "gates" not in made.start()
    describe = [sys.executable, "-m", "serai.cli.main", "agent", "describe", "acme-web"]
    done = center.lab.host("a").run(describe)
    assert done.returncode == 0, done.stderr
    made.register(done.stdout)
    yield made
    for host in "ab":
        virsh(center, host, "destroy", "acme-web")
        virsh(center, host, "undefine", "acme-web")
    (center.policies.path / "site.yaml").write_text(SITE)
    center.apply()


def test_what_is_registered_starts_and_moves_and_is_the_same_everywhere(machine: Machine) -> None:
    described = machine.described()
    disk = machine.files / "disk.qcow2"
    expected = [machine.kernel, machine.initrd, disk, machine.base]
    assert [Path(boot.path) for boot in described.boots] == expected
    assert [boot.sha256 for boot in described.boots] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in expected]
    machine.define()
    assert machine.start() == ""
    for host in "ba":
        machine.center.move("/acme:web", host)
        assert machine.center.lab.where_is("acme-web") == host
        assert machine.described(host) == described


def test_an_unknown_image_does_not_start(machine: Machine) -> None:
    machine.define()
    for file, what in ((machine.initrd, "initrd"), (machine.base, "disk vda")):
        good = file.read_bytes()
        try:
            file.write_bytes(good + bytes(512))
            why = machine.start()
            assert f"acme-web may not run here: its {what} ({file}) is not of the image " in why
            assert "serai agent describe acme-web" in why
        finally:
            file.write_bytes(good)
    assert machine.start() == ""


def test_an_unknown_image_does_not_come_from_another_host(machine: Machine) -> None:
    good = machine.initrd.read_bytes()
    try:
        machine.initrd.write_bytes(good + bytes(512))
        why = migrate(machine.center, "acme-web", "--tls", "--tls-destination", "b")
        assert f"its initrd ({machine.initrd}) is not of the image " in why
    finally:
        machine.initrd.write_bytes(good)


SPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
ALTERED = {
    "a disk more": (
        "<memballoon", "<disk type='file' device='disk'><source file='{base}'/><target dev='vdb' bus='virtio'/></disk><memballoon",
        "disk vdb is new",
    ),
    "something else on QEMU's command line": (
        "</domain>", f"<qemu:commandline {SPACE}><qemu:arg value='-name'/><qemu:arg value='x'/></qemu:commandline></domain>",
        "commandline is new",
    ),
    "another kernel command line": ("console=ttyS0", "init=/bin/sh console=ttyS0", "os is otherwise (cmdline)"),
    "a device of the host": (
        "<memballoon", "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x2'/></source></hostdev><memballoon",
        "hostdev is new",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALTERED)
def test_an_altered_machine_does_not_start(machine: Machine, case: str) -> None:
    old, new, difference = ALTERED[case]
    without_usb = "<controller type='usb' model='none'/>"
    assert old in machine.xml
    assert without_usb in machine.xml
    machine.define(machine.xml.replace(without_usb, "").replace(old, new.format(base=machine.base), 1))
    why = machine.start()
    assert "acme-web may not run here: its machine definition is not the one that is registered" in why
    assert f"against the definition that is registered, {difference}." in why


def test_an_altered_machine_does_not_come_from_another_host(machine: Machine) -> None:
    machine.define()
    assert machine.start() == ""
    added = virsh(machine.center, "a", "attach-disk", "acme-web", str(machine.base), "vdb", "--mode", "readonly")
    assert added.returncode == 0, added.stderr
    why = migrate(machine.center, "acme-web", "--tls", "--tls-destination", "b")
    assert "its machine definition is not the one that is registered" in why
