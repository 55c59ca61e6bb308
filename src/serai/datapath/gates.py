"""All gates of one host: what the agent asks of the kernel, in the agent's words."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

import numpy as np

from serai.datapath import layout
from serai.datapath.attach import Attacher
from serai.datapath.flows import DIRECTIONS, FlowTables
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Map
from serai.datapath.object import GateObject
from serai.datapath.tables import Tables
from serai.model.flow import FlowRow, Outcome
from serai.model.inventory import VnicId
from serai.model.policy import Direction
from serai.model.reasons import Reason
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Mode

_UNKNOWN: Final = 0
"""The vNIC number under which drops at unknown taps are counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DropCount:
    """How many packets one gate dropped (or, observing, would have dropped) for one reason, ever."""

    vnic: VnicId
    """0 stands for taps behind which no vNIC is known."""
    direction: Direction
    reason: Reason
    packets: int


def vnic_record(ifindex: int, vnic: GuardedVnic) -> np.ndarray:
    """Lay out what the gate on the tap ``ifindex`` is told, as an array of one."""
    record = np.zeros(1, layout.VNIC)
    record["ifindex"] = ifindex
    record["flags"] = (layout.FLAG_OBSERVE if vnic.mode is Mode.OBSERVE else 0) | (
        layout.FLAG_MORE_ADDRESSES if len(vnic.addresses) > 1 else 0
    )
    record["judged_by"] = vnic.judged_by
    record["id"] = vnic.id
    record["view"] = vnic.view
    record["ruleset"] = [vnic.egress, vnic.ingress]
    record["address"] = int(vnic.addresses[0]) if vnic.addresses else 0
    record["mac"] = list(vnic.mac.packed)
    return record


