"""A plan refuses parts that do not fit together, and says which."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from serai.lab.plan import LabHost, LabPlan, LabPlanError
from unit.lab.lab_plans import guest, network, plan


def test_tenants_may_use_the_same_addresses() -> None:
    made = plan(guest("acme-web"), guest("globex-web"))
    assert made.guest("acme-web").address == made.guest("globex-web").address


def test_namespaces_carry_the_prefix() -> None:
    assert plan(prefix="t-").namespaces == ("t-underlay", "t-controller", "t-a", "t-b", "t-out-acme", "t-out-globex")


def test_outside_has_an_underlay_address_per_network() -> None:
    assert plan().outside_underlay("globex") == IPv4Address("192.168.70.252")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hosts": ()}, "at least one host"),
        ({"networks": (network(), network("globex", 100))}, "VNI 100 is used twice"),
        ({"networks": (replace(network(), bridge="br-far-too-long-name"),)}, "15 characters"),
        ({"networks": (replace(network(), vni=0),)}, "VNI 0 is not in"),
        ({"networks": (replace(network(), outside=IPv4Address("10.1.0.1")),)}, "is not in 10.0.0.0/24"),
        ({"guests": (guest(host="c"),)}, "no host is called 'c'"),
        ({"guests": (guest("initech-web"),)}, "no network is called 'initech'"),
        ({"guests": (guest(), guest())}, "guest name acme-web is used twice"),
        ({"guests": (guest(), guest("acme-app"))}, "address in network acme 10.0.0.11 is used twice"),
        ({"guests": (guest(number=250),)}, "10.0.0.250 is used twice"),
        ({"guests": (replace(guest(), address=IPv4Interface("10.0.1.1/24")),)}, "10.0.1.1/24 is not in"),
        ({"guests": (guest(mac="52:54:00:AA:00:01"),)}, "lower-case MAC"),
        ({"guests": (replace(guest(), bridge="br-globex"),)}, "bridge br-globex is not br-acme"),
        ({"guests": (replace(guest(), domain="Web 1"),)}, "a name has"),
        ({"hosts": (LabHost(name="underlay", underlay=IPv4Address("192.168.70.1")),)}, "namespace name"),
        (
            {
                "hosts": (
                    LabHost(name="a", underlay=IPv4Address("192.168.70.1")),
                    LabHost(name="b", underlay=IPv4Address("192.168.71.1")),
                )
            },
            "is outside 192.168.70.0/24",
        ),
    ],
)
def test_bad_plan_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LabPlanError, match=message):
        LabPlan(**{"hosts": plan().hosts, "networks": plan().networks, "guests": (), **change})  # type: ignore[arg-type]
