"""Take a lab away, knowing only what was recorded: works after any crash, at any moment of making it."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from serai.lab.error import LabError
from serai.lab.fabric import remove_namespace
from serai.lab.namespace import namespace_path
from serai.lab.process import in_network_namespace, kill_all, wait_until_gone
from serai.lab.state import LabState

_GONE_SECONDS = 20.0
_POLL_SECONDS = 0.02


def take_down(state: LabState, progress: Callable[[str], None]) -> bool:
    """End and remove all that is recorded: processes, namespaces, links, directories.

    Returns False when there was nothing. LabError when another command holds the lab or something cannot be
    removed; calling it again is always safe.
    """
    if not state.directory.exists():
        return False
    with state.lock():
        there = state.exists()
        if there:
            progress("lab: ending guests and hosts")
            _end_processes(state)
            progress("lab: removing networks")
            for name in state.namespaces():
                remove_namespace(name)
        state.remove()
    return there


def _end_processes(state: LabState) -> None:
    records = state.processes()
    for record in records:
        record.kill()
    _empty_namespaces(state.namespaces())
    if not wait_until_gone(records, timeout_seconds=_GONE_SECONDS):
        names = ", ".join(f"{record.name} (pid {record.pid})" for record in records if record.alive())
        raise LabError(f"these processes of the lab do not end: {names}")


def _empty_namespaces(names: Sequence[str]) -> None:
    """End every process inside the lab's namespaces: whoever is there belongs to the lab, recorded or not."""
    inodes = []
    for name in names:
        with suppress(FileNotFoundError):
            inodes.append(namespace_path(name).stat().st_ino)
    deadline = time.monotonic() + _GONE_SECONDS
    while pids := in_network_namespace(inodes):
        if time.monotonic() > deadline:
            raise LabError(f"processes {', '.join(map(str, pids))} in the lab's namespaces do not end")
        kill_all(pids)
        time.sleep(_POLL_SECONDS)
