"""Plans for the tests of the lab."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from serai.lab.plan import LabGuest, LabHost, LabNetwork, LabPlan


def network(name: str = "acme", vni: int = 100) -> LabNetwork:
    """Make a network; all of them use the same addresses."""
    return LabNetwork(
        name=name,
        bridge=f"br-{name}",
        vni=vni,
        subnet=IPv4Network("10.0.0.0/24"),
        outside=IPv4Address("10.0.0.250"),
    )


def guest(domain: str = "acme-web", *, number: int = 11, host: str = "a", mac: str = "") -> LabGuest:
    """Make a guest of the network that its name begins with."""
    name = domain.partition("-")[0]
    return LabGuest(
        domain=domain,
        mac=mac or f"52:54:00:00:00:{number:02x}",
        address=IPv4Interface(f"10.0.0.{number}/24"),
        network=name,
        bridge=f"br-{name}",
        host=host,
    )


def plan(*guests: LabGuest, prefix: str = "serai-") -> LabPlan:
    """Make a plan with hosts a and b and networks acme and globex."""
    return LabPlan(
        hosts=(
            LabHost(name="a", underlay=IPv4Address("192.168.70.1")),
            LabHost(name="b", underlay=IPv4Address("192.168.70.2")),
        ),
        networks=(network(), network("globex", 200)),
        guests=guests,
        prefix=prefix,
    )
