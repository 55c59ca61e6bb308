"""The rules that nearly accepted."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from serai.inventory.files import load
from serai.model.policy import Direction
from serai.model.ports import format_ports
from serai.policy.questions.explain import near_misses

WORLD = load(Path(__file__).parents[3] / "examples/datacenter")


@pytest.mark.parametrize(
    ("vm", "direction", "remote", "port", "expected"),
    [
        ("/acme/shop:web", Direction.EGRESS, "10.0.0.12", 8081,
         {"/acme/shop:web/egress/to-app": ["tcp/8080"]}),
        ("/acme/shop:web", Direction.EGRESS, "10.0.0.13", 8080, {"/acme/shop:web/egress/to-app": []}),
        ("/acme/shop:web", Direction.EGRESS, "10.0.0.12", 8080, {}),
        ("/acme/shop:web", Direction.INGRESS, "10.0.0.250", 443,
         {"/acme/shop:web/ingress/from-users": ["tcp/80", "tcp/7778"]}),
        ("/acme/shop:db", Direction.EGRESS, "10.0.0.12", 443, {}),
    ],
)  # fmt: skip
def test_near_misses(vm: str, direction: Direction, remote: str, port: int, expected: dict[str, list[str]]) -> None:
    machine = WORLD.vms[vm]
    found = near_misses(WORLD, machine, machine.vnics[0], direction, IPv4Address(remote), 6, port)
    shown = {miss.ref.text: [format_ports(ports) for ports in miss.ports] for miss in found}
    # The Baseline tier accepts DNS, but is not asked where Tenant policies govern.
    assert shown == expected
