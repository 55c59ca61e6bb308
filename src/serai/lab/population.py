"""The resources of a data center on paper, as people would write them: what a controller is filled with to see how far it goes.

Hosts, and tenants of one shape each with a network, web, app, db and management VMs all over the hosts, and eight rules; the provider
has four rules for all. The same numbers give the same resources.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from serai.lab.scale import BAD, INFRASTRUCTURE, ROLES, SUBNET, Scale, corporate, host_name
from serai.model.catalog import Key

Document = Mapping[str, Any]

_FIRST_ADDRESS: Final = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Population:
    """The resources of a data center of this size."""

    scale: Scale

    def documents(self) -> Iterator[Document]:
        """Go through all of them: the provider's, then tenant by tenant."""
        yield _document("Site", {"name": "site"}, {"mode": "enforce"})
        for host in range(self.scale.hosts):
            yield _document("Host", {"name": host_name(host)}, {})
        yield self.ground_rules()
        for tenant in range(self.scale.tenants):
            yield from self.tenant(tenant)

    def tenant(self, tenant: int) -> Iterator[Document]:
        """Go through the resources of one tenant."""
        name = f"t{tenant}"
        scope = f"/{name}"
        yield _document("Tenant", {"name": name}, {})
        yield _document("Network", {"name": "front", "scope": scope}, {"subnets": [str(SUBNET)]})
        for vm in range(self.vms_of(tenant)):
            yield self.vm(tenant, vm)
        yield from self.policies(tenant)

    def vms_of(self, tenant: int) -> int:
        """Return how many VMs a tenant has."""
        total, tenants = self.scale.hosts * self.scale.vms, self.scale.tenants
        return total // tenants + (tenant < total % tenants)

    def host_of(self, tenant: int, vm: int) -> str:
        """Return the host of a tenant's VM: tenants are spread over hosts, each of which has its share."""
        number = vm * self.scale.tenants + tenant
        # A step that has nothing in common with the number of hosts reaches all of them, and not one after the other.
        return host_name(number * _coprime(self.scale.hosts) % self.scale.hosts)

    def vm(self, tenant: int, vm: int) -> Document:
        """Return a tenant's VM."""
        number = vm * self.scale.tenants + tenant
        first = vm * self.scale.vnics
        vnics = [
            {
                "name": f"eth{at}", "network": "front", "mac": mac(number * self.scale.vnics + at),
                "addresses": [str(IPv4Address(int(SUBNET.network_address) + _FIRST_ADDRESS + first + at))],
            }
            for at in range(self.scale.vnics)
        ]  # fmt: skip
        spec = {"labels": {"role": ROLES[vm % len(ROLES)]}, "host": self.host_of(tenant, vm), "vnics": vnics}
        return _document("VirtualMachine", {"name": f"vm{vm}", "scope": f"/t{tenant}"}, spec)

    def policies(self, tenant: int, *, app_port: int = 8080) -> Iterator[Document]:
        """Go through a tenant's policies; ``app_port`` is what an edit of one changes."""
        users = [{"cidr": str(prefix)} for prefix in corporate(tenant)]
        everybody, by_role = [{"scope": f"/t{tenant}"}], {role: [_with(role)] for role in ROLES}
        yield _policy(tenant, "all", None, ingress=[
            _rule("ping", "from", everybody, "icmp"), _rule("ssh", "from", by_role["mgmt"], "tcp/22"),
        ], egress=[_rule("inside", "to", everybody)])  # fmt: skip
        yield _policy(tenant, "web", "web", ingress=[_rule("from-users", "from", users, "tcp/80", "tcp/443")])
        yield _policy(tenant, "app", "app", ingress=[
            _rule("from-web", "from", by_role["web"], f"tcp/{app_port}"),
        ], egress=[_rule("to-users", "to", users, "tcp/443")])  # fmt: skip
        yield _policy(tenant, "db", "db", ingress=[
            _rule("from-app", "from", by_role["app"], "tcp/5432"),
            _rule("among-themselves", "from", by_role["db"], "tcp/5433"),
        ])  # fmt: skip

    def ground_rules(self, *denied: str) -> Document:
        """Return the provider's policy; ``denied`` are prefixes that nobody may reach, beside those that nobody ever may."""
        bad = [{"cidr": each} for each in (*map(str, BAD), *denied)]
        infrastructure = [{"cidr": str(prefix)} for prefix in INFRASTRUCTURE]
        spec = {
            "tier": "Admin",
            "ingress": [
                {"name": "nothing-from-bad", "action": "Deny", "from": bad},
                _rule("monitoring", "from", infrastructure, "tcp/9100"),
            ],
            "egress": [
                {"name": "nothing-to-bad", "action": "Deny", "to": bad},
                _rule("names", "to", infrastructure, "udp/53"),
            ],
        }
        return _document("Policy", {"name": "ground-rules", "scope": "/"}, spec)


def mac(number: int) -> str:
    """Return the MAC address of the vNIC of that number."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *number.to_bytes(5, "big")))


def key_of(document: Document) -> Key:
    """Return how a resource is called."""
    metadata = document["metadata"]
    scope = metadata.get("scope")
    return Key(document["kind"], metadata["name"] if scope is None else f"{scope}:{metadata['name']}")


def body_of(document: Document) -> str:
    """Return a resource as a controller keeps it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _document(kind: str, metadata: Mapping[str, str], spec: Mapping[str, Any]) -> Document:
    return {"apiVersion": "serai.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _policy(tenant: int, name: str, role: str | None, **sides: Sequence[Document]) -> Document:
    subject = {} if role is None else {"subject": _with(role)}
    return _document("Policy", {"name": name, "scope": f"/t{tenant}"}, {"tier": "Tenant", **subject, **sides})


def _with(role: str) -> Document:
    return {"selector": {"matchLabels": {"role": role}}}


def _rule(name: str, way: str, peers: Sequence[Document], *ports: str) -> Document:
    return {"name": name, "action": "Accept", way: peers, **({"ports": list(ports)} if ports else {})}


def _coprime(number: int) -> int:
    return next(step for step in range(max(number * 5 // 8, 1), 2 * number + 2) if math.gcd(step, number) == 1)