class Gates:
    """The gates of one host, through the kernel maps they share."""

    def __init__(self, gate: GateObject, attacher: Attacher, flows: FlowTables) -> None:
        """Compose the parts; ``open`` does that for a real host."""
        self._gate = gate
        self._maps: Mapping[str, Map] = gate.maps
        self._attacher = attacher
        self._tables = Tables(gate.maps)
        self.flows = flows

    @classmethod
    def open(
        cls, bpffs: Path, *, sizes: Mapping[str, int] | None = None, flow_quota: int = 16384, ended: Path | None = None
    ) -> Self:
        """Load the gate, or adopt what an earlier agent pinned below ``bpffs``.

        ``ended`` is the file that keeps ended flows while no agent runs.

        Raises:
            KernelError: the kernel refuses the gate, or what is pinned has another layout.
        """
        root = bpffs / f"v{layout.VERSION}"
        gate = GateObject.load(root / "maps", sizes=sizes)
        flows = FlowTables(gate.maps["flows"], entries=flow_quota, ended=ended)
        flows.adopt()
        made = cls(gate, Attacher(root / "links", gate.programs), flows)
        made.count_drops_of([VnicId(_UNKNOWN)])
        return made

    def close(self) -> None:
        """Let go of the kernel's things; the gates stay."""
        self._gate.close()

    def attach(self, ifindex: int) -> bool:
        """Put the gate on a tap, and say whether it had none. Until ``bind`` it is closed: it drops everything."""
        fresh = self._attacher.attach(ifindex)
        if fresh:  # an interface number may have served another tap before
            self.unbind(ifindex)
        return fresh

    def adopted(self) -> set[int]:
        """The taps that carry a gate which an earlier agent put there."""
        return self._attacher.pinned()

    def forget(self, ifindex: int) -> None:
        """Clean up behind a tap that is gone."""
        self.unbind(ifindex)
        self._attacher.forget(ifindex)

    def prepare(self, ruleset: HostRuleset) -> None:
        """Load what ``ruleset`` needs beside what is there; nothing is judged by it before ``bind``.

        Raises:
            KernelError: it does not fit; nothing has changed.
        """
        ids = [vnic.id for vnic in ruleset.vnics]
        self.flows.keep(ids)
        self.count_drops_of(ids)
        known, _ = self._maps["addresses"].dump()
        fresh = np.setdiff1d(_address_keys(ruleset.vnics), known)
        self._maps["addresses"].update(fresh, np.ones(len(fresh), "<u4"))
        try:
            self._tables.add(ruleset)  # last: endpoints change in place
        except KernelError:
            self._maps["addresses"].delete(fresh)
            raise

    def bind(self, bindings: Mapping[int, GuardedVnic]) -> None:
        """Tell the gates on these taps (by ifindex) whom they guard and by which rulesets; one step a gate."""
        if bindings:
            records = [vnic_record(ifindex, vnic) for ifindex, vnic in bindings.items()]
            self._maps["vnics"].update(np.array(list(bindings), "<u4"), np.concatenate(records, dtype=layout.VNIC))

    def unbind(self, ifindex: int) -> None:
        """Close the gate on this tap."""
        self._maps["vnics"].delete(np.array([ifindex], "<u4"))

    def bound(self) -> dict[int, VnicId]:
        """Which vNIC each tap's gate guards, as the kernel holds it."""
        keys, values = self._maps["vnics"].dump()
        return {int(i): VnicId(int(v["id"])) for i, v in zip(keys, values, strict=True)}

    def discard_others(self, ruleset: HostRuleset) -> bool:
        """Remove what ``ruleset`` does not need; return False, and do nothing, while a gate still uses other things."""
        judging = {(vnic.view, vnic.egress, vnic.ingress) for vnic in ruleset.vnics}
        _, records = self._maps["vnics"].dump()
        if any((int(r["view"]), *map(int, r["ruleset"])) not in judging for r in records):
            return False
        wanted = [vnic.id for vnic in ruleset.vnics]
        keys, _ = self._maps["addresses"].dump()
        self._maps["addresses"].delete(np.setdiff1d(keys, _address_keys(ruleset.vnics)))
        self._tables.remove_others(ruleset)
        counted, _ = self._maps["drops"].dump()
        self._maps["drops"].delete(np.setdiff1d(counted, np.array([_UNKNOWN, *wanted], "<u8")))
        self.flows.remove_others(set(wanted))
        return True

    def denials(self, now_ns: int) -> Iterator[FlowRow]:
        """Go through the packets that gates dropped or, observing, would have dropped."""
        keys, per_cpu = self._maps["denials"].dump()
        for key, values in zip(keys, per_cpu, strict=True):
            last = values[int(values["last_ns"].argmax())]
            outwards = key["direction"] == layout.EGRESS
            packets, size = int(values["packets"].sum()), int(values["bytes"].sum())
            outcome = Outcome.OBSERVED if key["observed"] else Outcome.DENIED
            yield FlowRow(
                vnic=VnicId(int(key["vnic"])),
                direction=DIRECTIONS[key["direction"] & 1],
                remote=IPv4Address(int(key["remote"])),
                protocol=int(key["protocol"]),
                port=int(key["port"]),
                packets_out=packets if outwards else 0,
                packets_in=0 if outwards else packets,
                bytes_out=size if outwards else 0,
                bytes_in=0 if outwards else size,
                outcome=outcome,
                reason=Reason(int(key["reason"])),
                rule=int(last["rule"]),
                staged=outcome,
                age_seconds=max(now_ns - int(last["last_ns"]), 0) / 1e9,
            )

    def rows(self) -> Iterator[FlowRow]:
        """Go through everything that was counted: flows, and packets dropped."""
        now_ns = time.monotonic_ns()
        yield from self.flows.rows(now_ns)
        yield from self.denials(now_ns)

    def drops(self) -> Iterator[DropCount]:
        """Go through the drop counters that are not zero."""
        keys, counters = self._maps["drops"].dump()
        for vnic, totals in zip(keys.tolist(), counters["packets"], strict=True):
            for direction, reason in np.argwhere(totals):
                yield DropCount(
                    vnic=VnicId(vnic),
                    direction=DIRECTIONS[direction],
                    reason=Reason(int(reason)),
                    packets=int(totals[direction, reason]),
                )

    def count_drops_of(self, vnics: Collection[VnicId]) -> None:
        """Have drop counters for each of ``vnics``; those that exist go on counting."""
        counters = self._maps["drops"]
        known = set(counters.dump()[0].tolist())
        fresh = [vnic for vnic in vnics if vnic not in known]
        counters.update(np.array(fresh, "<u8"), np.zeros(len(fresh), counters.value))


def _address_keys(vnics: Collection[GuardedVnic]) -> np.ndarray:
    pairs = [(vnic.id, int(address), 0) for vnic in vnics for address in vnic.addresses[1:]]
    return np.array(pairs, layout.ADDRESS_KEY)
