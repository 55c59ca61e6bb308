"""What this host is made of: asked of libvirt and of the kernel. And the CPU that libvirt works out for several hosts."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import libvirt

from serai.inventory.cpu import CapabilitiesError, cpu_of, describe, element_of
from serai.model.host_facts import MOST_NICS, Cpu, HostFacts, Nic

LIBRARY: Final = "test:///default"
"""A connection to libvirt's library itself, without any daemon: it knows all CPUs that libvirt does."""
_STAYS: Final = frozenset({"invtsc"})
"""CPU features that keep a guest which has them from moving."""


class FactsError(RuntimeError):
    """Libvirt does not say what this host is, or does not understand what it was asked."""


def collect(
    uri: str, *, agent: str, features: Iterable[str], proc: Path = Path("/proc"), net: Path = Path("/sys/class/net")
) -> HostFacts:
    """Find out what this host is made of; libvirt may take seconds when it is asked for the first time.

    Args:
        uri: of this host's libvirt.
        agent: the agent's version.
        features: what its kernel has of what gates care for.
        proc: where the kernel tells of memory.
        net: where it tells of NICs.

    Raises:
        FactsError: libvirt does not answer.
    """
    with _connection(uri) as connection:
        capabilities = connection.getCapabilities()
        cpu = cpu_of(capabilities, _expanded(connection, capabilities))
        library, hypervisor = connection.getLibVersion(), connection.getVersion()
    return HostFacts(
        cpu=cpu,
        memory=_memory(proc),
        nics=sorted(_nics(net), key=lambda nic: nic.name)[:MOST_NICS],
        kernel=platform.release(),
        features=sorted(features),
        agent=agent,
        libvirt=_version(library),
        qemu=_version(hypervisor),
    )


def baseline(cpus: Sequence[Cpu], uri: str = LIBRARY) -> str:
    """Have libvirt work out the CPU that a VM may have which moves between hosts with any of ``cpus``; return it as a domain's XML has it.

    Raises:
        FactsError: there is none, or libvirt does not answer.
    """
    with _connection(uri) as connection:
        found: str = connection.baselineCPU([describe(cpu, without=_STAYS) for cpu in cpus], 0)
        return found


def _expanded(connection: Any, capabilities: str) -> str | None:  # noqa: ANN401
    """Return the host's CPU with every feature by name; None where libvirt has no name for its model."""
    cpu = element_of(capabilities)
    if cpu is None:
        return None
    found: str = connection.baselineCPU([cpu], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
    return found


@contextlib.contextmanager
def _connection(uri: str) -> Iterator[Any]:
    libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised; none belongs on stderr
    try:
        connection = libvirt.openReadOnly(uri)
        try:
            yield connection
        finally:
            connection.close()
    except (libvirt.libvirtError, CapabilitiesError) as error:
        raise FactsError(f"libvirt ({uri}) does not tell what this host is: {error}") from error


def _memory(proc: Path) -> int:
    """Return what the kernel has, in MiB."""
    kilobytes = (proc / "meminfo").read_text().partition("MemTotal:")[2].split()[0]
    return int(kilobytes) // 1024


def _nics(net: Path) -> Iterator[Nic]:
    """Go through what is built in: devices of a bus, and no parts of others (SR-IOV)."""
    for each in net.iterdir():
        if (each / "device").exists() and not (each / "device" / "physfn").exists():
            yield Nic(name=each.name, speed=_speed(each))


def _speed(nic: Path) -> int | None:
    try:
        told = int((nic / "speed").read_text())
    except (OSError, ValueError):  # EINVAL: there is no link
        return None
    return told if told > 0 else None


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
