"""Check, before anything is made, that this machine can hold a lab."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from serai.datapath import preflight
from serai.lab.error import LabError
from serai.lab.kernel import newest_kernel

_TUN = Path("/dev/net/tun")
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
    gates = preflight.find_problems(None)  # each host of the lab mounts a bpffs of its own
    if os.geteuid() != 0:
        return gates
    checks: tuple[Callable[[], list[str]], ...] = (_check_commands, _check_tun, _check_libvirt, _check_guest_kernel)
    return [*gates, *(problem for check in checks for problem in check())]


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
