"""What a domain's XML says: its name, and the taps behind its network cards."""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET

from serai.model.inventory import Mac

_WITH_TAP = {"bridge", "network", "ethernet"}
"""Types of interfaces that libvirt makes a tap for."""


class DefinitionError(ValueError):
    """A domain's XML cannot be used."""


def taps_of(definition: str) -> tuple[str, dict[str, Mac]]:
    """Read a domain's name and the MAC address behind each of its taps out of its XML.

    Interfaces whose tap has no name yet (before ``start``) are left out, and so are those that have none.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    name, interfaces = _interfaces(definition)
    taps = {}
    for interface in interfaces:
        mac, target = interface.find("mac"), interface.find("target")
        if mac is not None and target is not None and target.get("dev"):
            try:
                taps[target.attrib["dev"]] = Mac(mac.attrib["address"])
            except (KeyError, ValueError) as error:
                raise DefinitionError(f"this is not the XML of a domain: {error}") from error
    return name, taps


def cards_of(definition: str) -> tuple[str, dict[Mac, str]]:
    """Read a domain's name and the bridge that each of its network cards is attached to (empty: it does not say) out of its XML.

    Cards without an address are left out: libvirt has given them none yet, so that nobody can have declared them.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    name, interfaces = _interfaces(definition)
    cards = {}
    for interface in interfaces:
        mac, source = interface.find("mac"), interface.find("source")
        if mac is not None:
            try:
                cards[Mac(mac.attrib["address"])] = source.get("bridge", "") if source is not None else ""
            except (KeyError, ValueError) as error:
                raise DefinitionError(f"this is not the XML of a domain: {error}") from error
    return name, cards


def tapless(definition: str) -> list[str]:
    """The types of a domain's interfaces that no tap, and so no gate, stands for: passed-through cards and the like.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    types = [interface.get("type", "?") for interface in _interfaces(definition)[1]]
    return [kind for kind in types if kind not in _WITH_TAP]


def parsed(definition: str) -> ET.Element:
    """Read a domain's XML.

    Raises:
        DefinitionError: it is not one.
    """
    try:
        root = ET.fromstring(definition)  # noqa: S314  # from libvirt itself; expat takes no external entities
    except (ET.ParseError, ValueError) as error:
        raise DefinitionError(f"this is not the XML of a domain: {error}") from error
    if root.tag != "domain" or not root.findtext("name"):
        raise DefinitionError("this is not the XML of a domain: it has no name")
    return root


def below(path: str, *directories: str) -> bool:
    """Say whether a path leads below one of these directories, whatever it takes for a way."""
    return posixpath.normpath(path).startswith(tuple(f"{each}/" for each in directories))


def has_media(disk: ET.Element) -> bool:
    """Say whether there is anything in a drive: libvirt numbers sources that are none."""
    source = disk.find("source")
    return source is not None and bool(len(source) or source.attrib.keys() - {"index", "startupPolicy"})


def _interfaces(definition: str) -> tuple[str, list[ET.Element]]:
    root = parsed(definition)
    return root.findtext("name", ""), root.findall("devices/interface")
