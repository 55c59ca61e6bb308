"""Files for nobody else, and whose they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from serai.wire.private import PrivateFileError, read_private, write_private

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files to others")
AGENT, OTHER = 65534, 12345


def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "new" / "key"
    write_private(file, b"secret")
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert read_private(file) == b"secret"
    file.chmod(0o640)
    with pytest.raises(PrivateFileError, match="can be read or changed by others"):
        read_private(file)


@as_root
def test_what_root_writes_belongs_to_whom_the_directory_does(tmp_path: Path) -> None:
    os.chown(tmp_path, AGENT, AGENT)
    file = tmp_path / "identity" / "deeper" / "host.key"
    write_private(file, b"secret")
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {AGENT}
    assert read_private(file) == b"secret", "root looks in, as the doctor does"


@as_root
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "host.key"
    write_private(file, b"secret")
    os.chown(file, OTHER, OTHER)
    with pytest.raises(PrivateFileError, match="belongs to another user"):
        read_private(file)
    os.chown(tmp_path, AGENT, AGENT)
    with pytest.raises(PrivateFileError, match="belongs to another user"):
        read_private(file)
