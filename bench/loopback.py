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
_PASSED: Final = -1
_TCP, _SYN, _ACK = 6, 2, 16
_IPV4: Final = b"\x08\x00"

FLOW_RATE: Final = 1_000_000
"""New flows a second: counted, as everywhere, but more than any benchmark opens."""

_FLOWS: Final = 1 << 14
"""More than are handed over."""

_MAP_ENTRIES: Final = 1 << 18
"""What the largest maps hold unless an agent is told otherwise."""

_SERVER, _NEIGHBOR = tenants.SUBNET[2], tenants.SUBNET[3]
_SOURCE, _SERVICE = 40_000, 5000


class LoopbackGate:
    """Guards the client of the first tenant, with the tables of many loaded."""

    def __init__(self, ruleset: HostRuleset) -> None:
        """Load ``ruleset``, let the client open one connection to its server."""
        self._object = GateObject.load(None, sizes=sizes(ruleset))
        gates = Gates(self._object, Attacher(Path("/nonexistent"), {}), flow_quota=_FLOWS, flow_rate=FLOW_RATE)
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
            "established": self._run("from_vm", self._outwards(_SERVER, _SOURCE, _ACK), repeat=_REPEAT),
            "denied": self._run("from_vm", self._outwards(_NEIGHBOR, _SOURCE, _SYN), passes=False, repeat=_REPEAT),
        }

    def open(self, source: int) -> None:
        """Open a connection from the port ``source`` to the server."""
        self._run("from_vm", self._outwards(_SERVER, source, _SYN))
        self._run("to_vm", self._inwards(_SERVER, source, _SYN | _ACK))
        self._run("from_vm", self._outwards(_SERVER, source, _ACK))

    def _run(self, program: str, frame: bytes, *, passes: bool = True, repeat: int = 1) -> float:
        result, duration = testrun.run(self._object.programs[program], frame, repeat=repeat)
        if (result == _PASSED) is not passes:
            raise RuntimeError(f"the gate's {program} returned {result} for {frame.hex()}")
        return duration

    def _outwards(self, target: IPv4Address, source: int, flags: int) -> bytes:
        ends = self.vnic.addresses[0].packed + target.packed
        return bytes(6) + self.vnic.mac.packed + _IPV4 + _datagram(ends, (source, _SERVICE), flags)

    def _inwards(self, origin: IPv4Address, target: int, flags: int) -> bytes:
        ends = origin.packed + self.vnic.addresses[0].packed
        return self.vnic.mac.packed + bytes(6) + _IPV4 + _datagram(ends, (_SERVICE, target), flags)


def _datagram(ends: bytes, ports: tuple[int, int], flags: int) -> bytes:
    """A TCP segment without payload; both sides begin at 0, and a SYN counts as one byte."""
    sequence, acknowledged = (0 if flags & _SYN else 1), (1 if flags & _ACK else 0)
    tcp = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 500, 0, 0)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, _TCP, 0) + ends + tcp


def sizes(ruleset: HostRuleset) -> dict[str, int]:
    """How large the maps must be for ``ruleset``: no smaller than they are by default."""
    return {name: max(_MAP_ENTRIES, 1 << len(records).bit_length()) for name, records in ruleset.tables.items()}
