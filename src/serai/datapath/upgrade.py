"""Takes over what an agent with an older layout of maps left: at no moment is a tap without a gate, no flow is forgotten.

The new gate gets all that the old one knows; then, tap by tap, the new program takes the old one's place in the very
link that holds it; then what the old gate saw meanwhile is carried over. An upgrade that is cut short is begun again
by the next agent. Ended flows that nobody has read are not carried over.

Maps that look as they did in layout 2 are not copied: old gates and new ones use the same.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from serai.datapath import layout, layout_v1, layout_v2
from serai.datapath.attach import Attacher
from serai.datapath.flows import FlowTables
from serai.datapath.libbpf import KernelError, check, lib
from serai.datapath.maps import Array, Map, comparable
from serai.datapath.slots import Slots
from serai.datapath.tablepins import TablePins
from serai.datapath.tables import join, part
from serai.datapath.vnics import BINDING_BITS, Records
from serai.model import ruleset_v1
from serai.model.address import BITS
from serai.model.inventory import VnicId
from serai.model.records import LIST, PAGE

_DONE: Final = "done-"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The gates of a host, as far as an upgrade has to do with them."""

    maps: Mapping[str, Map]
    slots: Slots
    records: Records
    flows: FlowTables
    attacher: Attacher
    flow_quota: int
    """Flows of one vNIC."""
    flow_rate: int
    """New flows a second of one vNIC."""


def share_maps(bpffs: Path) -> None:
    """Give the gate that is about to be loaded those maps of an older one that look as its own would.

    Raises:
        KernelError: the kernel refuses to open or to pin one.
    """
    older, maps = bpffs / "v2" / "maps", bpffs / f"v{layout.VERSION}" / "maps"
    for name in layout_v2.SAME:
        if (older / name).exists() and not (maps / name).exists():
            maps.mkdir(parents=True, exist_ok=True)
            shared = Map.pinned(str(older / name), *layout.MAPS[name])
            check(lib.bpf_obj_pin(shared.fd, str(maps / name).encode()), f"pin map {name}")


def take_over(bpffs: Path, host: Host) -> list[int]:
    """Upgrade everything below ``bpffs`` that has an older layout; return the taps whose gates were replaced.

    Raises:
        KernelError: the kernel refuses a step (the old gates stay in force), or something newer is there.
    """
    for left in bpffs.glob(f"{_DONE}*"):
        _remove(left)
    found = {int(match[1]): path for path in bpffs.glob("v*") if (match := re.fullmatch(r"v(\d+)", path.name))}
    newer = max(found, default=0)
    if newer > layout.VERSION:
        message = (
            f"{found[newer]} holds gates of layout {newer}, and this agent knows layout {layout.VERSION}: "
            "run the newer agent, or stop the VMs of this host and remove that directory"
        )
        raise KernelError(errno.EEXIST, message)
    # An upgrade from 1 to 2 that was cut short has left both: what it has done goes first.
    ways = {2: _take_over_v2, 1: _take_over_v1}
    return [ifindex for version, way in ways.items() if version in found for ifindex in way(found[version], host)]


def _take_over_v2(old: Path, host: Host) -> list[int]:
    links = Attacher(old / "links", host.attacher.programs)
    replaced: list[int] = []
    if (old / "maps" / "flows").exists():
        tables = _tables_v2(old, host)
        host.flows.keep({vnic: table.capacity for vnic, table in tables.items()})
        _carry_tables_v2(tables, host)
        guarded = {ifindex: VnicId(int(record["id"][0])) for ifindex, record in host.records}
        for ifindex in sorted(links.attached()):
            mine = {vnic: table for vnic, table in tables.items() if vnic == guarded.get(ifindex)}
            _carry_tables_v2(mine, host)  # once more: numbers that a fast stream has left behind are of no use to it
            if host.attacher.adopt(links, ifindex):
                replaced.append(ifindex)
            _carry_tables_v2(mine, host)
        for ifindex in guarded.keys() - _alive():
            host.records.remove(ifindex)
    _let_go(old)
    return replaced


def _tables_v2(old: Path, host: Host) -> dict[VnicId, Map]:
    """The flow table of each vNIC, as its gate has it now."""
    slots, numbers = Map.pinned(str(old / "maps" / "flows"), *layout.MAPS["flows"]).dump()
    tables = dict(zip(slots.tolist(), numbers.tolist(), strict=True))
    pins = TablePins(old / "flows", layout_v2.FLOW)
    return {vnic: pins.open(slot, tables[slot]) for vnic, slot in host.slots.given.items() if slot in tables}


def _carry_tables_v2(tables: Mapping[VnicId, Map], host: Host) -> None:
    for vnic, table in tables.items():
        keys, flows = table.dump()
        host.flows.add_newer(vnic, keys, _flows_v2(flows))


def _flows_v2(old: Array) -> Array:
    """How their connections began is not known."""
    flows = np.zeros(len(old), layout.FLOW)
    for field in old.dtype.names or ():
        flows[field] = old[field]
    return flows


