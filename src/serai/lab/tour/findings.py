"""What the tour measured. Every number is counted, none is assumed."""

from __future__ import annotations

import dataclasses
from typing import Final

_WHOLE: Final = 100.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Connections tried between guests."""

    total: int
    as_expected: int
    """Those that came out as the policies say, at the right machine, with the deciding rule on record."""

    def __add__(self, other: Probes) -> Probes:
        """Sum up."""
        return Probes(total=self.total + other.total, as_expected=self.as_expected + other.as_expected)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spoof:
    """Frames that a guest forged."""

    sent: int
    """Seen at the guest's tap, before the gate, by a witness that knows nothing of the gate."""
    passed: int
    """Seen anywhere else."""
    proven: bool
    """Every frame was seen at the tap, each forgery was dropped for its own reason, and honest frames passed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A live migration under load."""

    tcp_survived: bool
    gap_ms: float
    """The longest silence of a TCP stream that ticks every 10 ms."""
    unprotected_packets: int
    """Packets of a denied flood that the guests' own services received."""
    flood_met_the_gate: bool
    """Gates are on record to have dropped packets of each flood, at the source before the move and at the
    destination after it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentKilled:
    """The same connections, with every agent killed."""

    leaked: int
    """Denied ones that came through."""
    broken: int
    """Accepted ones that did not, an established session included."""
    gates_kept: bool
    """The agents that came back found every gate in place, with the vNICs that they guarded before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the controller keeps of the tour's traffic."""

    records: int
    percent: float
    """Of the records that were made, those that it has."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The whole tour."""

    probes: Probes
    spoof: Spoof
    migration: Migration
    agent_killed: AgentKilled
    recorded: Recorded

    @property
    def good(self) -> bool:
        """Whether everything is as it should be."""
        return (
            self.probes.total == self.probes.as_expected > 0
            and self.spoof.sent > 0 == self.spoof.passed
            and self.spoof.proven
            and self.migration.tcp_survived
            and self.migration.unprotected_packets == 0
            and self.migration.flood_met_the_gate
            and self.agent_killed.leaked == self.agent_killed.broken == 0
            and self.agent_killed.gates_kept
            and self.recorded.records > 0
            and self.recorded.percent == _WHOLE
        )

    def fields(self) -> dict[str, object]:
        """For a program."""
        return {
            "probes": {"total": self.probes.total, "as_expected": self.probes.as_expected},
            "spoof": {"sent": self.spoof.sent, "passed": self.spoof.passed},
            "migration": {
                "tcp_survived": self.migration.tcp_survived,
                "gap_ms": round(self.migration.gap_ms, 1),
                "unprotected_packets": self.migration.unprotected_packets,
            },
            "agent_killed": {"leaked": self.agent_killed.leaked, "broken": self.agent_killed.broken},
            "recorded": {"records": self.recorded.records, "percent": self.recorded.percent},
        }
