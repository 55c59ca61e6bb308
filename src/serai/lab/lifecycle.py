"""Make a lab, ask how it is, move its guests and take it away."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serai.lab.console import GuestShell
from serai.lab.domain import Destination, Hypervisor
from serai.lab.error import LabError
from serai.lab.fabric import make_fabric
from serai.lab.host import HypervisorHost
from serai.lab.hostfiles import console_log, guest_socket
from serai.lab.image import GuestImage, build_image
from serai.lab.pki import make_authority
from serai.lab.plan import LabGuest, LabPlan
from serai.lab.state import DEFAULT_STATE_DIRECTORY, LabState
from serai.lab.teardown import take_down

Progress = Callable[[str], None]

_BOOT_SECONDS = 180.0
_MIGRATE_SECONDS = 120.0
_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0
_CONSOLE_TAIL_LINES = 8
_READY = "SERAI-READY"
_FAILED = "SERAI-FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStatus:
    """How one host is."""

    name: str
    running: bool
    """Its namespaces and first process are there."""
    libvirtd: bool
    """Its libvirtd answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestStatus:
    """How one guest is."""

    domain: str
    network: str
    host: str | None
    """Where it is now; None when no host has it."""
    state: str
    """running, paused, crashed, shutting down, off, unknown or absent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabStatus:
    """How the whole lab is."""

    up: bool
    """A lab is recorded (perhaps a broken one, to be taken down)."""
    hosts: tuple[HostStatus, ...]
    guests: tuple[GuestStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One finished live migration."""

    domain: str
    source: str
    destination: str
    seconds: float
    """Time the hypervisor took, from the request to its answer."""


