"""In what two machine definitions differ is told in the words of whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serai.inventory.definition import canonical
from serai.inventory.difference import differences

MACHINE = (Path(__file__).with_name("machines") / "started.xml").read_text()
SPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

CASES = {
    "nothing": ("", "", ""),
    "a disk more": ("<rng", "<disk type='file'><source file='/x'/><target dev='vdc'/></disk><rng", "disk vdc is new"),
    "another file": ("/srv/disks/data.raw", "/srv/disks/other.raw", "disk vdb is otherwise (source)"),
    "another format": ("type='raw' cache", "type='qcow2' cache", "disk vdb is otherwise (driver@type)"),
    "another card": ("52:54:00:ac:00:12", "52:54:00:ac:00:13", "network card 52:54:00:ac:00:13 is new, network card 52:54:00:ac:00:12 is gone"),
    "arguments": ("value='xx'", "value='xy'", "commandline is otherwise (arg)"),
    "a kernel": ("console=ttyS0", "init=/bin/sh", "os is otherwise (cmdline)"),
    "a name": ("<name>acme-web", "<name>acme-wob", "name is otherwise"),
    "much": (
        "<rng", "".join(f"<disk type='file'><source file='/x'/><target dev='vd{at}'/></disk>" for at in "cdefghijkl") + "<rng",
        ", ".join(f"disk vd{at} is new" for at in "cdefghij") + ", and 2 more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_differences_are_named(case: str) -> None:
    old, new, told = CASES[case]
    assert old in MACHINE
    assert differences(canonical(MACHINE), canonical(MACHINE.replace(old, new, 1))) == told
