"""Step c: a VM that forges its MAC address, its IP address and ARP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from serai.lab.sniff import FrameSniffer
from serai.lab.tour.findings import Spoof
from serai.lab.tour.stage import Stage
from serai.model.inventory import VirtualMachine
from serai.model.reasons import Reason

_FRAMES = 20
_FOREIGN_MAC = "52:54:00:de:ad:01"
_SETTLE_SECONDS = 0.5


async def spoof(stage: Stage, vm: VirtualMachine, victim: VirtualMachine) -> Spoof:
    """Let ``vm`` pretend to be ``victim``, and watch the wires of its host."""
    stage.narrator.chapter(
        "A VM that lies",
        f"{vm.path} sends frames with a foreign MAC address, with the address of {victim.path}, and ARP that claims "
        "both. A witness without eBPF counts frames on every wire of the host.",
    )
    run = secrets.token_hex(4)
    foreign_address = str(victim.vnics[0].addresses[0])
    forgeries = {"mac": _FOREIGN_MAC, "ip": foreign_address, "arp": foreign_address, "sha": _FOREIGN_MAC}
    markers = {kind: f"SERAI-{run}-{kind}".encode() for kind in (*forgeries, "own")}
    host = stage.center.lab.where_is(vm.domain or vm.name)
    tap = await _tap(stage, host, vm)
    before = await _drops(stage, host, vm)
    with FrameSniffer(stage.center.lab.plan.host_namespace(host), list(markers.values())) as witness:
        shell = stage.shell(vm)
        for kind, fake in forgeries.items():
            await shell.forge(kind, marker=markers[kind].decode(), fake=fake, count=_FRAMES)  # type: ignore[arg-type]
        await shell.forge("own", marker=markers["own"].decode(), count=_FRAMES)
        await asyncio.sleep(_SETTLE_SECONDS)
    after = await _drops(stage, host, vm)

    rows, sent, passed = [], 0, 0
    for kind, title in (
        ("mac", "foreign source MAC"),
        ("ip", "foreign source address"),
        ("arp", "ARP that claims a foreign address"),
        ("sha", "ARP that claims a foreign MAC"),
        ("own", "honest ARP (the control)"),
    ):
        at_tap = witness.total(marker=markers[kind], interface=tap, direction="in")
        elsewhere = witness.total(marker=markers[kind]) - at_tap
        rows.append([title, str(at_tap), str(elsewhere)])
        if kind != "own":
            sent, passed = sent + at_tap, passed + elsewhere
    honest = witness.total(marker=markers["own"]) > witness.total(marker=markers["own"], interface=tap, direction="in")
    stage.narrator.table(["FRAMES", "SENT BY THE VM", "SEEN BEYOND THE GATE"], rows)
    counted = [f"{after[r] - before.get(r, 0)} for '{r.description}'" for r in after if after[r] > before.get(r, 0)]
    stage.narrator.say(f"The gate counted drops: {'; '.join(counted) or 'none'}.")
    stage.narrator.found(f"{passed} of {sent} forged frames passed the gate.", good=passed == 0 < sent)
    return Spoof(sent=sent, passed=passed, honest_passed=honest)


async def _tap(stage: Stage, host: str, vm: VirtualMachine) -> str:
    status = await asyncio.to_thread(stage.center.controller.status, host)
    return next(gate.tap for gate in status.gates if gate.vnic_id == vm.vnics[0].id)


async def _drops(stage: Stage, host: str, vm: VirtualMachine) -> Mapping[Reason, int]:
    status = await asyncio.to_thread(stage.center.controller.status, host)
    forged = (Reason.FOREIGN_MAC, Reason.FOREIGN_IP, Reason.FOREIGN_ARP)
    return {
        Reason(drop.reason): drop.packets
        for drop in status.drops
        if drop.vnic_id == vm.vnics[0].id and Reason(drop.reason) in forged
    }
