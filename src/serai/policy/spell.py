"""Canonical texts of policies: equal meaning, equal text; what content-derived numbers are made of."""

from __future__ import annotations

from serai.model.policy import Clause, Direction, Group, InCidr, OnNetwork, Peer, Policy, Rule


def spell_peer(peer: Peer | None) -> str:
    """Write down who is meant."""
    match peer:
        case None:
            return "anybody"
        case Group():
            wanted = sorted(f"{e.key} {e.operator} {','.join(sorted(e.values))}" for e in peer.expressions)
            return f"group {peer.scope} " + "; ".join(wanted)
        case OnNetwork():
            return f"network {peer.path}"
        case InCidr():
            return f"cidr {peer.prefix}"


def spell_policy(policy: Policy, *directions: Direction) -> str:
    """Write down all that matters of a policy in ``directions`` (none given: in both)."""
    sides = [side for side in sorted(policy.rules) if not directions or side in directions]
    return "\n".join(
        (
            f"{policy.tier} {policy.priority} {policy.scope}:{policy.name} staged={policy.staged}",
            spell_peer(policy.subject),
            *(f"{side}:\n" + "\n".join(map(_spell_rule, policy.rules[side])) for side in sides),
        )
    )


def _spell_rule(rule: Rule) -> str:
    return f"{rule.ref.text} {rule.action} " + " or ".join(map(_spell_clause, rule.clauses))


def _spell_clause(clause: Clause) -> str:
    ports = ",".join(f"{r.protocol}/{r.first}-{r.last}" for r in clause.ports)
    return f"{spell_peer(clause.peer)} on {ports}"
