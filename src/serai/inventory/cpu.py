"""What libvirt's XML says of a host's CPU, and how a CPU is told to libvirt."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection

from serai.model.host_facts import MOST_FEATURES, Cpu


class CapabilitiesError(ValueError):
    """This XML does not describe a host's CPU."""


def cpu_of(capabilities: str, expanded: str | None = None) -> Cpu:
    """Read the CPU of a host out of its capabilities (``virConnectGetCapabilities``).

    Args:
        capabilities: the XML.
        expanded: the same CPU with every feature by name (``virConnectBaselineCPU``); None: libvirt cannot tell, and those of the model are left out.

    Raises:
        CapabilitiesError: it is no such XML.
    """
    cpu = _parse(capabilities).find("host/cpu")
    arch = cpu.findtext("arch") if cpu is not None else None
    if cpu is None or not arch:
        raise CapabilitiesError("the capabilities of this host name no CPU")
    signature = cpu.find("signature")
    numbers = signature.attrib if signature is not None else {}
    features = {each.get("name", "") for each in cpu.findall("feature")}
    if expanded is not None:
        features |= {each.get("name", "") for each in _parse(expanded).findall("feature")}
    return Cpu(
        arch=arch,
        vendor=cpu.findtext("vendor") or "",
        model=cpu.findtext("model") or "",
        family=_number(numbers.get("family")),
        number=_number(numbers.get("model")),
        features=sorted(features - {""})[:MOST_FEATURES],
    )


def element_of(capabilities: str) -> str | None:
    """Return the element that describes the CPU, for libvirt to read again; None where it names no model, and libvirt could not.

    Raises:
        CapabilitiesError: it is no XML.
    """
    cpu = _parse(capabilities).find("host/cpu")
    return ET.tostring(cpu, encoding="unicode") if cpu is not None and cpu.findtext("model") else None


def describe(cpu: Cpu, *, without: Collection[str] = ()) -> str:
    """Write a CPU as libvirt reads it; some features may be left out."""
    root = ET.Element("cpu")
    for tag, text in (("arch", cpu.arch), ("model", cpu.model), ("vendor", cpu.vendor)):
        if text:
            ET.SubElement(root, tag).text = text
    for name in (each for each in cpu.features if each not in without):
        ET.SubElement(root, "feature", name=name)
    return ET.tostring(root, encoding="unicode")


def _parse(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314  # from libvirt itself; expat takes no external entities
    except (ET.ParseError, ValueError) as error:
        raise CapabilitiesError(f"these are no capabilities: {error}") from error


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else 0
