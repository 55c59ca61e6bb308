"""The lab's own copy of a policy directory, which a user may edit and apply again."""

from __future__ import annotations

import re
import shutil
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from serai.inventory.files import load
from serai.lab.addresses import address6_of, address_of, first_address, first_subnet, subnet6
from serai.lab.error import LabError
from serai.lab.plan import MEMORY_MIB, LabGuest, LabHost, LabNetwork, LabPlan
from serai.model.inventory import Network, VirtualMachine
from serai.model.placement import NO_NEEDS
from serai.model.tenancy import Mode
from serai.model.world import World

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "datacenter"
"""The directory that the lab starts from unless it is told another."""

_MODE = re.compile(r"^(\s*mode:\s*)(observe|enforce|isolate)\b", re.MULTILINE)
_USERS = -6
"""Where, counted from the end of a network's subnet, its outside users sit: .250 of a /24."""
_USERS6 = 0xFA
"""The same in an IPv6 subnet, counted from its beginning: ::fa."""


class PolicyDirectory:
    """YAML files in a directory of the lab."""

    def __init__(self, path: Path) -> None:
        """Use the directory ``path``; nothing is read yet."""
        self.path = path

    def copy_from(self, source: Path) -> None:
        """Become a copy of ``source``. Nothing is copied when its files are not right."""
        load(source)
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(source, self.path)

    def load(self) -> World:
        """Read and check all files."""
        return load(self.path)

    def set_mode(self, mode: Mode) -> None:
        """Write ``mode`` into the Site resource, as a user would with an editor.

        LabError when no file has a Site with a mode.
        """
        for file in sorted(self.path.rglob("*.y*ml")):
            documents = re.split(r"(^---\s*$)", file.read_text(), flags=re.MULTILINE)
            for at, text in enumerate(documents):
                if re.search(r"^kind:\s*Site\s*$", text, re.MULTILINE) and _MODE.search(text):
                    documents[at] = _MODE.sub(rf"\g<1>{mode}", text, count=1)
                    file.write_text("".join(documents))
                    return
        raise LabError(f"{self.path} has no Site resource with a mode: add one with 'mode: {mode}'")


def plan_of(world: World, *, prefix: str = "serai-") -> LabPlan:
    """Plan the lab that a world describes: its hosts, its networks with bridge and VNI, and its VMs.

    ``prefix`` starts the names of its namespaces, so that two labs can live side by side.

    LabError where the world lacks something that only a lab needs.
    """
    hosts = []
    for host in world.hosts.values():
        if host.address is None:
            raise LabError(f"host {host.name} has no address: the lab needs one to join the hosts")
        hosts.append(LabHost(name=host.name, underlay=first_address([host.address], f"host {host.name}")))
    networks = {path: _network(network) for path, network in world.networks.items()}
    needs = world.placement.vms
    guests = [_guest(vm, networks, needs.get(vm.path, NO_NEEDS).memory) for vm in world.vms.values()]
    return LabPlan(hosts=tuple(hosts), networks=tuple(networks.values()), guests=tuple(guests), prefix=prefix)


def _network(network: Network) -> LabNetwork:
    if network.bridge is None or network.vni is None:
        raise LabError(f"network {network.path} has no bridge or no vni: the lab needs both")
    subnet = first_subnet(network.subnets, f"network {network.path}")
    return LabNetwork(
        name=network.path.strip("/").replace("/", "-").replace(":", "-"),
        bridge=network.bridge,
        vni=network.vni,
        subnet=subnet,
        outside=subnet[_USERS],
        outside6=IPv6Interface(f"{six[_USERS6]}/{six.prefixlen}") if (six := subnet6(network.subnets)) else None,
    )


def _guest(vm: VirtualMachine, networks: dict[str, LabNetwork], memory: int | None) -> LabGuest:
    if len(vm.vnics) != 1 or vm.host is None or vm.domain is None:
        raise LabError(f"VM {vm.path} needs exactly one vNIC, and a host, to be built in the lab")
    (vnic,) = vm.vnics
    network = networks[vnic.network.path]
    six, prefix = address6_of(vm), subnet6(vnic.network.subnets)
    return LabGuest(
        domain=vm.domain,
        mac=str(vnic.mac),
        address=IPv4Interface(f"{address_of(vm)}/{network.subnet.prefixlen}"),
        network=network.name,
        bridge=network.bridge,
        host=vm.host,
        memory_mib=memory or MEMORY_MIB,
        address6=IPv6Interface(f"{six}/{prefix.prefixlen}") if six and prefix else None,
    )
