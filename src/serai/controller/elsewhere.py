"""Work in a process of its own, which has all that this one has when it begins: nobody waits for it here, and what it makes comes by a pipe."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, TypeVar

T = TypeVar("T")

_CRASHES: Final = (
    signal.SIGABRT, signal.SIGALRM, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV,
)  # fmt: skip
"""What ends a process that goes wrong, or takes too long."""


class ElsewhereError(RuntimeError):
    """A process of ours has ended and made nothing: it took too long, or it died."""


def elsewhere(job: Callable[[], T]) -> T:
    """Do something elsewhere, and wait for it. Where that fails, for whatever reason, it is done here, and so its error is told as ever."""
    with begun(job) as pipe:
        made: T | None = received(pipe)
    return job() if made is None else made


def only_elsewhere(job: Callable[[], T], seconds: int) -> T:
    """Do something elsewhere, where it may take so long and no longer, and where it may crash: it is never done here.

    It has none of the files and connections that are open here: when this process dies meanwhile, nobody holds its locks and ports.
    ``job`` makes something that is not None. What it raises is told by a traceback on stderr.

    Raises:
        ElsewhereError: nothing came of it; the message says why.
    """

    def bounded() -> T:
        signal.alarm(seconds)  # it ends the process, also amid what no Python can interrupt
        try:
            return job()
        except Exception:
            traceback.print_exc()
            raise

    process, pipe = _forked(bounded, alone=True)
    try:
        with pipe:
            made: T | None = received(pipe)
    finally:
        _, status = os.waitpid(process, 0)
    if made is None:
        raise ElsewhereError(_ended(status, seconds))
    return made


def _ended(status: int, seconds: int) -> str:
    if not os.WIFSIGNALED(status):
        return "it failed"
    number = os.WTERMSIG(status)
    return f"it took longer than {seconds} s" if number == signal.SIGALRM else f"it died of signal {number}"


@contextlib.contextmanager
def begun(job: Callable[[], object]) -> Iterator[BinaryIO]:
    """Begin something elsewhere; what it makes can be read from what is returned."""
    process, pipe = _forked(job)
    try:
        with pipe:
            yield pipe
    finally:
        os.waitpid(process, 0)  # it is done, or will be as soon as it finds that nobody reads


def _forked(job: Callable[[], object], *, alone: bool = False) -> tuple[int, BinaryIO]:
    """Return a process that does something, and the pipe by which comes what it makes. ``alone``: it has nothing open that is open here."""
    readable, writable = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        # Whatever happens, nothing but this may happen here: cleaning up is for the process that was forked.
        try:
            os.close(readable)
            for (
                number
            ) in _CRASHES:  # chDB catches them where it is loaded, and would wait here for its thread that is not
                signal.signal(number, signal.SIG_DFL)
            if alone:
                os.closerange(3, writable)
                os.closerange(writable + 1, os.sysconf("SC_OPEN_MAX"))
            gc.disable()  # nobody will miss what is collected at the end
            with os.fdopen(writable, "wb") as pipe:
                pickle.dump(job(), pipe, protocol=pickle.HIGHEST_PROTOCOL)
            status = 0
        finally:
            os._exit(status)
    os.close(writable)
    return process, os.fdopen(readable, "rb")


def received(pipe: BinaryIO) -> Any | None:  # noqa: ANN401 (whatever the job makes)
    """Return what a process of ours has made; None where it failed."""
    try:
        return pickle.load(pipe)  # noqa: S301 (a pipe to a process that this one has forked)
    except (EOFError, pickle.UnpicklingError):
        return None
