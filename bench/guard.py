"""The gate as a filter: one at each of two VMs' taps, with the tables of many tenants."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from bench import tenants
from bench.loopback import FLOW_RATE, sizes
from bench.topology import BPFFS, End, ifindex
from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.object import GateObject

TENANTS: Final = 40_960

_FLOW_QUOTA: Final = 1 << 16
"""Four times what an agent grants: each measurement of ``newflow`` opens nearly as many."""

_DETACH_SECONDS: Final = 0.05
"""The kernel lets go of a link that lost its pin a moment later."""


class Guard:
    """A gate at each end, bound to the VM of the first tenant that has its address."""

    name = "gate"

    def __init__(self, ends: Sequence[End]) -> None:
        """Guard ``ends``."""
        self._ends = ends

    def missing(self) -> str:
        """Nothing: without a gate there is nothing to measure."""
        return ""

    def load(self) -> None:
        """Load the tables of all tenants."""
        ruleset = tenants.compiled(TENANTS)
        gate = GateObject.load(None, sizes=sizes(ruleset))
        attacher = Attacher(BPFFS / "links", gate.programs)
        self._gates = Gates(gate, attacher, flow_quota=_FLOW_QUOTA, flow_rate=FLOW_RATE)
        self._gates.prepare(ruleset)
        vnics = {str(vnic.addresses[0]): vnic for vnic in ruleset.vnics}
        self._bindings = {ifindex(end): vnics[end.address] for end in self._ends}

    def on(self) -> None:
        """Attach, then bind."""
        for number in self._bindings:
            self._gates.attach(number)
        self._gates.bind(self._bindings)

    def off(self) -> None:
        """Unbind and detach: a gate that lingered would be closed, and the next measurement would say so."""
        for number in self._bindings:
            self._gates.forget(number)
        for vnic in self._bindings.values():
            if (table := self._gates.flows.table(vnic.id)) is not None:
                table.delete(table.dump()[0])
        time.sleep(_DETACH_SECONDS)
