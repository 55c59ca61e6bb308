"""The wires keep two networks apart and reach every host."""

from serai.lab.fabric import endpoint_commands, endpoints, flooding_commands, switch_commands
from unit.lab.lab_plans import plan


def test_hosts_carry_all_networks_and_outsides_one() -> None:
    made = endpoints(plan())
    assert [(each.namespace, [network.name for network in each.networks], each.bridged) for each in made] == [
        ("serai-a", ["acme", "globex"], True),
        ("serai-b", ["acme", "globex"], True),
        ("serai-controller", [], False),
        ("serai-out-acme", ["acme"], False),
        ("serai-out-globex", ["globex"], False),
    ]


def test_broadcasts_of_a_network_go_to_its_endpoints_only() -> None:
    host, *_, outside = endpoints(plan())
    assert flooding_commands(plan(), host) == [
        "fdb append 00:00:00:00:00:00 dev vx-100 dst 192.168.70.2",
        "fdb append 00:00:00:00:00:00 dev vx-100 dst 192.168.70.253",
        "fdb append 00:00:00:00:00:00 dev vx-200 dst 192.168.70.2",
        "fdb append 00:00:00:00:00:00 dev vx-200 dst 192.168.70.252",
    ]
    assert flooding_commands(plan(), outside) == [
        "fdb append 00:00:00:00:00:00 dev vx-200 dst 192.168.70.1",
        "fdb append 00:00:00:00:00:00 dev vx-200 dst 192.168.70.2",
    ]


def test_each_endpoint_has_one_cable() -> None:
    cables = [line for line in switch_commands(plan()) if "type veth" in line]
    assert [line.split()[-1] for line in cables] == [each.namespace for each in endpoints(plan())]


def test_outside_has_an_address_and_hosts_have_bridges() -> None:
    host, *_, outside = endpoints(plan())
    assert "link set vx-100 master br-acme up" in endpoint_commands(plan(), host)
    assert "address add 10.0.0.250/24 dev vx-200" in endpoint_commands(plan(), outside)
