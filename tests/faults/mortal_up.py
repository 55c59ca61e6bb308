"""``serai up`` that dies at a place of one's choice: python mortal_up.py FILE ARGUMENTS...

The place stands in FILE, where there is one: ``before X`` or ``after X``, for a command X of the agent's core, or ``before the answer``.
It kills itself with SIGKILL there, the first time that a change of a ruleset comes to it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from serai.agent.core import Command
from serai.agent.host import Host
from serai.agent.runtime import Runtime
from serai.cli.main import main

PLACES = (
    "before PrepareTables",
    "after PrepareTables",
    "before BindVnics",
    "after BindVnics",
    "after StoreRuleset",
    "before the answer",
)


def rig(file: Path) -> None:
    """Put the places into the way that a ruleset takes into the kernel."""
    real_execute, real_change = Runtime._execute, Host.change
    changing = False

    def at(place: str) -> None:
        if changing and file.exists() and file.read_text() == place:
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self: Runtime, command: Command, ungated: Collection[int]) -> None:
        name = type(command).__name__
        at(f"before {name}")
        real_execute(self, command, ungated)
        at(f"after {name}")

    def change(self: Host, delta: bytes) -> Any:
        nonlocal changing
        changing = True
        held = real_change(self, delta)
        at("before the answer")
        changing = False
        return held

    for where, name, what in ((Runtime, "_execute", execute), (Host, "change", change)):
        setattr(where, name, what)


if __name__ == "__main__":
    rig(Path(sys.argv[1]))
    main(sys.argv[2:])
