"""Compiles routing domains of a great many shapes on all processors: each process takes a share, and what it makes comes by a pipe.

Where most have the same shapes it is not worth it: to bring a domain over takes as long as to make it of a known shape.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import BinaryIO, Final

from serai.controller.elsewhere import begun, received
from serai.policy.compiler.census import Members
from serai.policy.compiler.domains import CompiledDomain, Progress, Shapes, compile_domains, untold
from serai.policy.compiler.statutes import Statutes

_WORTHWHILE: Final = 2000
"""Fewer domains than this are compiled sooner than processes are made and their results read."""
_TRIED: Final = 256
"""So many are compiled here first, to see how many shapes there are."""
_NEW_SHAPES: Final = 0.25
"""How many of them must have been of a shape not known before."""
_MOST: Final = 8
"""Processes at the most: reading what they made is work for one."""


def compile_in_parallel(
    everybody: Sequence[Members], statutes: Statutes, shapes: Shapes, progress: Progress = untold
) -> dict[str, CompiledDomain]:
    """Do what ``compile_domains`` does, sooner where there are many domains and several processors.

    A process that fails, for whatever reason, has its share done again here, and so its error is told as ever.

    Raises:
        CollisionError: two different things would have the same number.
    """
    processes = min(len(os.sched_getaffinity(0)), _MOST)
    if len(everybody) < _WORTHWHILE or processes == 1:
        return compile_domains(everybody, statutes, shapes, progress)
    known = len(shapes)
    done = compile_domains(everybody[:_TRIED], statutes, shapes, progress)
    rest = everybody[_TRIED:]
    if len(shapes) - known < _NEW_SHAPES * _TRIED:
        return done | compile_domains(rest, statutes, shapes, progress)
    shares = [rest[at::processes] for at in range(processes)]
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_elsewhere(share, statutes, shapes)) for share in shares[1:]]
        done |= compile_domains(shares[0], statutes, shapes, progress)
        for share, other in zip(shares[1:], others, strict=True):
            made: dict[str, CompiledDomain] | None = received(other)
            if made is None:
                done |= compile_domains(share, statutes, shapes, progress)
            else:
                done |= made
                progress(len(share))
    return {members.name: done[members.name] for members in everybody}


def _elsewhere(
    share: Sequence[Members], statutes: Statutes, shapes: Shapes
) -> contextlib.AbstractContextManager[BinaryIO]:
    return begun(lambda: compile_domains(share, statutes, shapes))
