"""The same policies under other names, prefixes and ports: how one tenant becomes another of the same shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import ip_network

from policies import WITH_PORTS

from serai.model.address import Prefix
from serai.model.policy import Clause, Group, InCidr, OnNetwork, Peer, Policy, PortRange, Rule, RuleRef
from serai.model.tenancy import Scope

_BLOCKS = {4: (ip_network("10.0.0.0/9"), 16), 6: (ip_network("2001:db8::/34"), 80)}
"""By version, the prefixes that tenants have parts of; how far left the number of the part stands."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """What changes on the way from one tenant to another; all else stays."""

    scopes: Mapping[str, str]
    """Old scope to new one, tenants and applications."""
    block: int = 0
    """By how many /16 (IPv6: /48) its prefixes move."""
    ports: int = 0
    """By how much its ports move, the first and the last one excepted."""

    def scope(self, scope: Scope) -> Scope:
        return Scope(self.scopes.get(scope, scope))

    def path(self, path: str) -> str:
        scope, _, name = path.partition(":")
        return f"{self.scope(Scope(scope))}:{name}"

    def prefix(self, prefix: Prefix) -> Prefix:
        within, bits = _BLOCKS[prefix.version]
        if prefix.prefixlen < prefix.max_prefixlen - bits or not prefix.subnet_of(within):  # type: ignore[arg-type]
            return prefix
        return type(prefix)((int(prefix.network_address) + (self.block << bits), prefix.prefixlen))

    def port_range(self, ports: PortRange) -> PortRange:
        if ports.protocol not in WITH_PORTS:
            return ports
        return dataclasses.replace(ports, first=self._port(ports.first), last=self._port(ports.last))

    def group(self, group: Group) -> Group:
        return dataclasses.replace(group, scope=self.scope(group.scope))

    def peer(self, peer: Peer | None) -> Peer | None:
        match peer:
            case None:
                return None
            case Group():
                return self.group(peer)
            case OnNetwork():
                return OnNetwork(path=self.path(peer.path))
            case InCidr():
                return InCidr(prefix=self.prefix(peer.prefix))

    def policy(self, policy: Policy) -> Policy:
        scope = self.scope(policy.scope)
        rules = {
            direction: tuple(
                Rule(
                    ref=RuleRef.of(scope, policy.name, direction, rule.ref.text.rpartition("/")[2]),
                    action=rule.action,
                    clauses=tuple(self._clause(clause) for clause in rule.clauses),
                )
                for rule in found
            )
            for direction, found in policy.rules.items()
        }
        return dataclasses.replace(policy, scope=scope, subject=self.group(policy.subject), rules=rules)

    def _clause(self, clause: Clause) -> Clause:
        return Clause(peer=self.peer(clause.peer), ports=tuple(map(self.port_range, clause.ports)))

    def _port(self, port: int) -> int:
        return port if port in (0, 65535) else min(port + self.ports, 65534)


def in_order(policies: list[Policy]) -> tuple[Policy, ...]:
    """As a world has them that was read from files."""
    return tuple(sorted(policies, key=lambda policy: (policy.scope, policy.name)))
