"""The archive is one that cpio itself can read."""

import shutil
import subprocess
from pathlib import Path

import pytest

from serai.lab.cpio import archive, directory, program


def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    data = archive([directory("bin"), program("bin/odd", b"12345"), program("init", b"#!/bin/sh\n")])
    subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin" / "odd").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


def test_equal_entries_give_equal_bytes() -> None:
    assert archive([program("init", b"x")]) == archive([program("init", b"x")])
