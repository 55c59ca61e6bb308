"""A gate in the kernel without devices: what one packet costs in it (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from bench import tenants
from serai.datapath import testrun
from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.object import GateObject
from serai.model.ruleset import HostRuleset

_REPEAT: Final = 200_000
_TCP, _SYN, _ACK = 6, 2, 16
FLOW_RATE: Final = 1_000_000
"""New flows a second: counted, as everywhere, but more than any benchmark opens."""

_MAP_ENTRIES: Final = 1 << 18
"""What the largest maps hold unless an agent is told otherwise."""

_SERVER, _NEIGHBOR = tenants.SUBNET[2], tenants.SUBNET[3]
_SOURCE, _SERVICE = 40_000, 5000


class LoopbackGate:
    """Guards the client of the first tenant, with the tables of many loaded."""

    def __init__(self, ruleset: HostRuleset) -> None:
        """Load ``ruleset``, let the client open one connection to its server."""
        self._object = GateObject.load(None, sizes=sizes(ruleset))
        gates = Gates(self._object, Attacher(Path("/nonexistent"), {}), flow_rate=FLOW_RATE)
        self.flows = gates.flows
        gates.prepare(ruleset)
        self.vnic = next(vnic for vnic in ruleset.vnics if vnic.path.endswith(":client/eth0"))
        gates.bind({testrun.LOOPBACK: self.vnic})
        self.open(_SOURCE)

    def close(self) -> None:
        """Let the kernel have its memory back."""
        self._object.close()

    def round(self) -> dict[str, float]:
        """Nanoseconds of one packet of each kind."""
        return {
            "established": self._run(self._frame(_SERVER, _SOURCE, _ACK), _REPEAT),
            "denied": self._run(self._frame(_NEIGHBOR, _SOURCE, _SYN), _REPEAT),
        }

    def open(self, source: int) -> None:
        """Open a flow from the port ``source`` to the server."""
        self._run(self._frame(_SERVER, source, _SYN), 1)

    def _run(self, frame: bytes, repeat: int) -> float:
        return testrun.run(self._object.programs["from_vm"], frame, repeat=repeat)[1]

    def _frame(self, target: IPv4Address, source: int, flags: int) -> bytes:
        tcp = struct.pack("!HHIIBBHHH", source, _SERVICE, 1, 1, 5 << 4, flags, 500, 0, 0)
        addresses = self.vnic.addresses[0].packed + target.packed
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, _TCP, 0) + addresses
        return bytes(6) + self.vnic.mac.packed + b"\x08\x00" + ip + tcp


def sizes(ruleset: HostRuleset) -> dict[str, int]:
    """How large the maps must be for ``ruleset``: no smaller than they are by default."""
    return {name: max(_MAP_ENTRIES, 1 << len(records).bit_length()) for name, records in ruleset.tables.items()}
