"""Random tenancies: several tenants whose policies have one shape under other names, prefixes and ports, and a provider."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import strategies as st
from policies import LABELS, TCP, UDP, Service, Vocabulary, policies
from renaming import Renaming, in_order
from worlds import PREFIXES

from serai.model import address
from serai.model.inventory import Host, Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Direction, Expression, Group, Operator, Policy, PortRange
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

NAMES = ("acme", "globex", "north", "south", "east", "west")
HOSTS = ("h1", "h2", "h3")
SHARED = Network(
    name="shared", scope=Scope("/"), routing_domain="provider",
    subnets=(IPv4Network("172.16.0.0/16"), IPv6Network("2001:db8:8000::/64")),
)  # fmt: skip
"""Where the provider's services and any tenant's VMs may have a vNIC."""

_T, _A, _B, _OTHER, _ROOT = map(Scope, ("/t", "/t/a", "/t/b", "/other", "/"))
_DB = Group(scope=_T, expressions=frozenset({Expression(key="role", operator=Operator.IN, values=frozenset({"a"}))}))
_SHAPE = Vocabulary(
    scopes=(_A, _T, _B, _ROOT, _OTHER),
    networks=("/t:front", "/t:back", SHARED.path),
    prefixes=(
        *map(
            IPv4Network,
            ("10.0.0.0/24", "10.0.0.0/16", "10.0.0.2/32", "10.0.0.0/29", "10.0.1.0/24", "0.0.0.0/0", "172.16.0.0/16"),
        ),
        *map(IPv6Network, ("2001:db8::/64", "2001:db8::/48", "2001:db8::2/128", "::/0")),
    ),
    services=(
        Service(path="/t:db", ports=(PortRange(protocol=TCP, first=5432, last=5432),), group=_DB),
        Service(path="/t:dns", ports=(PortRange(protocol=UDP, first=53, last=53),)),
    ),
)  # fmt: skip
_COUNTS = {
    "tenants": st.sampled_from((2, 3, 4, 5, 6)),
    "policies": st.sampled_from((1, 2, 3, 4, 5)),
    "machines": st.sampled_from((1, 2, 3, 4)),
    "provider": st.sampled_from((0, 1, 2, 3)),
}
_PARTS = st.sampled_from(((False, False), (True, False), (False, True), (True, True)))
_MACHINES = st.tuples(st.sampled_from((_A, _B, _T)), st.sampled_from(LABELS), _PARTS)
"""Home, labels, and whether there are vNICs at the back and on the shared network."""
_MODES = st.sampled_from((Mode.ENFORCE,) * 5 + (Mode.OBSERVE, Mode.ISOLATE))
_BLOCKS, _SHIFTS = st.sampled_from((0, 0, 1, 2, 5)), st.sampled_from((0, 0, 0, 1, 1000))
_APPLICATIONS = st.sampled_from((("web", "data"), ("web", "data"), ("shop", "lab"), ("a", "b")))
_CHANGES = st.sampled_from(("nothing",) * 6 + ("less", "more", "action", "priority", "staged"))

Plan = tuple[Scope, dict[str, str], tuple[bool, bool]]


@st.composite
def tenants(draw: st.DrawFn) -> World:
    """Two to six tenants; most have the same policies but for names, prefixes and ports, some differ a little."""
    names = NAMES[: draw(_COUNTS["tenants"])]
    shape = [draw(policies(_SHAPE, name=f"p{at}", scopes=(_T, _A, _B))) for at in range(draw(_COUNTS["policies"]))]
    plans = [draw(_MACHINES) for _ in range(draw(_COUNTS["machines"]))]
    found: list[Policy] = []
    networks, vms, scopes = {SHARED.path: SHARED}, {}, [_ROOT]
    for at, name in enumerate(names):
        first, second = draw(_APPLICATIONS)
        renaming = Renaming(
            scopes={
                _T: f"/{name}", _A: f"/{name}/{first}", _B: f"/{name}/{second}",
                _OTHER: f"/{names[(at + 1) % len(names)]}",
            },
            block=draw(_BLOCKS), ports=draw(_SHIFTS),
        )  # fmt: skip
        scopes += [renaming.scope(scope) for scope in (_T, _A, _B)]
        found += map(renaming.policy, draw(_changed(shape)))
        own = _networks(name, renaming)
        networks |= own
        more = [draw(_MACHINES)] if draw(st.sampled_from((False, False, True))) else []
        for number, plan in enumerate([*plans, *more], start=2):
            vm = _machine(renaming, own, plan, at, number)
            vm = dataclasses.replace(vm, mode=draw(_MODES), host=draw(st.sampled_from(HOSTS)))
            vms[vm.path] = vm
    words = Vocabulary(scopes=tuple(scopes), networks=tuple(networks), prefixes=_SHAPE.prefixes)
    found += [draw(policies(words, name=f"o{at}", scopes=(_ROOT,))) for at in range(draw(_COUNTS["provider"]))]
    return World(
        hosts={name: Host(name=name) for name in HOSTS}, networks=networks, vms=vms, policies=in_order(found),
        last_word={direction: draw(st.sampled_from((Action.ACCEPT, Action.DENY))) for direction in Direction},
        quarantine=tuple(sorted(draw(st.sets(st.sampled_from(PREFIXES), max_size=1)), key=address.in_order)),
    )  # fmt: skip


@st.composite
def _changed(draw: st.DrawFn, shape: list[Policy]) -> list[Policy]:
    """The policies of the shape, mostly as they are; else one of them is different, or one more or less."""
    change, at = draw(_CHANGES), draw(st.integers(0, len(shape) - 1))
    one = shape[at]
    rest = shape[:at] + shape[at + 1 :]
    match change:
        case "less":
            return rest
        case "more":
            return [*shape, draw(policies(_SHAPE, name="own", scopes=(_T, _A, _B)))]
        case "priority":
            return [*rest, dataclasses.replace(one, priority=one.priority + 1 if one.priority < 1000 else 999)]
        case "staged":
            return [*rest, dataclasses.replace(one, staged=not one.staged)]
        case "action":
            return [*rest, opposite(one)]
        case _:
            return shape


def opposite(policy: Policy) -> Policy:
    """The policy with Deny where it has Accept, and Accept elsewhere."""
    turned = {
        direction: tuple(
            dataclasses.replace(rule, action=Action.DENY if rule.action is Action.ACCEPT else Action.ACCEPT)
            for rule in rules
        )
        for direction, rules in policy.rules.items()
    }
    return dataclasses.replace(policy, rules=turned)


def _networks(tenant: str, renaming: Renaming) -> dict[str, Network]:
    subnets = {"front": ("10.0.0.0/24", "2001:db8::/64"), "back": ("10.0.1.0/24",)}
    made = (
        Network(
            name=name, scope=Scope(f"/{tenant}"), routing_domain=tenant,
            subnets=tuple(renaming.prefix(address.parse_prefix(text)) for text in several),
        )
        for name, several in subnets.items()
    )  # fmt: skip
    return {network.path: network for network in made}


def _machine(renaming: Renaming, own: dict[str, Network], plan: Plan, tenant: int, number: int) -> VirtualMachine:
    """The VM of a plan at its tenant; ``number`` is its own within the tenant, and in its addresses."""
    home, labels, (at_the_back, shared) = plan
    scope, name = renaming.scope(home), f"vm{number}"
    front, back = own[renaming.path("/t:front")], own[renaming.path("/t:back")]
    cards = [
        (front, number, (front.subnets[0][number], front.subnets[1][number]) if number % 2 else (front.subnets[0][number],)),
        *([(back, number, (back.subnets[0][number],))] if at_the_back else []),
        *([(SHARED, number, _on_shared(tenant, number))] if shared else []),
    ]  # fmt: skip
    vnics = tuple(
        Vnic(
            id=vnic_id(scope, name, f"eth{at}"), name=f"eth{at}", network=network,
            mac=Mac(f"52:54:00:{at:02x}:{tenant:02x}:{number:02x}"), addresses=addresses,
        )
        for at, (network, number, addresses) in enumerate(cards)
    )  # fmt: skip
    return VirtualMachine(
        name=name, scope=scope, labels=labels, mode=Mode.ENFORCE, vnics=vnics, domain=f"{scope.tenant}-{name}"
    )


def _on_shared(tenant: int, number: int) -> tuple[IPv4Address | IPv6Address, ...]:
    return SHARED.subnets[0][256 * tenant + number], SHARED.subnets[1][256 * tenant + number]
