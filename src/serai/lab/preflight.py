"""Check, before anything is made, that this machine can hold a lab."""

import os
import platform
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from serai.lab.error import LabError
from serai.lab.kernel import newest_kernel

_KERNEL_MINIMUM = (5, 14)
_TUN = Path("/dev/net/tun")
_FILE_SYSTEMS = Path("/proc/filesystems")
_LIBVIRT_DIRECTORIES = tuple(Path(f"{parent}/libvirt") for parent in ("/etc", "/var/lib", "/var/log", "/var/cache"))
_SETUP = "run tools/setup"
# Command and the package that has it.
_COMMANDS = {
    "libvirtd": "libvirt-daemon-system",
    "qemu-system-x86_64": "qemu-system-x86",
    "ip": "iproute2",
    "bridge": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "util-linux",
    "modprobe": "kmod",
    "openssl": "openssl",
    "gcc": "gcc libc6-dev",
    "busybox": "busybox-static",
    "lz4": "lz4",
    "zstd": "zstd",
}


def find_problems() -> list[str]:
    """Return what stands in the way of a lab, each with what to do about it; empty when nothing does."""
    if os.geteuid() != 0:
        # Without root the other checks cannot tell what root would find.
        return ["the lab needs root (namespaces, taps, libvirtd): run it with sudo"]
    checks: tuple[Callable[[], list[str]], ...] = (
        _check_kernel,
        _check_commands,
        _check_tun,
        _check_bpffs,
        _check_libvirt,
        _check_guest_kernel,
    )
    return [problem for check in checks for problem in check()]


def kernel_version(release: str) -> tuple[int, int]:
    """Return major and minor number of a kernel release such as 6.1.0-56-cloud-amd64; (0, 0) if it has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _check_kernel() -> list[str]:
    release = platform.release()
    if kernel_version(release) >= _KERNEL_MINIMUM:
        return []
    return [f"kernel {release} is too old: the gate needs 5.14 or newer; boot a newer kernel"]


def _check_commands() -> list[str]:
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    return [
        f"{command} is not installed: install {package}, or {_SETUP}"
        for command, package in _COMMANDS.items()
        if shutil.which(command, path=search) is None
    ]


def _check_tun() -> list[str]:
    if _TUN.exists() and stat.S_ISCHR(_TUN.stat().st_mode):
        return []
    return [f"{_TUN} is missing, so guests can have no network card: load the module (modprobe tun)"]


def _check_bpffs() -> list[str]:
    if "bpf" in _FILE_SYSTEMS.read_text().split():
        return []
    return ["the kernel has no bpf file system: boot a kernel with CONFIG_BPF_SYSCALL"]


def _check_libvirt() -> list[str]:
    return [
        f"{directory} is missing: install libvirt-daemon-system, or {_SETUP}"
        for directory in _LIBVIRT_DIRECTORIES
        if not directory.is_dir()
    ]


def _check_guest_kernel() -> list[str]:
    try:
        newest_kernel()
    except LabError as error:
        return [str(error)]
    return []
