"""Gates of older layouts, loaded, pinned and told what to do as their agents did.

They are the real ones: ``data/gate-v1.o.xz`` and ``data/gate-v2.o.xz`` were compiled from the last sources with these
layouts (commits bef8492 and b56f2b9), without debug information but for BTF.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serai.datapath import layout, layout_v1, layout_v2, libbpf
from serai.datapath.attach import Attacher
from serai.datapath.clock import Clock
from serai.datapath.flows import FlowTables
from serai.datapath.libbpf import check, lib
from serai.datapath.maps import Map
from serai.datapath.slots import Slots
from serai.datapath.tablepins import TablePins
from serai.datapath.tables import Tables
from serai.datapath.vnics import Records, bindings, vnic_record
from serai.model.ruleset import HostRuleset

DATA = Path(__file__).parent / "data"


class OldGate(Protocol):
    """What tests ask of a gate that is to be replaced."""

    def guard(self, ifindex: int, rules: HostRuleset) -> None:
        """Attach, load and bind."""

    def close(self) -> None: ...


class _Loaded:
    """An old object in the kernel, its maps pinned below ``v<version>``."""

    def __init__(
        self, version: int, bpffs: Path, scratch: Path, pinned: Iterable[str], sizes: Mapping[str, int]
    ) -> None:
        unpacked = scratch / f"gate-v{version}.o"
        unpacked.write_bytes(lzma.decompress((DATA / f"gate-v{version}.o.xz").read_bytes()))
        self._handle = lib.bpf_object__open_file(str(unpacked).encode(), libbpf.NULL)
        self.pins = bpffs / f"v{version}" / "maps"
        self.pins.mkdir(parents=True)
        for name in pinned:
            check(lib.bpf_map__set_pin_path(self._map(name), str(self.pins / name).encode()), name)
        for name, entries in sizes.items():
            check(lib.bpf_map__set_max_entries(self._map(name), entries), name)
        check(lib.bpf_object__load(self._handle), "load the old gate")
        programs = {name: self.program(name) for name in ("from_vm", "to_vm")}
        self.attacher = Attacher(bpffs / f"v{version}" / "links", programs)

    def program(self, name: str) -> int:
        return int(lib.bpf_program__fd(lib.bpf_object__find_program_by_name(self._handle, name.encode())))

    def close(self) -> None:
        lib.bpf_object__close(self._handle)

    def _map(self, name: str) -> Any:
        return lib.bpf_object__find_map_by_name(self._handle, name.encode())


class GateOfLayout1:
    """It knew IPv4 only, and had its tables by vNIC."""

    def __init__(self, bpffs: Path, scratch: Path, *, quota: int, sizes: Mapping[str, int]) -> None:
        del sizes
        self._quota = quota
        self._loaded = _Loaded(1, bpffs, scratch, (*layout_v1.MAPS, "denials"), {})
        self.maps = {name: Map.pinned(str(self._loaded.pins / name), *kinds) for name, kinds in layout_v1.MAPS.items()}

    def guard(self, ifindex: int, rules: HostRuleset) -> None:
        self._loaded.attacher.attach(ifindex)
        for name in layout.MAPS.keys() & {"endpoints", "prefixes", "lists", "pages"}:
            records = rules.tables[name]
            parts = []
            for kind in layout_v1.MAPS[name]:
                part = np.zeros(len(records), kind)
                for field in set(kind.names or ()) - {"pad", "address", "length"}:
                    part[field] = records[field]
                if "address" in (kind.names or ()):
                    part["address"] = np.ascontiguousarray(records["address"][:, 12:]).view(">u4").reshape(-1)
                if "length" in (kind.names or ()):
                    part["length"] = records["length"] - 96
                parts.append(part)
            self.maps[name].update(*parts)
        (vnic,) = rules.vnics
        options = libbpf.struct("bpf_map_create_opts", map_flags=1)  # BPF_F_NO_PREALLOC, as it was then
        sizes = (layout_v1.FLOW_KEY.itemsize, layout_v1.FLOW.itemsize)
        made = lib.bpf_map_create(1, b"old_flows", *sizes, self._quota, options)
        table = Map(made, layout_v1.FLOW_KEY, layout_v1.FLOW)
        self.maps["flows"].update(np.array([vnic.id], "<u8"), np.array([table.fd], "<u4"))
        self.maps["drops"].update(np.array([0, vnic.id], "<u8"), np.zeros(2, layout_v1.DROPS))
        first, second = vnic.addresses
        beside = np.array([(vnic.id, int(second), 0)], layout_v1.ADDRESS_KEY)
        self.maps["addresses"].update(beside, np.ones(1, "<u4"))
        record = np.zeros(1, layout_v1.VNIC)
        record["ifindex"], record["flags"], record["judged_by"], record["id"] = ifindex, 2, vnic.judged_by, vnic.id
        record["view"], record["ruleset"] = vnic.view, [vnic.egress, vnic.ingress]
        record["address"], record["mac"] = int(first), list(vnic.mac.packed)
        self.maps["vnics"].update(np.array([ifindex], "<u4"), record)

    def close(self) -> None:
        self._loaded.close()


class GateOfLayout2:
    """All but its flows look as they do today."""

    def __init__(self, bpffs: Path, scratch: Path, *, quota: int, sizes: Mapping[str, int]) -> None:
        names = (*layout_v2.SAME, "flows")
        self._quota = quota
        self._loaded = _Loaded(2, bpffs, scratch, (*names, layout.RING), sizes)
        self.maps = {name: Map.pinned(str(self._loaded.pins / name), *layout.MAPS[name]) for name in names}
        self._tables = TablePins(bpffs / "v2" / "flows", layout_v2.FLOW)

    def guard(self, ifindex: int, rules: HostRuleset) -> None:
        maps = self.maps
        self._loaded.attacher.attach(ifindex)
        slots = Slots(maps["slots"], maps["meters"])
        idle = FlowTables(maps["flows"], slots).idle_ns
        Clock(self._loaded.program("read_clocks"), maps["clocks"], maps["settings"]).set(idle)
        (vnic,) = rules.vnics
        slots.give([vnic.id])
        slot = slots.given[vnic.id]
        table = Map.hash("old_flows", layout.FLOW_KEY, layout_v2.FLOW, self._quota)
        self._tables.stage(slot, table)
        maps["flows"].update(np.array([slot], "<u4"), np.array([table.fd], "<u4"))
        self._tables.settle(slot)
        addresses = bindings([vnic])
        maps["addresses"].update(addresses, np.ones(len(addresses), "<u4"))
        Tables(maps).add(rules)
        Records(maps).write({ifindex: vnic_record(ifindex, vnic, slot, flow_rate=0)})

    def close(self) -> None:
        self._loaded.close()


OLD_GATES = {1: GateOfLayout1, 2: GateOfLayout2}
