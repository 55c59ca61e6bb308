"""Runs a gate program on one frame, in the kernel but without a device (BPF_PROG_TEST_RUN).

The kernel refuses frames with less than 20 bytes behind the Ethernet header, and tags in the metadata:
those cases need a real tap.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from serai.datapath import libbpf
from serai.datapath.libbpf import check, ffi, lib

LOOPBACK: Final = 1
"""An interface that exists everywhere, for the frame to have come through."""

# struct __sk_buff of linux/bpf.h, as far as a test may set it; the rest must be zero.
_SKB = np.dtype(
    {
        "names": ["ifindex", "gso_segs", "gso_size"],
        "formats": ["<u4", "<u4", "<u4"],
        "offsets": [40, 164, 176],
        "itemsize": 192,
    }
)


def run(program: int, frame: bytes, *, ifindex: int = LOOPBACK, gso_segs: int = 0, repeat: int = 1) -> tuple[int, int]:
    """Run the program with the descriptor ``program`` on ``frame``.

    Returns:
        What the program returned (-1 passes, 2 drops) and the mean duration in nanoseconds.
    """
    context = np.zeros(1, _SKB)
    context["ifindex"], context["gso_segs"] = ifindex, gso_segs
    context["gso_size"] = 1448 if gso_segs else 0
    data = np.frombuffer(frame, "u1")
    options = libbpf.struct("bpf_test_run_opts", data_size_in=len(data), ctx_size_in=_SKB.itemsize, repeat=repeat)
    options.data_in = ffi.cast("void *", data.ctypes.data)
    options.ctx_in = ffi.cast("void *", context.ctypes.data)
    check(lib.bpf_prog_test_run_opts(program, options), "run the gate on a frame")
    return int(np.uint32(options.retval).astype("i4")), int(options.duration)
