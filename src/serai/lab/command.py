"""Run a short external command whose failure is the lab's failure."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from serai.lab.error import LabError

_TIMEOUT_SECONDS = 60.0


def run_command(
    argv: Sequence[str | Path],
    *,
    input_bytes: bytes | None = None,
    cwd: Path | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> bytes:
    """Run argv to its end and return what it printed.

    The command dies with the caller, so an interrupted step leaves no helper at work behind `down`'s back.
    Raises LabError with the command and its last message when it is missing, fails or takes too long.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", "--", *words],
            input=input_bytes,
            stdin=subprocess.DEVNULL if input_bytes is None else None,
            capture_output=True,
            check=False,
            cwd=cwd,
            timeout=timeout_seconds,
        )
    except FileNotFoundError as error:
        raise LabError(f"cannot run {error.filename}: it is not installed; run tools/setup") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(words)}` did not end within {timeout_seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"`{' '.join(words)}` failed with status {done.returncode}: {said}")
    return done.stdout
