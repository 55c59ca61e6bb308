"""What a domain boots from, out of its XML: the files that are run before anything of the guest's own is."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from serai.inventory.domains import below, has_media, parsed

_OWN_FIRMWARE: Final = "/usr"
"""Firmware below is the host's own, as QEMU is."""
_FIRST_OF: Final = {"hd": ("disk", "lun"), "cdrom": ("cdrom",), "fd": ("floppy",)}
"""For a device that ``<os>`` boots from: which disks that can be. The first one is it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file of a disk."""

    path: str
    format: str = "raw"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """Something that a domain boots from."""

    what: str
    """E.g. ``disk vda``."""
    path: str = ""
    """Of the file; empty: it is none."""
    format: str = "raw"
    """Of a disk, as its definition has it; what the file itself says of that does not count."""
    written: bool = False
    """The guest writes to it, so that only what lies below is the same every time."""
    below: tuple[Layer, ...] | None = None
    """What lies below, the nearest first, where the definition says it; None: the file does."""
    why: str = ""
    """Why nobody can look at it; empty: one can."""


def boots_of(definition: str) -> list[Boot]:
    """Return what a domain boots from, in order.

    Raises:
        DefinitionError: it is not a domain's XML.
    """
    root = parsed(definition)
    return [*_files(root), *map(_disk, _ordered(root))]


def _files(root: ET.Element) -> Iterator[Boot]:
    for name in ("loader", "kernel", "initrd", "dtb"):
        path = (root.findtext(f"os/{name}") or "").strip()
        if path and not (name == "loader" and below(path, _OWN_FIRMWARE)):
            yield Boot(what=name, path=path)
    for device in root.iterfind("devices/*"):
        rom = device.find("rom")
        if rom is not None and rom.get("file"):
            yield Boot(what=f"ROM of {_called(device)}", path=rom.attrib["file"])


def _ordered(root: ET.Element) -> list[ET.Element]:
    """The devices that are booted from, in order: those that say so themselves, else the first of each kind that ``<os>`` names."""
    devices = root.findall("devices/*")
    numbered = [(int(order), at) for at, each in enumerate(devices) if (order := _order(each)).isdecimal()]
    if numbered:
        return _with_media(devices[at] for _, at in sorted(numbered))
    found: list[ET.Element] = []
    for kind in [boot.get("dev", "") for boot in root.iterfind("os/boot")] or ["hd"]:
        if kind == "network":
            found += [each for each in devices if each.tag == "interface"][:1]
        else:
            kinds = _FIRST_OF.get(kind, ())
            found += [each for each in devices if each.tag == "disk" and each.get("device", "disk") in kinds][:1]
    return _with_media(found)


def _order(device: ET.Element) -> str:
    boot = device.find("boot")
    return boot.get("order", "") if boot is not None else ""


def _with_media(devices: Iterator[ET.Element] | list[ET.Element]) -> list[ET.Element]:
    return [each for each in devices if each.tag != "disk" or has_media(each)]


def _disk(device: ET.Element) -> Boot:
    what, source, driver = _called(device), device.find("source"), device.find("driver")
    if device.tag != "disk" or source is None:
        return Boot(what=what, why="nobody can tell what comes from there")
    path = source.get("file", "")
    if device.get("type") != "file" or not path:
        named = source.get("dev") or source.get("name") or source.get("volume") or source.get("dir") or "?"
        return Boot(what=what, why=f"{named} is of type {device.get('type', '?')}: only files can be compared")
    return Boot(
        what=what,
        path=path,
        format=driver.get("type", "raw") if driver is not None else "raw",
        written=device.get("device") != "cdrom"
        and all(device.find(each) is None for each in ("readonly", "transient")),
        below=_below(device),
    )


def _below(disk: ET.Element) -> tuple[Layer, ...] | None:
    """What the definition says lies below a disk's file; it says so of a domain that runs."""
    nearest = disk.find("backingStore")
    if nearest is None:
        return None
    found = []
    while nearest is not None and nearest.get("type") is not None:
        source, form = nearest.find("source"), nearest.find("format")
        path = source.get("file", "") if source is not None and nearest.get("type") == "file" else ""
        found.append(Layer(path=path, format=form.get("type", "raw") if form is not None else "raw"))
        nearest = nearest.find("backingStore")
    return tuple(found)


def _called(device: ET.Element) -> str:
    target, mac = device.find("target"), device.find("mac")
    match device.tag:
        case "disk":
            return f"disk {target.get('dev', '?') if target is not None else '?'}"
        case "interface":
            return f"network card {mac.get('address', '?') if mac is not None else '?'}"
        case kind:
            return str(kind)
