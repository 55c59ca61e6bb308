"""How the gate's structs looked in layout 2, which knew nothing of how TCP connections began."""

from __future__ import annotations

from typing import Final

import numpy as np

FLOW = np.dtype(
    [
        ("last_ns", "<u8"),
        ("judged_by", "<u8"),
        ("origin", "u1"),
        ("step", "u1"),
        ("staged_step", "u1"),
        ("tcp_flags", "u1", (2,)),
        ("scale", "u1", (2,)),
        ("pad", "u1"),
        ("end", "<u4", (2,)),
        ("limit", "<u4", (2,)),
        ("window", "<u4", (2,)),
        ("packets", "<u8", (2,)),
        ("bytes", "<u8", (2,)),
        ("first_ns", "<u8"),
        ("identity", "<u8"),
        ("rule", "<u8"),
        ("staged_rule", "<u8"),
    ]
)
"""Its key is the present one."""

SAME: Final = (
    "taps",
    "far_taps",
    "vnics",
    "meters",
    "slots",
    "addresses",
    "macs",
    "endpoints",
    "prefixes",
    "lists",
    "pages",
    "fragments",
    "blank",
    "denials",
    "settings",
    "clocks",
)
"""The maps whose records are the present ones: both gates use the very same maps. ``flows`` and the ring carry flows."""
