"""A machine definition is the same one as long as nothing that matters is otherwise: as libvirt really writes it, and taken apart."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.inventory.definition import canonical, digest_of
from serai.inventory.domains import DefinitionError

MACHINES = Path(__file__).with_name("machines")
"""One domain, as libvirt 9.0 gave it to its hook (before the start; where it came from another host), and as it told of it amid that."""
STARTED, COMING, RUNNING = ((MACHINES / f"{name}.xml").read_text() for name in ("started", "coming", "running"))


def test_it_is_the_same_before_the_start_and_while_it_runs_and_where_it_comes() -> None:
    assert len({STARTED, COMING, RUNNING}) == 3
    assert canonical(STARTED) == canonical(COMING) == canonical(RUNNING)
    assert digest_of(STARTED) == digest_of(COMING) == digest_of(RUNNING)


def test_its_digest_stays_what_it_was_when_people_registered_it() -> None:
    assert digest_of(STARTED) == "689fc51a7c67218af247439325ba38a90e90b352755c589a132efd7b73b2c453"


def test_no_secret_is_in_it() -> None:
    assert "passwd='secret'" in COMING
    assert "secret" not in "".join(canonical(COMING))


@given(st.randoms(use_true_random=False))
def test_the_order_of_attributes_and_of_devices_and_what_libvirt_calls_them_do_not_matter(luck: random.Random) -> None:
    root = ET.fromstring(RUNNING)  # noqa: S314  # from this directory
    for element in root.iter():
        attributes = list(element.attrib.items())
        luck.shuffle(attributes)
        element.attrib.clear()
        element.attrib.update(attributes)
        if element.tag == "alias":
            element.set("name", f"ua-{luck.random()}")
    devices = root.find("devices")
    assert devices is not None
    children = list(devices)
    luck.shuffle(children)
    devices[:] = children
    assert digest_of(ET.tostring(root, encoding="unicode")) == digest_of(STARTED)


def machine(
    devices: str = "", more: str = "", os: str = "<type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/>"
) -> str:
    return f"<domain type='kvm'><name>web</name><uuid>1</uuid><os>{os}</os><devices>{devices}</devices>{more}</domain>"


DISK = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/a'/><target dev='vda' bus='virtio'/></disk>"
CARD = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/><model type='virtio'/></interface>"
SPACE = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"

AGENT = "<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-2-web/c'/><target type='virtio' name='c'/></channel>"
EFI = "<loader>/usr/share/OVMF/CODE.fd</loader><nvram template='/usr/share/OVMF/VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>"
MATTERS = {
    "a monitor of another machine, as if it were a channel": (machine(AGENT), machine(AGENT.replace("channel/target/domain-2-web/c", "domain-1-x/monitor.sock"))),
    "a socket that is there, as if libvirt made it": (machine(AGENT), machine(AGENT.replace("bind", "connect"))),
    "a way around to another place": (machine(AGENT), machine(AGENT.replace("channel/target", "channel/../../../../../srv"))),
    "another's UEFI variables": (machine(os=EFI), machine(os=EFI.replace("web_VARS", "wob_VARS"))),
    "UEFI variables of somebody's own": (machine(os=EFI), machine(os=EFI.replace("/usr/share/OVMF/VARS", "/srv/VARS"))),
    "firmware that only seems to be the host's": (machine(os=EFI), machine(os=EFI.replace("/usr/share/OVMF/CODE", "/usr/../srv/CODE"))),
    "another's terminal": (machine("<serial type='pty'/>"), machine("<serial type='dev'><source path='/dev/pts/4'/></serial>")),
    "a way to the host": (machine(), machine("<vsock model='virtio'><cid auto='yes'/></vsock>")),
    "another name": (machine(), machine().replace("web", "wob")),
    "another UUID": (machine(), machine().replace("<uuid>1", "<uuid>2")),
    "a disk more": (machine(), machine(DISK)),
    "another file": (machine(DISK), machine(DISK.replace("/srv/a", "/srv/b"))),
    "a disk of another format": (machine(DISK), machine(DISK.replace("qcow2", "raw"))),
    "a disk that may be written to": (machine(DISK.replace("</disk>", "<readonly/></disk>")), machine(DISK)),
    "another order of boot": (machine(DISK), machine(DISK.replace("<target", "<boot order='1'/><target"))),
    "another bridge": (machine(CARD), machine(CARD.replace("network='n'", "network='m'"))),
    "a trunk": (machine(CARD), machine(CARD.replace("<model", "<vlan trunk='yes'><tag id='7'/></vlan><model"))),
    "an option ROM": (machine(CARD), machine(CARD.replace("<model", "<rom file='/srv/rom'/><model"))),
    "a card passed through": (machine(), machine("<hostdev mode='subsystem' type='pci'><source><address bus='0x06'/></source></hostdev>")),
    "another card passed through": (
        machine("<hostdev><source><address bus='0x05'/></source></hostdev>"), machine("<hostdev><source><address bus='0x06'/></source></hostdev>"),
    ),
    "a directory of the host": (machine(), machine("<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>")),
    "USB from elsewhere": (machine(), machine("<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='1'/></redirdev>")),
    "a channel": (machine(), machine("<channel type='unix'><source mode='bind' path='/srv/s'/><target type='virtio' name='c'/></channel>")),
    "memory of others": (machine(), machine("<shmem name='m'/>")),
    "a keyboard of the host": (machine(), machine("<input type='evdev'><source dev='/dev/input/event1'/></input>")),
    "a device node of the host": (machine("<rng><backend>/dev/urandom</backend></rng>"), machine("<rng><backend>/dev/sda</backend></rng>")),
    "a console for everybody": (
        machine("<graphics type='vnc'><listen type='address'/></graphics>"), machine("<graphics type='vnc'><listen type='address' address='0.0.0.0'/></graphics>"),
    ),
    "a second place to listen": (
        machine("<graphics type='vnc'><listen type='address'/></graphics>"),
        machine("<graphics type='vnc'><listen type='address'/><listen type='address' address='0.0.0.0'/></graphics>"),
    ),
    "a device of which this knows nothing": (machine(), machine("<crypto model='virtio'/>")),
    "a section of which this knows nothing": (machine(), machine(more="<backdoor/>")),
    "arguments of QEMU": (machine(), machine(more=f"<q:commandline {SPACE}><q:arg value='-S'/></q:commandline>")),
    "the order of arguments of QEMU": (
        machine(more=f"<q:commandline {SPACE}><q:arg value='a'/><q:arg value='b'/></q:commandline>"),
        machine(more=f"<q:commandline {SPACE}><q:arg value='b'/><q:arg value='a'/></q:commandline>"),
    ),
    "files handed in by the firmware": (machine(), machine(more="<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>")),
    "another kernel": (machine(os="<kernel>/srv/a</kernel>"), machine(os="<kernel>/srv/b</kernel>")),
    "another command line of the kernel": (machine(os="<cmdline>a</cmdline>"), machine(os="<cmdline>a init=/bin/sh</cmdline>")),
    "firmware that is not the host's": (machine(), machine(os="<type arch='x86_64'>hvm</type><loader>/srv/evil.fd</loader><boot dev='hd'/>")),
    "another emulator": (machine("<emulator>/usr/bin/q</emulator>"), machine("<emulator>/srv/q</emulator>")),
    "a label of its own": (machine(), machine(more="<seclabel type='none' model='selinux'/>")),
    "a label that others share": (machine(), machine(more="<seclabel type='dynamic' model='selinux' relabel='yes'><baselabel>b</baselabel></seclabel>")),
    "no virtual machine but a container": (machine(), machine().replace("kvm", "lxc")),
}  # fmt: skip

SAME = {
    "UEFI that libvirt sets up": (machine(os="<boot/>"), machine(os=EFI + "<boot/>")),
    "the number of a way to the host": (machine("<vsock model='virtio'><cid auto='yes'/></vsock>"), machine("<vsock model='virtio'><cid auto='yes' address='7'/></vsock>")),
    "the bridge that a network has": (
        machine(CARD), machine(CARD.replace("type='network'", "type='bridge'").replace("network='n'", "network='n' portid='5' bridge='br0'")),
    ),
    "a drive with nothing in it": (
        machine("<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"),
        machine("<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda' bus='sata'/></disk>"),
    ),
    "a drive with nothing in it, numbered": (
        machine("<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"),
        machine("<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source index='1'/><target dev='sda' bus='sata'/></disk>"),
    ),
    "the number of a console, which is one less without its double": (
        machine("<console type='pty'><target type='virtio' port='1'/></console>"), machine("<console type='pty'><target type='virtio' port='0'/></console>"),
    ),
    "how much memory": (machine(), machine(more="<memory>5</memory><currentMemory>4</currentMemory><vcpu current='1'>2</vcpu>")),
    "the CPU as libvirt expands it": (machine(), machine(more="<cpu mode='custom'><feature name='x'/></cpu>")),
    "notes": (machine(), machine(more="<metadata><a/></metadata><title>t</title>")),
    "a newer machine type": (machine(), machine().replace("7.2", "8.0")),
    "where guests see devices": (machine(DISK), machine(DISK.replace("</disk>", "<address type='pci' bus='9'/><alias name='d'/></disk>"))),
    "what lies below a disk, which its file says": (
        machine(DISK), machine(DISK.replace("<target", "<backingStore type='file'><format type='raw'/><source file='/b'/><backingStore/></backingStore><target")),
    ),
    "numbers of files that run": (machine(DISK), machine(DISK.replace("file='/srv/a'", "file='/srv/a' index='3'"))),
    "the tap, the port and the bridge of a card": (
        machine(CARD), machine(CARD.replace("network='n'", "network='n' portid='5' bridge='virbr0'").replace("<model", "<target dev='vnet9'/><model")),
    ),
    "controllers": (machine(), machine("<controller type='pci' index='1'/><memballoon model='virtio'/><audio id='1' type='none'/><input type='mouse'/>")),
    "the second name of a serial port": (
        machine("<serial type='pty'><target type='isa-serial' port='0'/></serial>"),
        machine("<serial type='pty'><source path='/dev/pts/4'/><target type='isa-serial' port='0'/></serial>"
                "<console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/><target type='serial' port='0'/></console>"),
    ),
    "sockets that libvirt makes": (
        machine("<channel type='unix'><target type='virtio' name='c'/></channel>"),
        machine("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-2-web/c'/><target type='virtio' name='c' state='connected'/></channel>"),
    ),
    "the port and the password of a console": (
        machine("<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>"),
        machine("<graphics type='vnc' port='5901' autoport='yes' listen='127.0.0.1' passwd='x'><listen type='address' address='127.0.0.1' fromConfig='1'/></graphics>"),
    ),
    "firmware that libvirt chooses": (
        machine(), machine(os="<type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF/CODE.fd</loader>"
                              "<nvram template='/usr/share/OVMF/VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram><boot dev='hd'/>"),
    ),
    "that it is to choose": (machine(), machine().replace("<os>", "<os firmware='efi'>")),
    "labels that libvirt makes": (machine(), machine(more="<seclabel type='dynamic' model='dac' relabel='yes'><label>+0:+0</label><imagelabel>+0:+0</imagelabel></seclabel>")),
    "a USB device where it is just now": (
        machine("<hostdev><source><vendor id='1'/><product id='2'/></source></hostdev>"),
        machine("<hostdev><source><vendor id='1'/><product id='2'/><address bus='1' device='7'/></source><alias name='h'/></hostdev>"),
    ),
    "the program for a shared directory, of the host's own": (
        machine("<filesystem type='mount'><driver type='virtiofs'/><source dir='/s'/><target dir='t'/></filesystem>"),
        machine("<filesystem type='mount'><driver type='virtiofs'/><binary path='/usr/libexec/virtiofsd'/><source dir='/s'/><target dir='t'/></filesystem>"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MATTERS)
def test_what_matters_makes_another_definition(case: str) -> None:
    one, other = MATTERS[case]
    assert digest_of(one) != digest_of(other)


@pytest.mark.parametrize("case", SAME)
def test_what_changes_from_start_to_start_makes_none(case: str) -> None:
    one, other = SAME[case]
    assert one != other
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize("text", ["", "<domain/>", "<network><name>n</name></network>", "<domain><name>n</name>"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        digest_of(text)
