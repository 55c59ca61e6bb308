"""All gates of one host: what the agent asks of the kernel, in the agent's words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Self

import numpy as np

from serai.datapath import layout
from serai.datapath.attach import Attacher
from serai.datapath.clock import Clock
from serai.datapath.counted import Counted
from serai.datapath.denials import Denials
from serai.datapath.diary import Diary
from serai.datapath.events import Ring
from serai.datapath.features import features
from serai.datapath.flows import FlowTables
from serai.datapath.fragments import Fragments
from serai.datapath.handoff import Flows, Handoff
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map, without
from serai.datapath.metering import Metering, Remembered
from serai.datapath.object import GateObject
from serai.datapath.own import OwnIdentities
from serai.datapath.samples import Samples
from serai.datapath.sightings import Sightings
from serai.datapath.slots import Slots
from serai.datapath.tables import Tables
from serai.datapath.upgrade import Host, share_maps, take_over
from serai.datapath.vnics import Records, bindings, more_macs, vnic_record
from serai.model.flow import DIRECTIONS, FLOWS_OF_A_VNIC, NEW_FLOWS_A_SECOND, DropCount, FlowRow
from serai.model.host_facts import Feature
from serai.model.inventory import VnicId
from serai.model.reasons import Reason
from serai.model.ruleset import GuardedVnic, HostRuleset


class Gates:
    """The gates of one host, through the kernel maps they share."""

    def __init__(
        self,
        gate: GateObject,
        attacher: Attacher,
        *,
        flow_quota: int = FLOWS_OF_A_VNIC,
        flow_rate: int = NEW_FLOWS_A_SECOND,
        idle: Mapping[str, int] | None = None,
        remember: int = 65536,
        ended: Path | None = None,
        pins: Path | None = None,
        records: Path | None = None,
    ) -> None:
        """Compose the parts; ``open`` does that for a real host.

        Args:
            gate: the programs and maps.
            attacher: puts the programs on taps.
            flow_quota: how many flows a vNIC may hold that says nothing else.
            flow_rate: how many it may open a second, and others to it; 0: no limit.
            idle: limits that differ from ``IdleSeconds``, by its names, in seconds.
            remember: how many ended flows, and how many records of denials, are kept.
            ended: the file that keeps ended flows while no agent runs.
            pins: where flow tables are pinned, on a bpffs.
            records: the directory that keeps what an agent that is killed must still tell of traffic.
        """
        self._gate = gate
        self._maps: Mapping[str, Map] = gate.maps
        self._attacher = attacher
        self._tables = Tables(gate.maps)
        self._slots = Slots(gate.maps["slots"], gate.maps["meters"])
        self._records = Records(gate.maps)
        self._quota, self._rate = flow_quota, flow_rate
        self._amid: dict[VnicId, int] = {}
        self._held: set[VnicId] = set()
        self._wanted: set[VnicId] | None = None
        """The vNICs whose flows are needed, since others were discarded; None: something else is about to be."""
        self._own = OwnIdentities(gate.maps["endpoints"])
        self.metering = Metering(Diary(records) if records else None, self._own.of)
        """What there is to tell of these gates."""
        self.flows = FlowTables(
            gate.maps["flows"],
            self._slots,
            idle=idle,
            remember=remember,
            ended=ended,
            pins=pins,
            metering=self.metering,
        )
        self.denials = Denials(gate.maps["denials"], remember=remember, metering=self.metering)
        self.sightings = Sightings(gate.maps["sightings"])
        self._fragments = Fragments(gate.maps["fragments"])
        self.samples = Samples(Ring(gate.ring), self.flows)
        self.upgraded: list[int] = []
        """The taps on which ``open`` found gates of an older layout, and replaced them."""
        self._clock = Clock(gate.clock, gate.maps["clocks"], gate.maps["settings"])
        self._clock.set(self.flows.idle_ns)

    @classmethod
    def open(
        cls,
        bpffs: Path,
        *,
        sizes: Mapping[str, int] | None = None,
        flow_quota: int = FLOWS_OF_A_VNIC,
        flow_rate: int = NEW_FLOWS_A_SECOND,
        idle: Mapping[str, int] | None = None,
        ended: Path | None = None,
        records: Path | None = None,
    ) -> Self:
        """Load the gate, or adopt what an earlier agent pinned below ``bpffs``.

        Raises:
            KernelError: the kernel refuses the gate, or what is pinned has another layout.
        """
        root = bpffs / f"v{layout.VERSION}"
        share_maps(bpffs)
        gate = GateObject.load(root / "maps", sizes=sizes)
        attacher = Attacher(root / "links", gate.programs)
        made = cls(
            gate, attacher, flow_quota=flow_quota, flow_rate=flow_rate, idle=idle, ended=ended, pins=root / "flows", records=records,
        )  # fmt: skip
        made.flows.adopt()
        made.upgraded = take_over(bpffs, made._host())
        return made

    def _host(self) -> Host:
        return Host(
            maps=self._maps,
            slots=self._slots,
            records=self._records,
            flows=self.flows,
            attacher=self._attacher,
            flow_quota=self._quota,
            flow_rate=self._rate,
        )

    def close(self) -> None:
        """Let go of the kernel's things; the gates stay."""
        self.samples.close()
        self._gate.close()

    def attach(self, ifindex: int) -> bool:
        """Put the gate on a tap, and say whether it had none. Until ``bind`` it is closed: it drops everything."""
        fresh = self._attacher.attach(ifindex)
        if fresh:  # an interface number may have served another tap before
            self.unbind(ifindex)
        return fresh

    def is_attached(self, ifindex: int) -> bool:
        """Say whether both programs are on the tap, as the kernel has it now."""
        return self._attacher.is_attached(ifindex)

    def adopted(self) -> set[int]:
        """The taps that carry a gate which an earlier agent put there."""
        return self._attacher.attached()

    def forget(self, ifindex: int) -> None:
        """Clean up behind a tap that is gone."""
        self.unbind(ifindex)
        self._attacher.forget(ifindex)

    def prepare(self, ruleset: HostRuleset, bridge: HostRuleset | None = None) -> None:
        """Load what ``ruleset`` needs beside what is there; nothing is judged by it before ``bind``.

        ``bridge`` has more that tables must hold until all gates have switched (see ``Delta.bridged``).

        Raises:
            KernelError: it does not fit; nothing has changed.
        """
        self._wanted = None
        self.flows.keep({vnic.id: vnic.security.max_flows or self._quota for vnic in ruleset.vnics})
        addresses, macs = self._maps["addresses"], self._maps["macs"]
        fresh = [
            (addresses, without(bindings(ruleset.vnics), addresses.dump()[0])),
            (macs, without(more_macs(ruleset.vnics), macs.dump()[0])),
        ]
        try:
            for target, keys in fresh:
                target.update(keys, np.ones(len(keys), "<u4"))
            self._tables.add(bridge or ruleset)  # last: endpoints change in place
        except KernelError:
            for target, keys in fresh:
                target.delete(keys)
            raise

    def bind(self, bindings: Mapping[int, GuardedVnic]) -> None:
        """Tell the gates on these taps (by ifindex) whom they guard and by which rulesets; one step a gate."""
        if not bindings:
            return
        self._own.know(bindings.values())
        now_ns = time.monotonic_ns()
        self._amid = {vnic: until_ns for vnic, until_ns in self._amid.items() if until_ns > now_ns}
        self._records.write(
            {
                ifindex: vnic_record(
                    ifindex,
                    vnic,
                    self._slots.given[vnic.id],
                    flow_rate=self._rate,
                    amid_until_ns=self._amid.get(vnic.id, 0),
                )
                for ifindex, vnic in bindings.items()
            }
        )

    def take_amid(self, vnic: VnicId, until_ns: int) -> None:
        """Have the gate that guards ``vnic``, from its next binding until then, take TCP connections whose beginning it has not seen.

        Only those that policy accepts, in one orientation or the other: who opened them is not known. That is for VMs that come from
        another host without all of their flows.
        """
        self._amid[vnic] = until_ns

    def unbind(self, ifindex: int) -> None:
        """Close the gate on this tap."""
        self._records.remove(ifindex)

    def bound(self) -> dict[int, VnicId]:
        """Which vNIC each tap's gate guards, as the kernel holds it."""
        return {ifindex: VnicId(int(record["id"][0])) for ifindex, record in self._records}

    def features(self) -> list[Feature]:
        """What the kernel has of what gates are better off with."""
        return list(features(self._attacher))

    def discard_others(self, ruleset: HostRuleset) -> bool:
        """Remove what ``ruleset`` does not need; return False, and do nothing, while a gate still uses other things."""
        judging = {(vnic.id, vnic.view, vnic.egress, vnic.ingress) for vnic in ruleset.vnics}
        for _, record in self._records:
            (used,) = record
            if (int(used["id"]), int(used["view"]), *map(int, used["ruleset"])) not in judging:
                return False
        _delete_others(self._maps["addresses"], bindings(ruleset.vnics))
        _delete_others(self._maps["macs"], more_macs(ruleset.vnics))
        self._tables.remove_others(ruleset)
        self._wanted = {vnic.id for vnic in ruleset.vnics}
        self._remove_others(self._wanted | self._held)
        return True

    def hold(self, vnics: Collection[VnicId]) -> None:
        """Keep what is known of the flows of ``vnics``, whichever rules come, until they are let go: they are on their way to another host."""
        self._held.update(vnics)

    def let_go(self, vnics: Collection[VnicId]) -> None:
        """Keep it no longer than rules need it."""
        self._held.difference_update(vnics)
        if self._wanted is not None:
            self._remove_others(self._wanted | self._held)

    def _remove_others(self, vnics: AbstractSet[VnicId]) -> None:
        self._hear_ends()
        self.metering.read_sightings(self.sightings.counts())
        self.sightings.forget(self._slots.given.keys() - vnics)
        self._own.forget_others(vnics)
        self.flows.remove_others(vnics)

    def sweep(self) -> None:
        """Take what is over out of the kernel; of flows, where there are many. ``read`` sees to the others.

        Raises:
            OSError: ended flows cannot be written to their file; they are remembered in memory only.
        """
        self._clock.adjust()
        now_ns = time.monotonic_ns()
        self.denials.sweep(now_ns)
        self._fragments.sweep(now_ns)
        self.flows.sweep(now_ns, full_only=True)

    def begin(self, memory: Remembered | None, volume: int) -> None:
        """Meter from now on; see ``Metering.start``.

        Raises:
            ValueError: the memory is not one.
            OSError: as for ``sweep``.
        """
        self.metering.start(memory, volume, self._counted(), time.monotonic_ns())
        self.samples.read()  # what it tells once more it tells now

    def read(self) -> Iterator[None]:
        """Sweep all flows, and have all that is counted metered; stop now and then, so that others can do something.

        Raises:
            OSError: as for ``sweep``.
        """
        self._hear_ends()
        now_ns = time.monotonic_ns()
        yield from self.flows.read(now_ns)
        self.metering.read_others(self._counted(), now_ns)

    def take(self, flows: bytes, now_ns: int) -> int:
        """Take over flows of another host; see ``FlowTables.take``."""
        self._hear_ends()
        return self.flows.take(flows, now_ns)

    def take_over(self, handoff: Handoff, now_ns: int) -> tuple[int, Flows]:
        """Take over flows of another host; see ``FlowTables.take_over``."""
        self._hear_ends()
        return self.flows.take_over(handoff, now_ns)

    def hand_over(self, vnic: VnicId) -> None:
        """Know that another host has taken the flows of ``vnic``: here they have not ended, they are there."""
        self._hear_ends()
        self.flows.hand_over(vnic)

    def _hear_ends(self) -> None:
        """What the ring has of flows that are missed, are about to go, or come again, is told before that."""
        with contextlib.suppress(OSError):  # a full disk: it is said whenever the ring is read
            self.samples.read()

    def _counted(self) -> Counted:
        return Counted(
            tables=self.flows, slots=self._slots, records=self.denials, seen=self.sightings, ring=self.samples
        )

    def rows(self) -> Iterator[FlowRow]:
        """Go through everything that was counted: flows, and packets dropped."""
        now_ns = time.monotonic_ns()
        yield from self.flows.rows(now_ns)
        yield from self.denials.rows(now_ns)

    def drops(self) -> Iterator[DropCount]:
        """Go through the drop counters that are not zero."""
        for vnic, meter in zip(*self._slots.meters(), strict=True):
            totals = meter["drops"]
            for direction, reason in np.argwhere(totals):
                yield DropCount(
                    vnic=vnic,
                    direction=DIRECTIONS[direction],
                    reason=Reason(int(reason)),
                    packets=int(totals[direction, reason]),
                )

    def lost(self) -> tuple[int, int]:
        """How many packets were dropped without a record of whose they were, and how many events found no room."""
        _, meters = self._slots.meters()
        return int(meters["lost_denials"].sum()), int(meters["lost_events"].sum())


def _delete_others(target: Map, wanted: Array) -> None:
    target.delete(without(target.dump()[0], wanted))
