"""What libvirt's settings for QEMU say about migration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FILE: Final = Path("/etc/libvirt/qemu.conf")
_FORCES: Final = re.compile(r"^\s*migrate_tls_force\s*=\s*1\s*(#.*)?$", re.MULTILINE)


def forces_tls(file: Path = FILE) -> bool:
    """Say whether libvirt here refuses every migration that is not over TLS (``migrate_tls_force``, libvirt 6.5 and newer)."""
    try:
        return _FORCES.search(file.read_text(errors="replace")) is not None
    except OSError:
        return False
