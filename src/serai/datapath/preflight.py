"""Checks that a host can carry gates, before anything is changed."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

from serai.datapath.object import OBJECT

KERNEL_MINIMUM = (5, 14)
"""The oldest kernel (RHEL 9's) that the gate keeps to."""

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What a program must be allowed that loads and attaches gates (docs/adr/0017-units-and-capabilities.md), with the kernel's numbers."""

_BPF_FS_MAGIC = 0xCAFE4A11


class NotReadyError(RuntimeError):
    """This host cannot carry gates; the message says what is missing and what to do."""


def require_ready(bpffs: Path) -> None:
    """Make sure that gates can be pinned below ``bpffs``.

    Raises:
        NotReadyError: something is missing.
    """
    if problems := find_problems(bpffs):
        raise NotReadyError("; ".join(problems))


def find_problems(bpffs: Path | None) -> list[str]:
    """Return what keeps this host from carrying gates, each with what to do about it; empty when nothing does.

    ``bpffs`` is the directory, on a bpffs, below which gates are to be pinned; None where one is still to be mounted.
    """
    missing = [name for name, number in CAPABILITIES.items() if not _effective() >> number & 1]
    if missing:  # without them the other checks cannot tell what root would find
        needed = " and ".join(missing)
        return [f"this needs root (kernel programs, taps, libvirt), or at least {needed}: run it with sudo"]
    return [problem for check in (_kernel, _gate, lambda: _pins(bpffs)) for problem in check()]


def kernel_version(release: str) -> tuple[int, int]:
    """Return major and minor number of a kernel release such as 6.1.0-56-cloud-amd64; (0, 0) if it has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _kernel() -> list[str]:
    release = platform.release()
    if kernel_version(release) >= KERNEL_MINIMUM:
        return []
    return [f"kernel {release} is too old: the gate needs 5.14 or newer; boot a newer kernel"]


def _gate() -> list[str]:
    return [] if OBJECT.exists() else ["the gate is not compiled: run 'make setup'"]


def _effective() -> int:
    """What this process is allowed beyond what everybody is, as a bit mask."""
    return int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)


def _pins(bpffs: Path | None) -> list[str]:
    if "bpf" not in Path("/proc/filesystems").read_text().split():
        return ["the kernel has no bpf file system: boot a kernel with CONFIG_BPF_SYSCALL"]
    if bpffs is None:
        return []
    existing = next(path for path in (bpffs, *bpffs.parents) if path.exists())
    if _magic(existing) != _BPF_FS_MAGIC:
        return [f"{existing} is not a bpffs, and gates must be pinned on one: run 'mount -t bpf bpf /sys/fs/bpf'"]
    return []


def _magic(path: Path) -> int:
    """The number by which the kernel tells file systems apart; 0 where it cannot be asked."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with it, as a long
    if ctypes.CDLL(None).statfs(str(path).encode(), buffer) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF
