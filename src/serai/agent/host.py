"""The host as its link sees it (``HostPort``): what the agent's core knows, and its word that a ruleset is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serai.agent.core import Agent
from serai.agent.refused import RefusedError
from serai.datapath.libbpf import KernelError
from serai.model.host_facts import HostFacts
from serai.wire.remote import Sight


class Host:
    """Between the agent's core and its link."""

    def __init__(self, core: Agent, enforce: Callable[[bytes], None], change: Callable[[bytes], None]) -> None:
        """Tell of ``core``; have rulesets, and changes of them, enforced by those two."""
        self._core = core
        self._enforce = enforce
        self._change = change
        self._touched = asyncio.Event()
        self._facts: HostFacts | None = None

    def touch(self) -> None:
        """Something may have changed."""
        self._touched.set()

    def sight(self) -> Sight:
        """Whom the host runs and guards."""
        gates = list(self._core.gates())
        vnics = {gate.vnic.id if gate.vnic else gate.adopted for gate in gates} - {None}
        return Sight(
            macs=sorted({str(gate.mac) for gate in gates if gate.mac}),
            vnics=sorted(number for number in vnics if number is not None),
        )

    def held(self) -> tuple[bytes | None, tuple[bytes, ...]]:
        """The digest of the ruleset that it holds, and those of its parts."""
        ruleset = self._core.ruleset
        return (bytes.fromhex(ruleset.digest), tuple(sorted(ruleset.parts))) if ruleset else (None, ())

    def facts(self) -> HostFacts | None:
        """What it is made of; None: that is not known yet."""
        return self._facts

    def describe(self, facts: HostFacts) -> None:
        """Take in what the host is made of."""
        if facts != self._facts:
            self._facts = facts
            self.touch()

    def enforce(self, ruleset: bytes) -> bytes:
        """Enforce a ruleset, and return the digest of what is held then.

        Raises:
            RefusedError: it is not in force.
        """
        return self._have(self._enforce, ruleset)

    def change(self, delta: bytes) -> bytes:
        """Enforce what a change makes of the ruleset that is held; the same otherwise.

        Raises:
            RefusedError: it does not fit, or is not in force.
        """
        return self._have(self._change, delta)

    async def wait_changed(self) -> None:
        """Wait until something may have changed."""
        await self._touched.wait()
        self._touched.clear()

    def _have(self, enforce: Callable[[bytes], None], raw: bytes) -> bytes:
        try:
            enforce(raw)
        except KernelError as error:
            raise RefusedError(f"the kernel refuses: {error}") from error
        digest, _ = self.held()
        if digest is None:
            raise RefusedError("the kernel holds no ruleset")
        return digest
