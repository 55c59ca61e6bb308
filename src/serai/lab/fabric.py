"""The wires: an underlay switch, one VXLAN and bridge per network on each host, the controller's machine, and the users outside."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from serai.lab.command import run_command
from serai.lab.error import LabError
from serai.lab.namespace import call_in_namespace, namespace_exists
from serai.lab.plan import LabNetwork, LabPlan
from serai.lab.state import LabState

UNDERLAY_INTERFACE = "ul0"
"""Name of each host's card on the underlay: what leaves a host leaves here, inside VXLAN."""
_UNDERLAY_MTU = 1600
_OVERLAY_MTU = 1500
_VXLAN_PORT = 4789
_SWITCH = "switch"
_SYSCTL = Path("/proc/sys/net")
# First no IPv6 on anything made later (taps too: hosts have no business in their guests' networks), and no packet filter
# between bridge ports.
_SETTINGS = (
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A namespace with a card on the underlay and some (or no) networks in VXLAN over it."""

    namespace: str
    underlay: IPv4Address
    networks: tuple[LabNetwork, ...]
    bridged: bool
    """True for a host (a bridge per network), False for the users outside (an address instead)."""


def vxlan_interface(network: LabNetwork) -> str:
    """Name of the VXLAN interface of a network, on hosts and outside alike."""
    return f"vx-{network.vni}"


def endpoints(plan: LabPlan) -> tuple[Endpoint, ...]:
    """Everything that hangs on the underlay: the hosts, the controller, then the users outside of each network."""
    hosts = [
        Endpoint(namespace=plan.host_namespace(host.name), underlay=host.underlay, networks=plan.networks, bridged=True)
        for host in plan.hosts
    ]
    controller = Endpoint(
        namespace=plan.controller_namespace, underlay=plan.controller_underlay, networks=(), bridged=False
    )
    outsides = [
        Endpoint(
            namespace=plan.outside_namespace(network.name),
            underlay=plan.outside_underlay(network.name),
            networks=(network,),
            bridged=False,
        )
        for network in plan.networks
    ]
    return (*hosts, controller, *outsides)


def switch_commands(plan: LabPlan) -> list[str]:
    """Commands for `ip -batch` in the underlay namespace: the switch and a cable to each endpoint."""
    lines = [
        "link set lo up",
        f"link add {_SWITCH} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link set {_SWITCH} mtu {_UNDERLAY_MTU} up",
    ]
    for number, endpoint in enumerate(endpoints(plan)):
        peer = f"peer name {UNDERLAY_INTERFACE} mtu {_UNDERLAY_MTU} netns {endpoint.namespace}"
        lines += [
            f"link add port{number} mtu {_UNDERLAY_MTU} type veth {peer}",
            f"link set port{number} master {_SWITCH} up",
        ]
    return lines


def endpoint_commands(plan: LabPlan, endpoint: Endpoint) -> list[str]:
    """Commands for `ip -batch` in an endpoint's namespace, to be run after the switch is there."""
    lines = [
        "link set lo up",
        f"address add {endpoint.underlay}/{plan.underlay_subnet.prefixlen} dev {UNDERLAY_INTERFACE}",
        f"link set {UNDERLAY_INTERFACE} up",
    ]
    for network in endpoint.networks:
        vxlan = vxlan_interface(network)
        lines.append(
            f"link add {vxlan} mtu {_OVERLAY_MTU} type vxlan id {network.vni} local {endpoint.underlay} "
            f"dstport {_VXLAN_PORT} dev {UNDERLAY_INTERFACE}"
        )
        if endpoint.bridged:
            lines += [
                f"link add {network.bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set {vxlan} master {network.bridge} up",
                f"link set {network.bridge} up",
            ]
        else:
            lines += [
                f"address add {network.outside}/{network.subnet.prefixlen} dev {vxlan}",
                f"link set {vxlan} up",
            ]
    return lines


def flooding_commands(plan: LabPlan, endpoint: Endpoint) -> list[str]:
    """Commands for `bridge -batch`: where each VXLAN sends broadcasts and unknown addresses (head-end replication)."""
    return [
        f"fdb append 00:00:00:00:00:00 dev {vxlan_interface(network)} dst {other.underlay}"
        for network in endpoint.networks
        for other in endpoints(plan)
        if other.namespace != endpoint.namespace and network in other.networks
    ]


def make_fabric(plan: LabPlan, state: LabState, progress: Callable[[str], None]) -> None:
    """Make all namespaces and wires of the plan. LabError when a namespace of that name is there already."""
    progress(f"network: underlay switch, {len(plan.networks)} VXLAN networks on {len(plan.hosts)} hosts")
    for name in plan.namespaces:
        if namespace_exists(name):
            raise LabError(
                f"network namespace {name} exists already and is not of this lab: "
                f"take the other lab down, or remove it with `ip netns delete {name}`"
            )
    for name in plan.namespaces:
        state.record_namespace(name)
    _batch(["ip"], [f"netns add {name}" for name in plan.namespaces])
    for name in plan.namespaces:
        call_in_namespace(name, _apply_settings)
    _batch(["ip", "-n", plan.underlay_namespace], switch_commands(plan))
    for endpoint in endpoints(plan):
        _batch(["ip", "-n", endpoint.namespace], endpoint_commands(plan, endpoint))
        _batch(["bridge", "-n", endpoint.namespace], flooding_commands(plan, endpoint))
    for network in plan.networks:
        if network.outside6 is not None:
            outside, vxlan = plan.outside_namespace(network.name), vxlan_interface(network)
            switch = _SYSCTL / "ipv6/conf" / vxlan / "disable_ipv6"
            call_in_namespace(outside, partial(switch.write_text, "0"))
            _batch(["ip", "-n", outside], [f"address add {network.outside6} dev {vxlan} nodad"])


def remove_namespace(name: str) -> None:
    """Remove a network namespace with all in it; one that is not there is fine."""
    if namespace_exists(name):
        run_command(["ip", "netns", "delete", name])


def _batch(command: list[str], lines: list[str]) -> None:
    if lines:
        run_command([*command, "-batch", "-"], input_bytes="".join(f"{line}\n" for line in lines).encode())


def _apply_settings() -> None:
    for name, value in _SETTINGS:
        path = _SYSCTL / name
        if path.exists():
            path.write_text(value)
