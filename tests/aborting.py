"""Two hosts of a lab with a VM that moves between them: a move is held wherever it stands, and things are made to fail there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import libvirt

from aborting_hosts import (
    DOMAIN,
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    VM,
    VNIC,
    agent,
    cut,
    denied,
    domains,
    flows,
    gates,
    guarded,
    libvirtd,
    qemu,
    stopped,
    until,
)
from serai.migration.states import State
from serai.wire import api, moveapi

if TYPE_CHECKING:
    from serai.lab.datacenter import DataCenter
    from serai.lab.outside import TickSession

ADDRESS = IPv4Address("10.0.0.11")
_SLOWLY, _AT_ONCE = 1, 100_000
"""MiB of a guest's memory that go over in a second: a guest's takes more than a minute, or as long as ever.

It must not be slow to the end: a guest that QEMU emulates while all of its memory goes over so slowly is stuck where it comes to.
"""


class Scene:
    """The VM, where it is and where it is to go, and one move of it."""

    def __init__(self, center: DataCenter) -> None:
        """Take it from where it is now."""
        self.center = center
        self.source = center.lab.where_is(DOMAIN)
        self.to = "b" if self.source == "a" else "a"
        self.name = ""
        """Of the move."""
        self._abort: subprocess.Popen[str] | None = None

    # The move

    def ask(self, vm: str = VM) -> str:
        """Have the VM moved, and do not wait for it."""
        with self.center.controller.client() as client:
            body = moveapi.MoveRequest(vm=vm, to=self.to)
            return client.ask("POST", "/v1/moves", moveapi.Move, body=body).id

    def move(self) -> moveapi.Move:
        with self.center.controller.client() as client:
            return client.ask("GET", f"/v1/moves/{self.name}", moveapi.Move)

    def reach(self, state: State) -> None:
        """Wait until the move stands there."""

        def there() -> bool:
            found = self.move()
            assert found.ended is None or found.state is state, f"it is over: {found.state} ({found.why})"
            return found.state is state

        until(there, f"it is {state}")

    def over(self) -> moveapi.Move:
        """Wait for its end, and until both hosts are heard again."""
        until(lambda: {self.source, self.to} <= self._connected(), "the hosts are connected")
        until(lambda: self.move().ended, "it is over")
        self._at(_AT_ONCE)  # libvirt sets it back to what it was before when a move fails
        return self.move()

    # How it is held

    @contextlib.contextmanager
    def held(self, state: State) -> Iterator[None]:
        """Begin a move, and keep it from going on from there, by stopping who would go on with it."""
        with _HOLDS[state](self):
            yield

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Another one is made first, whose destination does not answer: hosts take part in one at a time."""
        with stopped(agent(self.center, self.to)):
            other = self.ask("/acme:app")
            self.name = self.ask()
            self.reach(State.WAITING)
            yield
            with self.center.controller.client() as client:
                client.ask("POST", f"/v1/moves/{other}/abort", moveapi.Move, body=moveapi.AbortRequest())

    @contextlib.contextmanager
    def planned(self) -> Iterator[None]:
        """The destination's agent does not answer."""
        with stopped(agent(self.center, self.to)):
            self.name = self.ask()
            self.reach(State.PLANNED)
            yield

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """The source's agent does not answer."""
        with stopped(agent(self.center, self.source)):
            self.name = self.ask()
            self.reach(State.PREPARED)
            yield

    @contextlib.contextmanager
    def copied(self) -> Iterator[None]:
        """The guest's memory goes over very slowly."""
        self._at(_SLOWLY)
        self.name = self.ask()
        try:
            self.reach(State.COPIED)
            until(self._goes_over, "the guest's memory goes over")
            yield
        finally:
            self._at(_AT_ONCE)

    @contextlib.contextmanager
    def switched(self) -> Iterator[None]:
        """The destination's libvirt does not answer when the guest is to begin there."""
        with self.copied(), stopped(libvirtd(self.center, self.to)):
            self._at(_AT_ONCE)
            self.reach(State.SWITCHED)
            yield

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """The source's agent does not answer, while the guest goes: nobody hands the last flows over."""
        with self.copied(), stopped(agent(self.center, self.source)):
            self._at(_AT_ONCE)
            self.reach(State.LIVE)
            yield

    @contextlib.contextmanager
    def carried(self) -> Iterator[None]:
        """The same once it has handed them over."""
        with self.switched():
            until(lambda: VNIC in guarded(self.center, self.to), "it is the destination's turn")
            with stopped(agent(self.center, self.source)):
                libvirtd(self.center, self.to).send(signal.SIGCONT)
                self.reach(State.CARRIED)
                yield

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """The destination's agent does not answer, which would say that the guest runs there."""
        with self.switched():
            until(lambda: VNIC in guarded(self.center, self.to), "it is the destination's turn")
            with stopped(agent(self.center, self.to)):
                libvirtd(self.center, self.to).send(signal.SIGCONT)
                self.reach(State.FENCED)
                yield

    @contextlib.contextmanager
    def aborting(self) -> Iterator[None]:
        """Somebody has aborted it, and the source's agent does not answer."""
        with self.prepared():
            self.abort()
            self.reach(State.ABORTING)
            yield

    # What is done to it

    def abort(self) -> None:
        """Abort it as people do, who wait for the end of it."""
        before = self.move().version
        environment = {**os.environ, **self.center.controller.environment()}
        command = [sys.executable, "-m", "serai.cli.main", "moves", "abort", self.name]
        self._abort = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        process = self._abort
        until(lambda: process.poll() is not None or self.move().version != before, "it is heard")

    def source_dies(self) -> None:
        """The source's agent is killed."""
        self.center.kill_agent(self.source)

    def destination_dies(self) -> None:
        """The destination's agent is killed."""
        self.center.kill_agent(self.to)

    def controller_dies(self) -> None:
        """The controller is killed."""
        self.center.controller.kill()

    def job_is_cancelled(self) -> None:
        """Somebody has libvirt give up, and knows nothing of Serai."""
        done = self.center.lab.host(self.source).run(["virsh", "domjobabort", DOMAIN])
        assert done.returncode == 0, done.stderr

    def guest_dies_there(self) -> None:
        """What is to be the guest is killed at its destination."""
        qemu(self.center, self.to).kill()

    def libvirt_dies_there(self) -> None:
        """The destination's libvirt is killed, and begins anew."""
        libvirtd(self.center, self.to).kill()

    def all_dies_there(self) -> None:
        """The destination's agent and the guest there are killed."""
        self.destination_dies()
        self.guest_dies_there()

    def source_dies_and_guest_there(self) -> None:
        """The source's agent is killed, and so is the guest at its destination."""
        self.source_dies()
        self.guest_dies_there()

    def cut_and_abort(self) -> None:
        """The hosts do not reach each other any more, and somebody aborts it."""
        cut(self.center, off=True)
        self.abort()

    def cut_and_guest_dies_there(self) -> None:
        """The hosts do not reach each other for a second, in which the guest at its destination is killed.

        For longer it cannot be: a QEMU that writes into a dead connection just then answers nobody, its libvirt neither.
        """
        cut(self.center, off=True)
        self.guest_dies_there()
        time.sleep(1)
        cut(self.center, off=False)

    # Afterwards

    def mend(self) -> None:
        """Bring back who was killed, and the wires."""
        cut(self.center, off=False)
        if not self.center.controller.answers():
            self.center.controller.start()
        for host in (self.source, self.to):
            if not agent(self.center, host).alive():
                self.center.start_agent(host)
        until(lambda: self.to in self._connected(), "the destination is connected")

    def _connected(self) -> set[str]:
        with self.center.controller.client() as client:
            status = client.ask("GET", "/v1/status", api.Status)
        return {host.name for host in status.hosts if host.connected}

    def told(self) -> tuple[int, str]:
        """What whoever aborted it was told in the end, and the exit status."""
        assert self._abort is not None
        said, _ = self._abort.communicate(timeout=PATIENCE_SECONDS)
        return self._abort.returncode, said

    def check(self, home: str, session: TickSession) -> None:
        """The guest runs at one host, guarded and with its connections, and the other host has nothing of it; nor has it any flows."""
        away = self.source if home == self.to else self.to
        expected = ({home: "running"}, {home: [VNIC]}, 0)

        def found() -> object:
            return domains(self.center), gates(self.center), flows(self.center, away)

        deadline = time.monotonic() + PATIENCE_SECONDS
        while (seen := found()) != expected:
            assert time.monotonic() < deadline, f"domains, gates and flows at {away}: {seen} and not {expected}"
            time.sleep(LOOK_SECONDS)
        known = session.report().ticks
        until(lambda: session.report().ticks > known or not session.report().alive, "the session goes on")
        report = session.report()
        assert (report.alive, report.missing) == (True, 0), report.error
        before = denied(self.center, home)
        until(
            lambda: all(now > then for now, then in zip(denied(self.center, home), before, strict=True)),
            "what is denied is dropped, both ways",
        )

    def _at(self, speed: int) -> None:
        """Have the guest's memory go over so fast, from now on and in later moves from here; libvirt may have something else to do first."""

        def done() -> bool:
            with self._guest() as guest:
                if guest is None:
                    return True  # it has gone
                try:
                    guest.migrateSetMaxSpeed(speed)
                    return bool(guest.migrateGetMaxSpeed() == speed)
                except libvirt.libvirtError:  # or goes just now
                    return False

        until(done, f"{speed} MiB go over in a second")

    def _goes_over(self) -> bool:
        with self._guest() as guest:
            return guest is not None and bool(guest.jobStats().get("memory_processed", 0))

    @contextlib.contextmanager
    def _guest(self) -> Iterator[Any]:
        """The guest as the source's libvirt has it; None: it has not."""
        with contextlib.closing(libvirt.open(self.center.lab.host(self.source).libvirt_uri)) as connection:
            yield next((each for each in connection.listAllDomains() if each.name() == DOMAIN), None)


_HOLDS: dict[State, Callable[[Scene], contextlib.AbstractContextManager[None]]] = {
    State.WAITING: Scene.waiting, State.PLANNED: Scene.planned, State.PREPARED: Scene.prepared, State.COPIED: Scene.copied,
    State.SWITCHED: Scene.switched, State.LIVE: Scene.live, State.CARRIED: Scene.carried, State.FENCED: Scene.fenced,
    State.ABORTING: Scene.aborting,
}  # fmt: skip
