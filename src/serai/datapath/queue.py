"""Empties a tap's queue towards its VM: what got in before the gate was there must not come out."""

from __future__ import annotations

import fcntl
import socket
import struct

from serai.datapath.libbpf import KernelError

_SIOCGIFTXQLEN, _SIOCSIFTXQLEN = 0x8942, 0x8943
_REQUEST = struct.Struct("16si20x")  # struct ifreq of linux/if.h


def flush(tap: str) -> None:
    """Drop every frame that waits in ``tap`` for the VM to read.

    The tap driver keeps waiting frames in a ring as long as the transmit queue length; a ring of length 0
    holds none.

    Raises:
        KernelError: the tap is gone, or the kernel refuses.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            answer = fcntl.ioctl(control, _SIOCGIFTXQLEN, _REQUEST.pack(tap.encode(), 0))
            length = _REQUEST.unpack(answer)[1]
            for size in (0, length):
                fcntl.ioctl(control, _SIOCSIFTXQLEN, _REQUEST.pack(tap.encode(), size))
        except OSError as error:
            raise KernelError(error.errno, f"empty the queue of {tap}: {error.strerror}") from error
