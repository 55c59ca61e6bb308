"""The libvirt XML of a guest."""

import xml.etree.ElementTree as ET
from pathlib import Path

from serai.lab.domain import domain_uuid, domain_xml
from serai.lab.image import GuestImage
from unit.lab.lab_plans import guest

IMAGE = GuestImage(kernel=Path("/i/vmlinux"), initramfs=Path("/i/initramfs"))


def test_guest_has_its_card_on_its_bridge_with_an_automatic_tap() -> None:
    card = ET.fromstring(domain_xml(guest(), IMAGE)).find("devices/interface")  # noqa: S314 - our own text
    assert card is not None
    assert [(child.tag, child.attrib) for child in card] == [
        ("mac", {"address": "52:54:00:00:00:0b"}),
        ("source", {"bridge": "br-acme"}),
        ("model", {"type": "virtio"}),
        ("driver", {"name": "qemu"}),
    ]


def test_guest_learns_its_name_and_address_from_the_command_line() -> None:
    line = ET.fromstring(domain_xml(guest(), IMAGE)).findtext("os/cmdline")  # noqa: S314 - our own text
    assert line is not None
    assert line.endswith("serai.name=acme-web serai.address=10.0.0.11/24")


def test_uuid_depends_on_the_name_only() -> None:
    assert domain_uuid("acme-web") == domain_uuid("acme-web") != domain_uuid("acme-app")
