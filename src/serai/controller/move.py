"""A live migration with rules first and connections along.

The destination holds the VM's rules before the move begins; the VM's flows follow while its memory does,
again and again, until the move is over. Whatever goes wrong, the VM stays protected where it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from serai.controller.core import MoveEnded, MovePlanned, WorldChanged
from serai.controller.runtime import ApplyError, ControllerRuntime
from serai.model.inventory import VirtualMachine
from serai.model.world import World
from serai.wire import local
from serai.wire.local import AgentError

_COPY_PAUSE_SECONDS = 0.05
_SETTLE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was done to move one VM."""

    vm: str
    origin: str
    to: str
    digest: str
    """Of the ruleset that the destination's kernel held before the move began."""
    flows_first: int
    """Flows carried over before the move began."""
    flows_later: int
    """Flows carried over, again or newly opened, while it went on."""
    seconds: float


class MoveError(RuntimeError):
    """A move that was not begun, or went not as it should; the message says where the VM is."""


def move(
    controller: ControllerRuntime,
    world: World,
    vm: VirtualMachine,
    *,
    origin: str,
    to: str,
    migrate: Callable[[], None],
) -> Moved:
    """Move ``vm``, by the rules of ``world``, from the host ``origin`` to the host ``to``.

    ``migrate`` moves the machine itself and waits for it.

    Raises:
        MoveError: it is there already (nothing has begun), or it moved and lost connections.
        ApplyError: the destination cannot be made ready (nothing has moved).
        AgentError: an agent stopped answering.
        Exception: whatever ``migrate`` raises; the VM then runs, protected, where it was.
    """
    if origin == to:
        raise MoveError(f"{vm.path} is on host {to} already")
    started = time.monotonic()
    copies = [_FlowCopy(controller, vnic.id, origin, to) for vnic in vm.vnics]
    try:
        ready = controller.settle(WorldChanged(world=world), MovePlanned(vm=vm.path, to=to))
        first = sum(copy.step() for copy in copies)
        later = _copy_while(migrate, copies)
        for vnic in vm.vnics:
            local.ask(controller.agent(origin), local.HandedOver(vnic=vnic.id), local.Done)
        _wait_until_gone(controller, vm, origin)
    except BaseException:
        with contextlib.suppress(ApplyError, AgentError):  # what went wrong first is what must be told
            controller.settle(MoveEnded(vm=vm.path))
        raise
    controller.settle(MoveEnded(vm=vm.path))
    return Moved(
        vm=vm.path,
        origin=origin,
        to=to,
        digest=ready.digests[to],
        flows_first=first,
        flows_later=later,
        seconds=time.monotonic() - started,
    )


def _copy_while(migrate: Callable[[], None], copies: Sequence[_FlowCopy]) -> int:
    """Let ``migrate`` run, and carry flows over again and again until it is done; return how many.

    An agent that does not answer costs connections, not the move: ``migrate`` goes on.
    """
    carried = 0
    failure: AgentError | None = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        moving = pool.submit(migrate)
        over = False
        while not over:
            time.sleep(_COPY_PAUSE_SECONDS)
            over = moving.done()  # asked first: one more copy follows the end
            try:
                carried += sum(copy.step() for copy in copies)
                failure = None
            except AgentError as error:
                failure = error
        moving.result()
    if failure is not None:
        raise MoveError(f"the VM moved, but its connections could not all be carried along: {failure}") from failure
    return carried


class _FlowCopy:
    """Carries one vNIC's flows over, each time those that were active since the last time."""

    def __init__(self, controller: ControllerRuntime, vnic: int, origin: str, to: str) -> None:
        self._from, self._to = controller.agent(origin), controller.agent(to)
        self._vnic = vnic
        self._since_ns = 0

    def step(self) -> int:
        request = local.ExportFlows(vnic=self._vnic, since_ns=self._since_ns)
        exported = local.ask(self._from, request, local.ExportReply)
        # The gate's clock is coarse (a tick of some ms): ask a little further back than the last time.
        self._since_ns = max(0, exported.now_ns - 50_000_000)
        return local.ask(self._to, local.ImportFlows(flows=exported.flows), local.ImportReply).flows


def _wait_until_gone(controller: ControllerRuntime, vm: VirtualMachine, origin: str) -> None:
    """The source keeps the VM's rules until its hypervisor has let go of the tap."""
    macs = {vnic.mac for vnic in vm.vnics}
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        if not macs & {gate.mac for gate in controller.status(origin).gates}:
            return
        time.sleep(_COPY_PAUSE_SECONDS)
