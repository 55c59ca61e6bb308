"""The hook in its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serai.agent.install import InstallError, hook_script, install_hook


def test_it_is_installed_once_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "hooks" / "qemu.d" / "serai"
    assert install_hook(path)
    assert not install_hook(path), "nothing to do the second time"
    assert path.read_text().startswith(f"#!{sys.executable} -I\n")
    done = subprocess.run([path, "vm", "stopped", "end", "-"], input="", text=True, capture_output=True, check=False)
    assert done.returncode == 0, "an operation that the hook has no part in"


def test_a_changed_hook_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "serai"
    path.write_text("an older one")
    assert install_hook(path)
    assert path.read_text() == hook_script()
    assert [p.name for p in tmp_path.iterdir()] == ["serai"]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match="cannot be written to"):
        install_hook(tmp_path / "file" / "serai")