def _take_over_v1(old: Path, host: Host) -> list[int]:
    links = Attacher(old / "links", host.attacher.programs)
    replaced: list[int] = []
    if (old / "maps").is_dir() and any((old / "maps").iterdir()):
        maps = {name: Map.pinned(str(old / "maps" / name), *kinds) for name, kinds in layout_v1.MAPS.items()}
        _carry_tables(maps, host)
        vnics = [VnicId(number) for number in maps["flows"].dump()[0].tolist()]
        host.flows.keep(dict.fromkeys(vnics, host.flow_quota))
        _carry_flows(maps, host)
        _carry_drops(maps, host)
        _carry_records(maps, host)
        replaced = [ifindex for ifindex in sorted(links.attached()) if host.attacher.adopt(links, ifindex)]
        _carry_flows(maps, host)  # what the old gates saw until they were replaced
    _let_go(old)
    return replaced


def _let_go(old: Path) -> None:
    done = old.with_name(f"{_DONE}{old.name}")
    old.rename(done)  # half removed, it must not look like what is still to be taken over
    _remove(done)


def _remove(root: Path) -> None:
    for directory in (root / "maps", root / "links", root / "flows"):
        if directory.is_dir():
            for pin in directory.iterdir():
                pin.unlink()
            directory.rmdir()
    root.rmdir()


def _alive() -> set[int]:
    return {ifindex for ifindex, _ in socket.if_nameindex()}


def _carry_tables(maps: Mapping[str, Map], host: Host) -> None:
    """What is pointed at comes before what points at it, as ever."""
    for name, kind, convert in (
        ("pages", PAGE, None),
        ("lists", LIST, None),
        ("prefixes", ruleset_v1.PREFIX_V1, ruleset_v1.prefixes),
        ("endpoints", ruleset_v1.ENDPOINT_V1, ruleset_v1.endpoints),
    ):
        records = join(*maps[name].dump()).view(kind)
        host.maps[name].update(*part(name, comparable(convert(records) if convert else records)))


def _carry_flows(maps: Mapping[str, Map], host: Host) -> None:
    for vnic, number in zip(*(numbers.tolist() for numbers in maps["flows"].dump()), strict=True):
        old_keys, old_flows = Map.by_id(number, layout_v1.FLOW_KEY, layout_v1.FLOW).dump()
        keys, flows = np.zeros(len(old_keys), layout.FLOW_KEY), np.zeros(len(old_keys), layout.FLOW)
        for field in ("local_port", "remote_port", "protocol", "asked"):
            keys[field] = old_keys[field]
        for field in ("local", "remote"):
            keys[field] = ruleset_v1.mapped(old_keys[field])
        for field in set(layout_v1.FLOW.names or ()) - {"pad"}:
            flows[field] = old_flows[field]
        flows["scale"] = layout.SCALE_UNKNOWN
        host.flows.add_newer(VnicId(vnic), keys, flows)


def _carry_drops(maps: Mapping[str, Map], host: Host) -> None:
    vnics, drops = maps["drops"].dump()
    slots = {**host.slots.given, VnicId(0): 0}
    for vnic, old in zip(vnics.tolist(), drops["packets"], strict=True):
        meter = host.maps["meters"].get(slots[VnicId(vnic)]) if VnicId(vnic) in slots else None
        if meter is not None and not meter["drops"].any():  # else they have been carried over before
            meter["drops"][0, :, : old.shape[1]] = old
            host.maps["meters"].update(np.array([slots[VnicId(vnic)]], "<u4"), meter)


def _carry_records(maps: Mapping[str, Map], host: Host) -> None:
    taps, olds = maps["vnics"].dump()
    macs = {int(old["id"]): old["mac"] for old in olds}
    beside, _ = maps["addresses"].dump()
    beside = beside[np.isin(beside["vnic"], olds["id"])]  # of the others the next ruleset will tell
    keys = np.zeros(len(beside), layout.ADDRESS_KEY)
    keys["length"] = BINDING_BITS + BITS
    keys["vnic"] = np.ascontiguousarray(beside["vnic"]).view("<u4").reshape(-1, 2)
    keys["mac"] = np.array([macs[vnic] for vnic in beside["vnic"].tolist()], "u1").reshape(-1, 6)
    keys["address"] = ruleset_v1.mapped(beside["address"])
    host.maps["addresses"].update(keys, np.ones(len(keys), "<u4"))

    alive = _alive()
    known = {ifindex for ifindex, _ in host.records}
    fresh = {}
    for ifindex, old, address in zip(taps.tolist(), olds, ruleset_v1.mapped(olds["address"]), strict=True):
        if ifindex not in alive - known or VnicId(int(old["id"])) not in host.slots.given:
            continue
        record = np.zeros(1, layout.VNIC)
        for field in ("ifindex", "flags", "judged_by", "id", "view", "ruleset", "mac"):
            record[field] = old[field]
        record["address"][0, 0] = address
        record["slot"] = host.slots.given[VnicId(int(old["id"]))]
        record["flow_rate"] = host.flow_rate
        fresh[ifindex] = record
    if fresh:
        host.records.write(fresh)
