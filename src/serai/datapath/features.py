"""What this kernel has of what gates are better off with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serai.datapath.attach import Attacher
from serai.model.host_facts import Feature

_JIT: Final = Path("/proc/sys/net/core/bpf_jit_enable")


def features(attacher: Attacher, jit: Path = _JIT) -> Iterator[Feature]:
    """Go through it. What cannot be told, as from inside of a network namespace, is left out."""
    if attacher.has_tcx:
        yield Feature.TCX
    try:
        compiles = jit.read_text().strip() != "0"
    except OSError:
        return
    if compiles:
        yield Feature.JIT
