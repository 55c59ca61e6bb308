"""What the lab's daemons have written last."""

from pathlib import Path

_LOG_TAIL_LINES = 5


def tail(path: Path, start: int = 0) -> str:
    """Last lines of a log, on one line; start is where in the file they may begin."""
    try:
        lines = path.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    except OSError:
        return f"{path} is missing"
    return " / ".join(lines[-_LOG_TAIL_LINES:]) or f"{path} says nothing"
