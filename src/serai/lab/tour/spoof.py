"""Step c: a VM that forges its MAC address, its IP address and ARP."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Mapping

from serai.lab.addresses import address_of
from serai.lab.console import GuestShell
from serai.lab.error import LabError
from serai.lab.sniff import FrameSniffer
from serai.lab.tour.findings import Spoof
from serai.lab.tour.matrix import SERVICES, verdict_on
from serai.lab.tour.stage import Stage
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action
from serai.model.ports import TCP
from serai.model.reasons import Reason
from serai.model.world import World

_FRAMES = 20
_FOREIGN_MAC = "52:54:00:de:ad:01"
_SETTLE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """Frames of one kind."""

    name: str
    title: str
    reason: Reason
    """For which the gate must drop them; NONE: they are honest, and the control."""


_KINDS = (
    _Kind("mac", "SYN with a foreign MAC address", Reason.FOREIGN_MAC),
    _Kind("ip", "SYN with a foreign IP address", Reason.FOREIGN_IP),
    _Kind("syn", "honest SYN (control)", Reason.NONE),
    _Kind("arp", "ARP that claims a foreign IP address", Reason.FOREIGN_ARP),
    _Kind("sha", "ARP that claims a foreign MAC address", Reason.FOREIGN_ARP),
    _Kind("own", "honest ARP (control)", Reason.NONE),
)


async def spoof(stage: Stage, vm: VirtualMachine, victim: VirtualMachine) -> Spoof:
    """Let ``vm`` pretend to be ``victim``, and watch the wires of its host."""
    world = stage.world()
    target, port = _accepted_service(world, vm)
    stage.narrator.chapter(
        "A VM that lies",
        f"{vm.path} opens connections that its policies accept (to {target.path} tcp/{port}), but with a foreign MAC "
        f"address and with the address of {victim.path}; and it sends ARP that claims both. A witness without eBPF "
        "counts frames on every wire of the host.",
    )
    run = secrets.token_hex(4)
    markers = {kind.name: f"SERAI-{run}-{kind.name}".encode() for kind in _KINDS}
    host = stage.center.lab.where_is(vm.domain or vm.name)
    tap = await _tap(stage, host, vm)
    before = await _drops(stage, host, vm)
    with FrameSniffer(stage.center.lab.plan.host_namespace(host), list(markers.values())) as witness:
        foreign = str(address_of(victim))
        for kind in _KINDS:
            await _send(stage.shell(vm), kind, markers[kind.name].decode(), foreign, (target, port))
        await asyncio.sleep(_SETTLE_SECONDS)
    after = await _drops(stage, host, vm)

    seen = {
        kind: (at_tap, witness.total(marker=markers[kind.name]) - at_tap)
        for kind in _KINDS
        for at_tap in [witness.total(marker=markers[kind.name], interface=tap, direction="in")]
    }
    stage.narrator.table(
        ["FRAMES", "SENT BY THE VM", "SEEN BEYOND THE GATE"],
        [[kind.title, str(sent), str(beyond)] for kind, (sent, beyond) in seen.items()],
    )
    return _judge(stage, seen, {reason: after[reason] - before[reason] for reason in after})


def _judge(stage: Stage, seen: Mapping[_Kind, tuple[int, int]], drops: Mapping[Reason, int]) -> Spoof:
    forged = {kind: counts for kind, counts in seen.items() if kind.reason}
    sent, passed = sum(s for s, _ in forged.values()), sum(p for _, p in forged.values())
    complete = all(s == _FRAMES for s, _ in seen.values())
    honest = all(p >= _FRAMES for kind, (_, p) in seen.items() if not kind.reason)
    expected = {reason: sum(_FRAMES for kind in forged if kind.reason is reason) for reason in drops}
    reasoned = all(drops[reason] >= count for reason, count in expected.items())
    told = "; ".join(f"{count} times '{reason.description}'" for reason, count in drops.items())
    stage.narrator.found(f"{passed} of {sent} forged frames passed the gate.", good=passed == 0)
    stage.narrator.found(f"The gate dropped them for what they are: {told}.", good=reasoned)
    stage.narrator.found(
        "The witness saw every frame that the VM sent, and the honest ones beyond the gate."
        if complete and honest
        else "The witness did not see all that was sent, or honest frames did not pass: this step proves nothing.",
        good=complete and honest,
    )
    return Spoof(sent=sent, passed=passed, proven=complete and honest and reasoned)


async def _send(shell: GuestShell, kind: _Kind, marker: str, foreign: str, service: tuple[VirtualMachine, int]) -> None:
    target, port = service
    address = address_of(target)
    match kind.name:
        case "mac":
            await shell.knock(address, port, marker=marker, mac=_FOREIGN_MAC, count=_FRAMES)
        case "ip":
            await shell.knock(address, port, marker=marker, address=foreign, count=_FRAMES)
        case "syn":
            await shell.knock(address, port, marker=marker, count=_FRAMES)
        case "arp":
            await shell.forge("arp", marker=marker, fake=foreign, count=_FRAMES)
        case "sha":
            await shell.forge("sha", marker=marker, fake=_FOREIGN_MAC, count=_FRAMES)
        case _:
            await shell.forge("own", marker=marker, count=_FRAMES)


def _accepted_service(world: World, vm: VirtualMachine) -> tuple[VirtualMachine, int]:
    """A neighbour and a TCP port of its that ``vm`` may connect to: what is dropped there is not policy's doing."""
    for target in world.vms.values():
        if target is vm or target.vnics[0].network != vm.vnics[0].network:
            continue
        for protocol, port in SERVICES:
            verdict = verdict_on(world, address_of(vm), target, protocol, port)
            if protocol == TCP and verdict.action is Action.ACCEPT:
                return target, port
    raise LabError(f"the tour needs a TCP service that {vm.path} may connect to")


async def _tap(stage: Stage, host: str, vm: VirtualMachine) -> str:
    status = await asyncio.to_thread(stage.center.agent_status, host)
    return next(gate.tap for gate in status.gates if gate.vnic_id == vm.vnics[0].id)


async def _drops(stage: Stage, host: str, vm: VirtualMachine) -> dict[Reason, int]:
    status = await asyncio.to_thread(stage.center.agent_status, host)
    found = {kind.reason: 0 for kind in _KINDS if kind.reason}
    for drop in status.drops:
        if drop.vnic_id == vm.vnics[0].id and Reason(drop.reason) in found:
            found[Reason(drop.reason)] += drop.packets
    return found
