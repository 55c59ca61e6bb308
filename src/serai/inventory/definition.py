"""A machine definition as one digest: of what security depends on in a domain's XML, and of nothing that changes from start to start.

The same machine has the same digest before it is started, while it runs, and where it comes from another host, though libvirt writes
all of these otherwise. What is not known here counts: a device or a section that a later libvirt brings makes another definition.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from serai.inventory.domains import below, has_media, parsed

_PREAMBLE: Final = b"serai machine definition 1\n"

_NOT_COUNTED: Final = frozenset(
    {
        "title", "description", "metadata", "memory", "currentMemory", "maxMemory", "memoryBacking", "memtune", "blkiotune", "vcpu", "vcpus",
        "iothreads", "iothreadids", "defaultiothread", "cputune", "numatune", "throttlegroups", "resource", "cpu", "features", "clock",
        "genid", "pm", "perf", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure",
    }
)  # fmt: skip
"""Sections about how much and how fast, and about what the guest takes for its hardware: they open nothing, and libvirt fills them in."""

_HARDWARE: Final = frozenset(
    {
        "controller", "input", "audio", "sound", "video", "watchdog", "memballoon", "rng", "panic", "iommu", "memory", "hub", "tpm",
    }
)  # fmt: skip
"""Devices that only count where they name something on the host, such as a file or a device node."""

_OWN_PROGRAMS: Final = "/usr"
"""Firmware and programs below are the host's own; libvirt chooses them by itself (``firmware='efi'``), and says so only later."""
_CHANNELS: Final = ("/var/lib/libvirt/qemu/channel", "/run/libvirt/qemu/channel")
"""Where libvirt makes sockets for each start, unless it is told where."""
_VARIABLES: Final = "/var/lib/libvirt/qemu/nvram"
"""Where it keeps UEFI variables, the same."""

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "disk": (
            "@type", "@device", "@rawio", "@sgio", "driver@type", "source", "auth", "encryption", "target@dev", "target@bus", "boot@order",
            "readonly", "shareable", "transient",
        ),
        "interface": (
            "@type", "@trustGuestRxFilters", "mac@address", "source", "model@type", "virtualport", "vlan", "filterref", "backend",
            "script@path", "downscript@path", "port@isolated", "teaming", "boot@order", "rom@file",
        ),
        "serial": ("@type", "source", "protocol@type", "target@type", "target@name", "log@file"),
        "graphics": ("@type", "listen", "gl@enable"),
        "vsock": ("@model",),
        "filesystem": (
            "@type", "@accessmode", "driver@type", "driver@format", "source", "target@dir", "readonly", "binary@path", "idmap",
        ),
    }
)  # fmt: skip
"""Of devices that libvirt writes in many ways, what counts: attributes, and children with all that is in them."""

_LOOPBACK: Final = ("127.0.0.1", "::1")
_LIKE: Final[Mapping[str, str]] = {"parallel": "serial", "console": "serial", "channel": "serial"}


def digest_of(definition: str) -> str:
    """Return the SHA-256 of a machine definition, in hexadecimal.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    return digest(canonical(definition))


def digest(lines: Sequence[str]) -> str:
    """Return the SHA-256 of what ``canonical`` returns, in hexadecimal."""
    return hashlib.sha256(_PREAMBLE + "\n".join(lines).encode()).hexdigest()


def canonical(definition: str) -> list[str]:
    """Return what counts of a machine definition, a line for each thing, in order of the lines.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    root = parsed(definition)
    things: list[_Thing] = [("domain", {"type": root.get("type", "")}, "", [])]
    for section in root:
        if section.tag == "devices":
            things += filter(None, map(_device, section))
        elif section.tag == "os":
            things.append(_written(section, _drop_in_os(root.findtext("name", ""))))
        elif section.tag == "seclabel":
            things += _label(section)
        elif section.tag not in _NOT_COUNTED:
            things.append(_written(section))
    return sorted(json.dumps(thing, sort_keys=True, ensure_ascii=False) for thing in things)


_Thing = tuple[str, dict[str, str], str, list[Any]]
"""An element: its name, attributes, text and children."""
_Drop = Callable[[ET.Element, str | ET.Element], bool]
"""Says of an attribute, or a child, of an element that it does not count."""


def _nothing(_element: ET.Element, _part: str | ET.Element) -> bool:
    return False


def _written(element: ET.Element, drop: _Drop = _nothing) -> _Thing:
    """Write an element down whole, but for what ``drop`` says. Its children stay in their order, which may have a meaning."""
    return (
        element.tag,
        {name: value for name, value in element.attrib.items() if not drop(element, name)},
        (element.text or "").strip(),
        [_written(child, drop) for child in element if not drop(element, child)],
    )


