"""The guests as libvirt domains: their XML, and starting, moving and ending them."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from xml.sax.saxutils import quoteattr

import libvirt

from serai.lab.error import LabError
from serai.lab.hostfiles import console_log, guest_socket
from serai.lab.image import GuestImage
from serai.lab.plan import LabGuest

_DOMAIN_NAMESPACE = uuid.UUID("5e7a1000-0000-4000-8000-000000000002")
_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}
_FLAGS = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_TLS


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where a guest moves to."""

    host: str
    """Host name, which the destination's certificate must carry."""
    uri: str
    """libvirt URI of the destination as the source host reaches it."""
    underlay: IPv4Address


def domain_uuid(domain: str) -> uuid.UUID:
    """UUID of the guest called so: the same in every lab."""
    return uuid.uuid5(_DOMAIN_NAMESPACE, domain)


def domain_xml(guest: LabGuest, image: GuestImage) -> str:
    """Write the libvirt XML of a guest: one emulated CPU, one virtio card, a boot log and a control socket."""
    # The time stamp counter is the host's own and has to be calibrated: on a busy host guests have measured it wrong by
    # a factor of 30. The ACPI timer's frequency is fixed.
    arguments = (
        "console=ttyS0 quiet loglevel=3 nokaslr mitigations=off no_timer_check tsc=unstable clocksource=acpi_pm random.trust_cpu=on "
        f"8250.nr_uarts=2 panic=-1 serai.name={guest.domain} serai.address={guest.address}"
    )
    if guest.address6 is not None:
        arguments += f" serai.address6={guest.address6}"
    return f"""\
<domain type='qemu'>
  <name>{guest.domain}</name>
  <uuid>{domain_uuid(guest.domain)}</uuid>
  <memory unit='MiB'>{guest.memory_mib}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{image.kernel}</kernel>
    <initrd>{image.initramfs}</initrd>
    <cmdline>{arguments}</cmdline>
  </os>
  <features><acpi/><apic/><tcg><tb-cache unit='MiB'>64</tb-cache></tcg></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <interface type='bridge'>
      <mac address={quoteattr(guest.mac)}/>
      <source bridge={quoteattr(guest.bridge)}/>
      <model type='virtio'/>
      <driver name='qemu'/>
    </interface>
    <serial type='file'>
      <source path={quoteattr(console_log(guest.domain))}/>
      <target type='isa-serial' port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path={quoteattr(guest_socket(guest.domain))}/>
      <target type='isa-serial' port='1'/>
    </serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Hypervisor:
    """The libvirtd of one host. Making the object touches nothing; each call opens its own connection."""

    def __init__(self, host: str, uri: str) -> None:
        """Describe the libvirtd of the host called so, reached at uri."""
        self._host = host
        self._uri = uri

    def alive(self) -> bool:
        """Say whether libvirtd answers."""
        try:
            with self._connection() as connection:
                connection.getHostname()
        except LabError:
            return False
        return True

    def domains(self) -> dict[str, str]:
        """Return the state (running, paused, ...) of each guest on the host, by name. LabError when it is down."""
        states = {}
        with self._connection() as connection:
            for domain in connection.listAllDomains():
                # A guest may leave between the listing and the question.
                with suppress(libvirt.libvirtError):
                    states[domain.name()] = _STATES.get(domain.state()[0], "unknown")
        return states

    def start(self, guest: LabGuest, image: GuestImage) -> None:
        """Start a guest. LabError when libvirt, or a hook, refuses."""
        with self._connection() as connection, self._translated(f"start {guest.domain}"):
            connection.createXML(domain_xml(guest, image), 0)

    def destroy(self, domain: str) -> None:
        """End a guest at once; one that is not there is fine."""
        with self._connection() as connection, self._translated(f"end {domain}"):
            if domain in (found.name() for found in connection.listAllDomains()):
                connection.lookupByName(domain).destroy()

    def migrate(self, domain: str, destination: Destination, *, timeout_seconds: float) -> None:
        """Move a running guest over TLS and wait for the end; LabError when it is refused, fails or takes too long.

        After an error the guest runs on where it was.
        """
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{destination.underlay}",
            libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION: destination.host,
        }
        with self._connection() as connection, self._translated(f"move {domain} to host {destination.host}"):
            found = connection.lookupByName(domain)
            watchdog = threading.Timer(timeout_seconds, _abort, [found])
            watchdog.daemon = True
            watchdog.start()
            try:
                found.migrateToURI3(destination.uri, parameters, _FLAGS)
            finally:
                watchdog.cancel()

    @contextmanager
    def _connection(self) -> Iterator[libvirt.virConnect]:
        # Errors come as exceptions; without this libvirt prints them on stderr as well.
        libvirt.registerErrorHandler(_ignore, None)
        with self._translated("connect"):
            connection = libvirt.open(self._uri)
        try:
            yield connection
        finally:
            with suppress(libvirt.libvirtError):
                connection.close()

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as error:
            raise LabError(f"libvirt on host {self._host} could not {action}: {error}") from error


def _abort(domain: libvirt.virDomain) -> None:
    with suppress(libvirt.libvirtError):
        domain.abortJob()


def _ignore(_context: object, _error: object) -> None:
    """Drop a libvirt error message."""
