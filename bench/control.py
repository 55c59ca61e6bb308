"""The control plane: a controller, and 512 agents without kernels, each in a process of its own, over TLS on this machine."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.metric import Metric
from bench.site import Site, site
from serai.lab.population import Population
from serai.lab.scale import Scale

SCALE: Final = Scale(hosts=512, vms=32, vnics=10, tenants=400)
"""320 vNICs on each of 512 hosts."""
_EDITS: Final = 200
_PATIENCE_SECONDS: Final = 300.0


def measure() -> list[Metric]:
    """Measure."""
    with TemporaryDirectory(prefix="serai-control-") as directory, site(Path(directory), SCALE) as made:
        return [*_joined(made), *_edited(made), *_ruled(made), *_weighed(made), *_taken_over(made)]