def _device(device: ET.Element) -> _Thing | None:
    kind = device.tag
    if kind in _HARDWARE and not _names_something(device):
        return None
    if kind == "console" and device.find("target[@type='serial']") is not None:
        return None  # libvirt's other name for the first serial port
    fields = _FIELDS.get(_LIKE.get(kind, kind))
    if fields is None:
        return _written(device, _drop_in_devices)
    return kind, dict(_attributes(device, fields)), "", list(_children(device, fields))


def _attributes(device: ET.Element, fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for field in fields:
        child, at, name = field.partition("@")
        found = device.find(child) if child else device
        value = found.get(name) if at and found is not None else None
        if value is not None and not _filled_in(device, field, value):
            yield field, value


def _filled_in(device: ET.Element, field: str, value: str) -> bool:
    """Say whether libvirt has written a value down once the domain ran."""
    match field:
        case "@type":  # a card of a network is attached to some bridge then
            return device.tag == "interface" and device.find("source[@network]") is not None
        case "driver@type":  # of a drive with nothing in it
            return device.tag == "disk" and not has_media(device)
        case "binary@path":
            return below(value, _OWN_PROGRAMS) and posixpath.basename(value) == "virtiofsd"
        case _:
            return False


def _children(device: ET.Element, fields: tuple[str, ...]) -> Iterator[_Thing]:
    for field in fields:
        if field == "source" and device.get("type") == "pty":
            continue  # the terminal that it gets
        for child in device.findall(field) if "@" not in field else ():
            written = _written(child, _drop_in_devices)
            if (
                written[1:] != ({}, "", []) or child.tag != "source"
            ):  # a source of which only libvirt's own is known says nothing
                yield written


def _names_something(device: ET.Element) -> bool:
    """Say whether a device names something on the host."""
    return any(
        element.tag == "source"
        or any(value.startswith("/") for value in (*element.attrib.values(), element.text or ""))
        for element in device.iter()
    )


def _drop_in_devices(element: ET.Element, part: str | ET.Element) -> bool:
    """What changes from start to start, and from libvirt to libvirt."""
    if not isinstance(part, str):
        if part.tag == "address":  # where the guest sees it; in a source, what the host passes through
            return element.tag != "source" or element.find("vendor") is not None
        return part.tag in {"alias", "backingStore", "mirror", "privateData"} or (element.tag, part.tag) == (
            "hostdev",
            "driver",
        )
    if (
        element.tag == "listen"
    ):  # the address that it is when nobody says is known once the domain runs; so is a network's
        return part in {"socket", "fromConfig"} or (
            part == "address" and (element.attrib[part] in _LOOPBACK or element.get("type") == "network")
        )
    if element.tag != "source":
        return False
    own = element.get("mode") == "bind" and below(element.get("path", ""), *_CHANNELS)
    match part:
        case "path":
            return own
        case "mode":
            return own or len(element.attrib) == 1
        case "bridge":  # libvirt tells which one a network has
            return "network" in element.attrib
        case _:
            return part in {"index", "portid", "startupPolicy", "tls", "tlsFromConfig"}


def _drop_in_os(name: str) -> _Drop:
    """What libvirt chooses for the domain of this name, and the version of the machine type, which it raises."""

    def drop(element: ET.Element, part: str | ET.Element) -> bool:
        if isinstance(part, str):
            chosen = {("os", "firmware"), ("type", "machine")}
            return (element.tag, part) in chosen or (
                (element.tag, part) == ("nvram", "template") and below(element.attrib[part], _OWN_PROGRAMS)
            )
        path = (part.text or "").strip()
        match part.tag:
            case "loader":
                return not path or below(path, _OWN_PROGRAMS)
            case "nvram":
                own = posixpath.dirname(posixpath.normpath(path)) == _VARIABLES and posixpath.basename(path).startswith(
                    f"{name}_VARS."
                )
                return own and below(part.get("template", f"{_OWN_PROGRAMS}/"), _OWN_PROGRAMS)
            case tag:
                return tag in {"firmware", "bios"}

    return drop


def _label(label: ET.Element) -> Iterator[_Thing]:
    """A security label, unless it is one that libvirt makes for each start without having been told."""
    if label.get("type") != "dynamic":
        yield _written(label)
        return
    base = [_written(child) for child in label.findall("baselabel")]
    if base or label.get("relabel", "yes") != "yes":
        yield "seclabel", {"model": label.get("model", ""), "relabel": label.get("relabel", "yes")}, "", base
