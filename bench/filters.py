"""What stands between two VMs: the gate, or what somebody would use in its place."""

from __future__ import annotations

from typing import Protocol


class Filter(Protocol):
    """Something that judges packets on the bridge of the current namespace, once it is on."""

    name: str
    """How its metrics begin."""

    def missing(self) -> str:
        """Say what this machine lacks and how to get it; empty where it lacks nothing."""

    def load(self) -> None:
        """Do once what takes long; nothing is judged yet."""

    def on(self) -> None:
        """Judge every packet from now on."""

    def off(self) -> None:
        """Judge nothing, and forget all flows."""
