"""Two VMs' ends, twice, on one bridge, in namespaces that the kernel takes away with this process.

Nothing here has a name outside: however the process ends, links, pins and rules go with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_CLONE_NEWNS, _CLONE_NEWNET, _MS_REC, _MS_PRIVATE = 0x00020000, 0x40000000, 0x4000, 1 << 18
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000

BPFFS: Final = Path("/sys/fs/bpf")
"""Inside ``isolated``: an empty bpffs of our own."""

NETFILTER_SWITCH: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""Whether bridges of the current namespace send packets through netfilter; absent where they cannot."""

_PATIENCE_SECONDS: Final = 10

_ENOUGH = 500  # characters of what a command says: nft repeats all that it was given

_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: object, text: str | None = None) -> str:
    """Run a command that must succeed, give it ``text`` to read, and return what it prints.

    Raises:
        RuntimeError: it failed; the message holds what it said.
    """
    command = [str(word) for word in words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[:_ENOUGH]}")
    return done.stdout


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run the body in a network and a mount namespace of its own, the host's, with an empty bpffs."""
    names = [("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)]
    before = [(os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in names]
    here = Path.cwd()
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWNET)
    try:
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        _call("mount", b"bpf", str(BPFFS).encode(), b"bpf", 0, None)
        _calm()
        yield
    finally:
        for descriptor, kind in before:
            _call("setns", descriptor, kind)
            os.close(descriptor)
        os.chdir(here)  # entering a mount namespace leads to its root


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Run the body in the network namespace that the descriptor ``namespace`` stands for."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _call("setns", namespace, _CLONE_NEWNET)
    try:
        yield
    finally:
        _call("setns", before, _CLONE_NEWNET)
        os.close(before)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A VM's end of its wire."""

    address: str
    mac: str
    tap: str
    """The bridge's port that leads to it, where its gate stands."""
    descriptor: int
    """Of the namespace in which the VM's programs run, or of the tap itself."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Who talks to whom: a opens, b answers."""

    a: End
    b: End


class Bridge:
    """A bridge in the current namespace and what hangs on it."""

    def __init__(self) -> None:
        """Make it, with nothing that would send frames on its own."""
        run("ip", "link", "add", "br0", "type", "bridge", "stp_state", 0, "forward_delay", 0, "mcast_snooping", 0)
        run("ip", "link", "set", "br0", "up")
        if NETFILTER_SWITCH.exists():  # on, in a new namespace
            NETFILTER_SWITCH.write_text("0")
        self._descriptors: list[int] = []

    def close(self) -> None:
        """Let go of all ends; a tap that nobody holds is no more."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def veth(self, address: str, mac: str) -> End:
        """Add a VM that is a namespace behind a pair of virtual cards, one of which stands for its tap."""
        tap = f"veth{len(self._descriptors)}"
        guest = _new_namespace()
        self._descriptors.append(guest)
        run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "address", mac)
        _move("eth0", guest)
        with inside(guest):
            run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
        self._plug(tap, mac)
        return End(address=address, mac=mac, tap=tap, descriptor=guest)

    def tap(self, address: str, mac: str) -> End:
        """Add a VM of which there is only the tap; whoever reads and writes its descriptor plays the VM."""
        name = f"tap{len(self._descriptors)}"
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        self._plug(name, mac)
        return End(address=address, mac=mac, tap=name, descriptor=descriptor)

    def wait(self) -> None:
        """Wait until frames pass: the kernel notices that a link has come up a moment later."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(port["state"] != "forwarding" for port in json.loads(run("bridge", "-json", "link"))):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the bridge's ports are not up after {_PATIENCE_SECONDS} s")
            time.sleep(0.01)

    def introduce(self, ends: Sequence[End]) -> None:
        """Let namespaces know each other's MAC addresses: no ARP amid a measurement."""
        for end in ends:
            with inside(end.descriptor):
                for other in ends:
                    if other is not end:
                        run("ip", "neigh", "add", other.address, "lladdr", other.mac, "dev", "eth0", "nud", "permanent")

    def _plug(self, tap: str, mac: str) -> None:
        run("ip", "link", "set", tap, "master", "br0", "up")
        run("bridge", "fdb", "replace", mac, "dev", tap, "master", "static")


def ifindex(end: End) -> int:
    """The number of the interface at which the end's gate stands."""
    return socket.if_nametoindex(end.tap)


def _new_namespace() -> int:
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _call("unshare", _CLONE_NEWNET)
    made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _calm()
    run("ip", "link", "set", "lo", "up")
    _call("setns", before, _CLONE_NEWNET)
    os.close(before)
    return made


def _calm() -> None:
    """IPv6 speaks on its own: there is none in the current namespace."""
    for name in ("all", "default"):
        setting = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        if setting.exists():
            setting.write_text("1")


def _move(link: str, namespace: int) -> None:
    # The path is opened by ip itself, a child of this process.
    run("ip", "link", "set", link, "netns", f"/proc/{os.getpid()}/fd/{namespace}")


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
