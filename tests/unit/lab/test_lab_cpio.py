"""The archive is one that cpio itself can read."""

import shutil
import subprocess
from pathlib import Path

import pytest

from serai.lab.cpio import Entry, archive, directory, program, symbolic_link


def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    old = Entry(name="old", mode=0o100644, data=b"1", changed=1_000_000_000)
    entries = [directory("bin"), program("bin/odd", b"12345"), program("init", b"#!/bin/sh\n"), old]
    data = archive([*entries, symbolic_link("link", "bin/odd")])
    subprocess.run(["cpio", "-idm", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin" / "odd").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "link").readlink() == Path("bin/odd")
    assert (tmp_path / "old").stat().st_mtime == 1_000_000_000


def test_equal_entries_give_equal_bytes() -> None:
    assert archive([program("init", b"x")]) == archive([program("init", b"x")])
