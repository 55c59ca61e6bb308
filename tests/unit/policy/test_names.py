"""What people call a set of VMs and of addresses."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.tenancy import Mode, Scope
from serai.policy.questions.classes import Endpoint
from serai.policy.questions.names import Names
from serai.policy.questions.outside import atoms

FRONT = Network(
    name="front", scope=Scope("/acme"), routing_domain="acme", subnets=(IPv4Network("10.0.0.0/8"),)
)  # fmt: skip


def ends(scope: str, name: str, *addresses: str, **labels: str) -> list[Endpoint]:
    vnic = Vnic(
        id=vnic_id(Scope(scope), name, "eth0"), name="eth0", network=FRONT, mac=Mac("52:54:00:00:00:01"),
        addresses=tuple(map(ip_address, addresses)),
    )  # fmt: skip
    vm = VirtualMachine(name=name, scope=Scope(scope), labels=labels, mode=Mode.ENFORCE, vnics=(vnic,))
    return [Endpoint(vm, vnic, address) for address in vnic.addresses]


ALL = [
    *ends("/acme/shop", "web-1", "10.0.0.1", role="web", env="live"),
    *ends("/acme/shop", "web-2", "10.0.0.2", "10.0.0.22", role="web", env="test"),
    *ends("/acme/shop", "app-1", "10.0.0.3", role="app", env="live"),
    *ends("/acme/shop", "app-2", "10.0.0.4", role="app", env="test"),
    *ends("/acme/shop", "db-1", "10.0.0.5", role="db", env="live"),
    *ends("/acme/shop", "db-2", "10.0.0.6", role="db", env="live"),
    *ends("/acme/lab", "one", "10.0.0.7"),
    *ends("/acme/lab", "two", "10.0.0.8"),
    *ends("/globex", "crm", "10.0.0.9", role="web"),
]
CUTS = {ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.0.0.9/32")}
ATOMS = [a for a in atoms(CUTS, [end.address for end in ALL]) if a.prefix.version == 4]
NAMES = Names(ALL, ATOMS)


@pytest.mark.parametrize(
    ("vms", "named"),
    [
        ("web-1", ["/acme/shop:web-1"]),
        ("web-1 web-2", ["/acme/shop role=web"]),
        ("web-1 web-2 crm", ["role=web"]),
        ("app-1", ["/acme/shop:app-1"]),
        ("web-2 app-2", ["/acme/shop env=test"]),
        ("web-1 web-2 app-1 app-2", ["/acme/shop role=app", "/acme/shop role=web"]),
        ("web-1 app-1 db-1 db-2", ["/acme/shop env=live"]),
        ("web-1 app-2", ["/acme/shop:app-2", "/acme/shop:web-1"]),
        ("one two", ["/acme/lab"]),
        ("one", ["/acme/lab:one"]),
        ("one two crm", ["/acme/lab", "/globex:crm"]),
        ("web-1 web-2 app-1 app-2 db-1 db-2", ["/acme/shop"]),
        ("web-1 web-2 app-1 app-2 db-1 db-2 one two", ["/acme"]),
        ("web-1 web-2 app-1 app-2 db-1 db-2 one two crm", ["every VM"]),
    ],
)
def test_vms_are_named_by_what_tells_them_from_others(vms: str, named: list[str]) -> None:
    meant = [end for end in ALL if end.vm.name in vms.split()]
    parts = NAMES.tell(meant, ())
    assert [part.name for part in parts] == named
    assert sorted(path for part in parts for path in part.vms) == sorted({end.vm.path for end in meant})
    assert {a for part in parts for a in part.addresses} == {end.address for end in meant}


def test_one_of_several_addresses_is_told() -> None:
    [meant] = [end for end in ALL if str(end.address) == "10.0.0.22"]
    [part] = NAMES.tell([meant], ())
    assert (part.name, part.addresses) == ("/acme/shop:web-2 by 10.0.0.22", (meant.address,))


@pytest.mark.parametrize(
    ("prefixes", "named"),
    [
        ("0.0.0.0/0 10.0.0.0/8 10.1.0.0/16 10.1.2.0/24", ["outside"]),
        ("0.0.0.0/0", ["outside except 10.0.0.0/8"]),
        ("10.0.0.0/8 10.1.0.0/16 10.1.2.0/24", ["outside 10.0.0.0/8"]),
        ("10.0.0.0/8 10.1.2.0/24", ["outside 10.0.0.0/8 except 10.1.0.0/16", "outside 10.1.2.0/24"]),
        ("10.1.2.0/24", ["outside 10.1.2.0/24"]),
    ],
)
def test_addresses_are_named_by_prefixes(prefixes: str, named: list[str]) -> None:
    # 10.0.0.9 is a VM's, so that nothing is left of its prefix.
    assert [a.prefix for a in ATOMS if a.example is None] == [ip_network("10.0.0.9/32")]
    meant = [atom for atom in ATOMS if str(atom.prefix) in prefixes.split()]
    assert [part.name for part in NAMES.tell((), meant)] == named


def test_all_of_both_is_anybody() -> None:
    [part] = NAMES.tell(ALL, [atom for atom in ATOMS if atom.example])
    assert part.name == "anybody"
    assert part.outside == ((ip_network("0.0.0.0/0"), ()),)
