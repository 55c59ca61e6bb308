"""Do something inside a named network namespace, from an ordinary process."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from serai.lab.error import LabError

_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def namespace_path(name: str) -> Path:
    """Where the network namespace called name is mounted."""
    return _DIRECTORY / name


def namespace_exists(name: str) -> bool:
    """Say whether a network namespace of that name is there."""
    return namespace_path(name).exists()


def call_in_namespace(name: str, function: Callable[[], T]) -> T:
    """Call function in a short-lived thread that has entered the network namespace, and return its result.

    Sockets that it opens stay in that namespace. What it raises is raised here; LabError when the namespace
    cannot be entered.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            _enter(name)
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            errors.append(error)

    # Only the calling thread changes namespace, so it must not be one that others use.
    thread = threading.Thread(target=body, name=f"namespace-{name}", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(namespace_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"network namespace {name} is not there: is the lab up?") from error
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise LabError(f"cannot enter network namespace {name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
