"""The gates of this host as its moves see them (``GatePort``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
import numpy as np

from serai.agent.core import Agent, Event, VnicsElsewhere, VnicsHere
from serai.agent.moving.port import Took
from serai.agent.refused import RefusedError
from serai.datapath.deltas import service
from serai.datapath.gates import Gates
from serai.datapath.handoff import Flows, Handoff
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array
from serai.datapath.passed import Passed
from serai.model.inventory import VnicId
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Mode
from serai.policy.verdicts import Verdicts

PART: Final = 32768
"""Flows that are written down in one piece."""
AMID_SECONDS: Final = 15
"""How long a VM that has come without all of its flows may go on with connections that nobody here has seen begin."""
_TICK_NS: Final = 50_000_000
"""The gate's clock is coarse (a tick of some ms): one asks a little further back than the last time."""
_NS: Final = 1_000_000_000


class HostGates:
    """What is asked of the kernel and of the agent's core."""

    def __init__(self, gates: Gates, core: Agent, take: Callable[[Event], None]) -> None:
        """Have ``take`` let the core decide, and do what it says."""
        self._gates, self._core, self._take = gates, core, take

    def guarded(self, vnics: Collection[int]) -> bool:
        """Say whether gates here guard all of them."""
        found = {gate.vnic.id if gate.vnic else gate.adopted for gate in self._core.gates()}
        return found.issuperset(vnics)

    def withhold(self, vnics: Collection[int]) -> None:
        """Let no gate forward for them."""
        self._take(VnicsElsewhere(vnics=frozenset(map(VnicId, vnics))))

    def release(self, vnics: Collection[int], *, amid: bool) -> None:
        """Let gates forward for them; ``amid``: connections too that have begun elsewhere, for a while."""
        if amid:
            until_ns = time.monotonic_ns() + AMID_SECONDS * _NS
            for vnic in vnics:
                self._gates.take_amid(VnicId(vnic), until_ns)
        self._take(VnicsHere(vnics=frozenset(map(VnicId, vnics))))

    def leaving(self, vnics: Collection[int]) -> LeavingFlows:
        """Begin to hand their flows over."""
        return LeavingFlows(self._gates, [VnicId(vnic) for vnic in vnics])

    def coming(self, vnics: Collection[int]) -> ComingFlows:
        """Begin to take their flows over."""
        return ComingFlows(self._gates, [VnicId(vnic) for vnic in vnics], lambda: self._core.ruleset)


class LeavingFlows:
    """Flows that are written down again and again, each time those that were active since the last time."""

    def __init__(self, gates: Gates, vnics: Sequence[VnicId]) -> None:
        """Begin with all flows of ``vnics``. They are kept until they are dropped, also when the rules do not have the VM any more."""
        self._gates, self._vnics = gates, vnics
        gates.hold(vnics)
        self._since_ns = 0
        self._last: dict[VnicId, Flows] = {}

    def copy(self, *, whole: bool) -> tuple[list[bytes], int]:
        """Write them down."""
        now_ns = time.monotonic_ns()
        since_ns = 0 if whole else self._since_ns
        parts, count = [], 0
        for vnic in self._vnics:
            try:
                keys, flows = self._last[vnic] = self._gates.flows.read_table(vnic)
            except KeyError:  # the rules have changed, and it is no more
                continue
            recent = flows["last_ns"] >= since_ns
            keys, flows = keys[recent], flows[recent]
            for at in range(0, len(keys), PART):
                part = Handoff.of(vnic, keys[at : at + PART], flows[at : at + PART], now_ns)
                parts.append(msgspec.msgpack.encode(part))
            count += len(keys)
        self._since_ns = max(0, now_ns - _TICK_NS)
        return parts, count

    def end(self) -> int:
        """Know that another host has them."""
        passed = 0
        for vnic in self._vnics:
            try:
                now = self._gates.flows.read_table(vnic)
            except KeyError:
                continue
            if vnic in self._last:
                passed += Passed(*self._last[vnic]).since(now)
            self._gates.hand_over(vnic)
        return passed

    def drop(self) -> None:
        """Keep them no longer than rules need them."""
        self._gates.let_go(self._vnics)


class ComingFlows:
    """Flows that are taken over, unless the rules in force deny them in the orientation in which they were opened."""

    def __init__(self, gates: Gates, vnics: Sequence[VnicId], ruleset: Callable[[], HostRuleset | None]) -> None:
        """Take flows of ``vnics``, by the ruleset that is in force then."""
        self._gates = gates
        self._ruleset = ruleset
        self._digest = ""
        self._verdicts: dict[VnicId, Verdicts | None] = {}
        self._passed: dict[VnicId, Passed | None] = {}
        for vnic in vnics:
            table = gates.flows.table(vnic)
            self._passed[vnic] = None if table is None else Passed(*table.dump())

    def take(self, parts: Sequence[bytes]) -> Took:
        """Take them over."""
        taken = refused = passed = 0
        for raw in parts:
            try:
                handoff = Handoff.read(raw)
            except ValueError as error:
                raise RefusedError(str(error)) from error
            vnic = VnicId(handoff.vnic)
            if vnic not in self._passed:
                raise RefusedError(f"these flows are of vNIC {vnic}, which is none of those that come")
            handoff, others = handoff.only(self._accepting(vnic))
            refused += others
            now_ns = time.monotonic_ns()
            try:
                flows, here = self._gates.take_over(handoff, now_ns)
            except KeyError as error:
                raise RefusedError(f"the rules of this host do not have vNIC {vnic}") from error
            except KernelError as error:
                raise RefusedError(f"the kernel refuses: {error}") from error
            taken += flows
            known = self._passed[vnic] or Passed(*here)
            passed += known.since(here)
            known.know(*handoff.at(now_ns))
            self._passed[vnic] = known
        return Took(flows=taken, refused=refused, unprotected=passed)

    def _accepting(self, vnic: VnicId) -> Callable[[Array, Array], Array]:
        verdicts = self._of(vnic)

        def accepts(keys: Array, flows: Array) -> Array:
            if verdicts is None:
                return np.ones(len(keys), "?")
            ports = service(keys, flows)
            return verdicts.accepts(flows["origin"] & 1, keys["remote"], keys["protocol"], ports)

        return accepts

    def _of(self, vnic: VnicId) -> Verdicts | None:
        """What the rules say of the vNIC; None: all is let pass, and counted."""
        ruleset = self._ruleset()
        guarded: GuardedVnic | None = next((v for v in ruleset.vnics if v.id == vnic), None) if ruleset else None
        if ruleset is None or guarded is None:
            raise RefusedError(f"the rules of this host do not have vNIC {vnic}")
        if ruleset.digest != self._digest:
            self._digest, self._verdicts = ruleset.digest, {}
        if vnic not in self._verdicts:
            self._verdicts[vnic] = None if guarded.mode is Mode.OBSERVE else Verdicts(ruleset, guarded)
        return self._verdicts[vnic]
