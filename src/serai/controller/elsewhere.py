"""Work in a process of its own, which has all that this one has when it begins: nobody waits for it here, and what it makes comes by a pipe."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")


def elsewhere(job: Callable[[], T]) -> T:
    """Do something elsewhere, and wait for it. Where that fails, for whatever reason, it is done here, and so its error is told as ever."""
    with begun(job) as pipe:
        made: T | None = received(pipe)
    return job() if made is None else made


@contextlib.contextmanager
def begun(job: Callable[[], object]) -> Iterator[BinaryIO]:
    """Begin something elsewhere; what it makes can be read from what is returned."""
    readable, writable = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        # Whatever happens, nothing but this may happen here: cleaning up is for the process that was forked.
        try:
            os.close(readable)
            gc.disable()  # nobody will miss what is collected at the end
            with os.fdopen(writable, "wb") as pipe:
                pickle.dump(job(), pipe, protocol=pickle.HIGHEST_PROTOCOL)
            status = 0
        finally:
            os._exit(status)
    os.close(writable)
    try:
        with os.fdopen(readable, "rb") as pipe:
            yield pipe
    finally:
        os.waitpid(process, 0)  # it is done, or will be as soon as it finds that nobody reads


def received(pipe: BinaryIO) -> Any | None:  # noqa: ANN401 (whatever the job makes)
    """Return what a process of ours has made; None where it failed."""
    try:
        return pickle.load(pipe)  # noqa: S301 (a pipe to a process that this one has forked)
    except (EOFError, pickle.UnpicklingError):
        return None