class Lab:
    """One lab. Making the object touches nothing."""

    def __init__(self, plan: LabPlan, state_dir: Path = DEFAULT_STATE_DIRECTORY, *, image_dir: Path) -> None:
        """Describe the lab of this plan, with its state in state_dir and the guests' image kept in image_dir."""
        self.plan = plan
        self.state = LabState(state_dir)
        self._image_dir = image_dir
        self._hosts = {host.name: HypervisorHost(host.name, plan=plan, state=self.state) for host in plan.hosts}

    @property
    def hosts(self) -> tuple[HypervisorHost, ...]:
        """All hosts, in the plan's order."""
        return tuple(self._hosts.values())

    def host(self, name: str) -> HypervisorHost:
        """Return the host called name; LabPlanError when there is none."""
        return self._hosts[self.plan.host(name).name]

    def hypervisor(self, host: str) -> Hypervisor:
        """Return the libvirtd of the host called so."""
        return Hypervisor(host, self.host(host).libvirt_uri)

    def make_hosts(self, progress: Progress, *, hook: str | None = None) -> None:
        """Make the networks and start the hosts, without guests. hook is the script libvirt calls for QEMU.

        LabError when a lab is there already or a step fails; then, and after an interruption, `down` cleans up.
        """
        with self.state.lock():
            self.state.begin(self.plan)
            with _remedy_named():
                self._make_hosts(progress, hook)

    def start_guests(self, progress: Progress, *, timeout_seconds: float = _BOOT_SECONDS) -> None:
        """Start all guests at once and wait until their services answer.

        LabError when one is refused, or is not ready in time; it shows the end of that guest's boot log.
        """
        with self.state.lock():
            self._require_up()
            image = build_image(self._image_dir, progress)
            if not self.plan.guests:
                return
            progress(f"guests: starting {len(self.plan.guests)}")
            with _remedy_named():
                self._start_all(image, progress, deadline=time.monotonic() + timeout_seconds)

    def start_guest(self, domain: str, *, timeout_seconds: float = _BOOT_SECONDS) -> float:
        """Start one guest on its planned host and wait until its services answer; return the seconds it took.

        LabError as for start_guests.
        """
        guest = self.plan.guest(domain)
        with self.state.lock():
            self._require_up()
            image = build_image(self._image_dir, lambda _: None)
            return self._start_guest(guest, image, time.monotonic() + timeout_seconds, threading.Event())

    def status(self) -> LabStatus:
        """Ask every host. Never raises for a host that is down: it says so."""
        hosts: list[HostStatus] = []
        found: dict[str, tuple[str, str]] = {}
        for host in self.hosts:
            running = host.running()
            domains = self._domains(host) if running else None
            hosts.append(HostStatus(name=host.name, running=running, libvirtd=domains is not None))
            for domain, state in (domains or {}).items():
                # During a move both hosts have the guest: the running one counts.
                if found.get(domain, ("", ""))[1] != "running":
                    found[domain] = (host.name, state)
        guests = []
        for guest in self.plan.guests:
            where, state = found.get(guest.domain, (None, "absent"))
            guests.append(GuestStatus(domain=guest.domain, network=guest.network, host=where, state=state))
        return LabStatus(up=self.state.exists(), hosts=tuple(hosts), guests=tuple(guests))

    def where_is(self, domain: str) -> str:
        """Return the name of the host that runs a guest; LabError when none does."""
        self.plan.guest(domain)
        for guest in self.status().guests:
            if guest.domain == domain and guest.host is not None:
                return guest.host
        raise LabError(f"guest {domain} runs on no host: bring the lab up first")

    def shell(self, domain: str) -> GuestShell:
        """Return a client of a guest's daemon, which finds the guest on whatever host it is."""
        name = self.plan.guest(domain).domain
        return GuestShell(name, [host.path(guest_socket(name)) for host in self.hosts])

    def migrate(self, domain: str, to_host: str, *, timeout_seconds: float = _MIGRATE_SECONDS) -> Move:
        """Move a running guest to another host, over TLS, and wait for the end.

        LabError when it is there already, or when libvirt or a hook refuses; the guest then stays where it is.
        """
        target = self.host(to_host)
        source = self.where_is(domain)
        if source == to_host:
            raise LabError(f"guest {domain} is on host {to_host} already")
        destination = Destination(host=target.name, uri=target.migration_uri(), underlay=target.spec.underlay)
        began = time.monotonic()
        self.hypervisor(source).migrate(domain, destination, timeout_seconds=timeout_seconds)
        return Move(domain=domain, source=source, destination=to_host, seconds=time.monotonic() - began)

    def down(self, progress: Progress) -> bool:
        """Take the recorded lab away, whatever state it is in; False when there was none."""
        return take_down(self.state, progress)

    def _make_hosts(self, progress: Progress, hook: str | None) -> None:
        make_fabric(self.plan, self.state, progress)
        progress("certificates: one authority, one certificate per host")
        make_authority(self.state.pki_directory)
        for host in self.hosts:
            if hook is not None:
                host.install_hook(hook)
            host.prepare()
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            for host, _ in zip(self.hosts, pool.map(HypervisorHost.start, self.hosts), strict=True):
                progress(f"host {host.name}: libvirtd is up at {host.spec.underlay}")

    def _start_all(self, image: GuestImage, progress: Progress, *, deadline: float) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(len(self.plan.guests)) as pool:
            try:
                starts = {
                    pool.submit(self._start_guest, guest, image, deadline, stop): guest for guest in self.plan.guests
                }
                for start in as_completed(starts):
                    guest = starts[start]
                    progress(f"guest {guest.domain}: ready on host {guest.host} after {start.result():.1f} s")
            finally:
                # After an error or Ctrl-C nobody waits for the other guests.
                stop.set()

    def _require_up(self) -> None:
        down = [host.name for host in self.hosts if not host.running()]
        if down:
            raise LabError(
                f"host {', '.join(down)} is not running: make the hosts first (after a crash: down, then up)"
            )

    def _domains(self, host: HypervisorHost) -> dict[str, str] | None:
        try:
            return Hypervisor(host.name, host.libvirt_uri).domains()
        except LabError:
            return None

    def _start_guest(self, guest: LabGuest, image: GuestImage, deadline: float, stop: threading.Event) -> float:
        began = time.monotonic()
        host = self.host(guest.host)
        hypervisor = self.hypervisor(guest.host)
        hypervisor.start(guest, image)
        log = host.path(console_log(guest.domain))
        gone, ask_again = False, began
        while _READY not in (text := _read(log)):
            now = time.monotonic()
            if now > ask_again:
                gone, ask_again = guest.domain not in hypervisor.domains(), now + _ASK_SECONDS
            if gone or _FAILED in text:
                raise LabError(f"guest {guest.domain} failed to start: {_tail(text)}")
            if now > deadline:
                raise LabError(f"guest {guest.domain} is not ready in time; its boot log ends: {_tail(text)}")
            if stop.wait(_POLL_SECONDS):
                raise LabError(f"the start of guest {guest.domain} was given up")
        return time.monotonic() - began


@contextmanager
def _remedy_named() -> Iterator[None]:
    try:
        yield
    except LabError as error:
        raise LabError(
            f"{error}; what was made so far stays for a look: take the lab down before the next try"
        ) from error


def _read(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _tail(text: str) -> str:
    return " / ".join(text.split("\n")[-_CONSOLE_TAIL_LINES:]).strip() or "(no output)"
