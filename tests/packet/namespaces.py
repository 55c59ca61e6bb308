"""Network namespaces of a test's own, and the taps in them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

_NEWNS, _NEWNET, _REC, _PRIVATE = 0x00020000, 0x40000000, 0x4000, 1 << 18
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETIFINDEX = 0x400454CA, 0x400454D0, 0x400454DA
_TAP, _NO_PI, _VNET_HDR = 2, 0x1000, 0x4000
_OFFLOADS = 1 | 2 | 4  # partial checksums, TCP segments of both versions: the VM's end takes them as they are

_SETLINK, _REQUEST_ACK = 19, 5
_MAX_SIZES = (41, 58, 63, 64)  # IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, and both of IPv4

_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def in_a_thread(body: Callable[[], _Result]) -> _Result:
    """Run ``body`` where a change of namespaces is its own."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(body).result()


def enter_new_network() -> None:
    """Give this thread a network namespace of its own, without the kernel's own chatter of IPv6."""
    _call("unshare", _NEWNS | _NEWNET)
    _call("mount", b"none", b"/", None, _REC | _PRIVATE, None)
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def mount_bpf(place: Path) -> Path:
    """Make ``place`` a bpffs, seen by this thread alone."""
    place.mkdir(exist_ok=True)
    _call("mount", b"bpf", str(place).encode(), b"bpf", 0, None)
    return place


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a thread whose namespaces the kernel takes away with it, however the test ends."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        def body() -> None:
            enter_new_network()
            test(**fixtures)

        in_a_thread(body)

    return run


def ip(*words: object) -> str:
    return subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True).stdout


def add_bridge(name: str) -> None:
    """Add a bridge that floods, and that no packet filter of the host looks into."""
    for filtered in ("arptables", "iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{filtered}").write_text("0")
    ip("link", "add", name, "type", "bridge", "stp_state", 0, "mcast_snooping", 0)
    ip("link", "set", name, "up")


class Station(concurrent.futures.ThreadPoolExecutor):
    """A thread with a network namespace of its own: what is submitted runs there."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.submit(_call, "unshare", _NEWNET).result()
        self.thread = self.submit(threading.get_native_id).result()

    def ip(self, *words: object) -> None:
        self.submit(ip, *words).result()


def allow_big_segments(name: str, size: int) -> None:
    """Let TCP hand over more than 64 KB at a time (BIG TCP); not every ``ip`` has a word for it in IPv4."""
    index = socket.if_nametoindex(name)
    values = b"".join(struct.pack("HHI", 8, attribute, size) for attribute in _MAX_SIZES)
    message = struct.pack("BxHiII", 0, 0, index, 0, 0) + values
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(struct.pack("IHHII", 16 + len(message), _SETLINK, _REQUEST_ACK, 1, 0) + message)
        (error,) = struct.unpack("i", netlink.recv(4096)[16:20])
    if error:
        raise OSError(-error, os.strerror(-error))


class Tap:
    """A tap and the end that a VM would hold: what is sent here comes from the VM."""

    def __init__(self, name: str, *, offloads: bool = False, ifindex: int = 0) -> None:
        """With ``offloads`` each frame has a virtio_net_hdr in front, as a VM's network card writes it.

        ``ifindex`` is the number that the tap shall have; 0 leaves that to the kernel.
        """
        self.name = name
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = _TAP | _NO_PI | (_VNET_HDR if offloads else 0)
        if ifindex:
            fcntl.ioctl(self.fd, _TUNSETIFINDEX, struct.pack("I", ifindex))
        fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        if offloads:
            fcntl.ioctl(self.fd, _TUNSETOFFLOAD, _OFFLOADS)
        self.ifindex = socket.if_nametoindex(name)

    def up(self) -> None:
        ip("link", "set", self.name, "up")

    def send(self, frame: bytes) -> None:
        assert os.write(self.fd, frame) == len(frame)

    def received(self) -> list[bytes]:
        """Everything that waits for the VM."""
        frames = []
        while select.select([self.fd], [], [], 0)[0]:
            frames.append(os.read(self.fd, 70000))
        return frames

    def delete(self) -> None:
        """Close it: a tap that nobody holds is no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
