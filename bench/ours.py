"""Runs our compiler in a process of its own, whose memory is nothing but the compiler's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.missing import MissingError, check_memory

COMMAND: Final = (sys.executable, "-m", "bench.serai_compile")
"""Compiles a data center; prints an object of figures as its last line."""

_PATIENCE_SECONDS: Final = 1200


def told(*options: str, command: Sequence[str] = COMMAND) -> str:
    """Return what the compiler prints; it dies with this process.

    Raises:
        MissingError: it failed, took too long, or left too little memory to others.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command, *options],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while True:
                check_memory()
                if time.monotonic() > deadline:
                    raise MissingError(f"our compiler was not done after {_PATIENCE_SECONDS} s")
                try:
                    printed, complaints = process.communicate(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
    if process.returncode:
        last = (complaints.strip().splitlines() or ["it does not say why"])[-1]
        raise MissingError(f"our compiler failed: {last}")
    return printed
