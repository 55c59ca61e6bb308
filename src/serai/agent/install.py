"""Puts the libvirt hook in its place."""

from __future__ import annotations

import sys
from pathlib import Path

from serai.agent import hook

HOOK = Path("/etc/libvirt/hooks/qemu.d/serai")
"""libvirt (6.5 and newer) runs every program in this directory."""


class InstallError(RuntimeError):
    """The hook cannot be installed; the message says why."""


def hook_script() -> str:
    """The hook as a program of its own, run by this very interpreter, which the host has for certain."""
    text = Path(hook.__file__).read_text()
    return f"#!{sys.executable} -I\n" + text.partition("\n")[2]


def install_hook(path: Path = HOOK) -> bool:
    """Write the hook to ``path`` and say whether that changed anything.

    Raises:
        InstallError: it cannot be written there.
    """
    script = hook_script()
    try:
        if path.exists() and path.read_text() == script:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(".serai.new")  # libvirt must never meet half a hook
        fresh.write_text(script)
        fresh.chmod(0o755)
        fresh.replace(path)
    except OSError as error:
        raise InstallError(f"the hook cannot be written to {path}: {error.strerror}") from error
    return True
