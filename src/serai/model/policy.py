"""Policies as the evaluator and the compiler see them: every reference resolved, every name checked."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from serai.model.address import Prefix
from serai.model.tenancy import ContentId, Scope, content_id


class Direction(enum.StrEnum):
    """The side of a vNIC that judges a new connection."""

    EGRESS = "egress"
    """From the VM."""
    INGRESS = "ingress"
    """To the VM."""


class Tier(enum.StrEnum):
    """The three tiers, in the order in which they are asked."""

    ADMIN = "Admin"
    TENANT = "Tenant"
    BASELINE = "Baseline"


class Action(enum.StrEnum):
    """What a rule says about a connection that it matches."""

    ACCEPT = "Accept"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105  # an action, not a secret
    """Go on at the next level (Admin tier only)."""


class Operator(enum.StrEnum):
    """How a match expression looks at a label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One requirement on one label. A missing label satisfies ``NotIn`` (as in Kubernetes)."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether ``labels`` meet the requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """VMs of a scope whose labels meet all expressions (none: every VM of the scope)."""

    scope: Scope
    expressions: frozenset[Expression] = frozenset()

    def contains(self, scope: Scope, labels: Mapping[str, str]) -> bool:
        """Say whether a VM in ``scope`` with ``labels`` belongs to the group."""
        return self.scope.contains(scope) and all(e.matches(labels) for e in self.expressions)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OnNetwork:
    """The vNICs attached to one network."""

    path: str
    """The network's scope and name, e.g. ``/acme:front``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InCidr:
    """Every address inside a prefix, whether or not a VM holds it."""

    prefix: Prefix
    _hash: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash once: prefixes take their time, and compilers look peers up again and again."""
        object.__setattr__(self, "_hash", hash(self.prefix))

    def __hash__(self) -> int:
        """Equal peers, equal hashes."""
        return self._hash


Peer = Group | OnNetwork | InCidr
"""What a rule says about the other end."""


ANY_PROTOCOL = 256
"""Stands for every IP protocol; real numbers (IANA) are 0 to 255."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PortRange:
    """A protocol and an inclusive range of destination ports.

    For ICMP and ICMPv6 a "port" is ``type * 256 + code``; protocols without ports use 0 to 65535.
    """

    protocol: int
    """IANA number, or ``ANY_PROTOCOL``."""
    first: int = 0
    last: int = 65535

    def contains(self, protocol: int, port: int) -> bool:
        """Say whether a connection to ``protocol``/``port`` lies in the range."""
        return self.protocol in (ANY_PROTOCOL, protocol) and self.first <= port <= self.last


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One alternative of a rule: this peer (None: anybody) on these ports (none: every port)."""

    peer: Peer | None = None
    ports: tuple[PortRange, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class RuleRef:
    """The name of what decided: a rule of a policy, or one of the built-in last words.

    Its text is ``/acme:shop/ingress/from-web``; built-in ones read ``unmatched/ingress`` (a Tenant policy
    selects the VM and no rule matched), ``builtin/ingress`` (nothing matched at all), and for a VM in
    quarantine ``quarantine/ingress`` (the address is one that it may reach) and ``isolated/ingress`` (it is not).
    """

    text: str

    def __hash__(self) -> int:
        """Hash the text itself, which remembers its hash."""
        return hash(self.text)

    @property
    def id(self) -> ContentId:
        """The 64-bit number by which the gate knows the rule."""
        return content_id("rule", self.text)

    @classmethod
    def of(cls, scope: Scope, policy: str, direction: Direction, rule: str) -> RuleRef:
        """Name a rule of a policy."""
        return cls(f"{scope}:{policy}/{direction}/{rule}")

    @classmethod
    def unmatched(cls, direction: Direction) -> RuleRef:
        """Name the Tenant tier's own denial."""
        return cls(f"unmatched/{direction}")

    @classmethod
    def builtin(cls, direction: Direction) -> RuleRef:
        """Name the site's last word."""
        return cls(f"builtin/{direction}")

    @classmethod
    def quarantine(cls, direction: Direction) -> RuleRef:
        """Name the leave that a VM in quarantine still has."""
        return cls(f"quarantine/{direction}")

    @classmethod
    def isolated(cls, direction: Direction) -> RuleRef:
        """Name the denial of all else to a VM in quarantine."""
        return cls(f"isolated/{direction}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Matches when any of its clauses does."""

    ref: RuleRef
    action: Action
    clauses: tuple[Clause, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules for the VMs of ``subject``, at one level (``scope``) of one tier."""

    name: str
    scope: Scope
    tier: Tier
    priority: int
    """0 to 1000; lower is asked first."""
    staged: bool
    """Judged beside the policies in force, never enforced."""
    subject: Group
    rules: Mapping[Direction, tuple[Rule, ...]]
    """A direction that is absent is not governed; one with no rules is governed and matches nothing."""
