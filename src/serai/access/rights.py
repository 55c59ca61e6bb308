"""The one table of who may do what."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from serai.access.roles import Role
from serai.access.verbs import Verb


class Matter(enum.StrEnum):
    """What an act is about, as far as rights tell it apart."""

    ANYTHING = "anything"
    """The verb alone decides."""
    RULES = "rules"
    """Policies of the tiers Tenant and Baseline, Services, Invariants."""
    ADMIN_RULES = "Admin rules"
    """Policies of the tier Admin."""
    INVENTORY = "inventory"
    """Networks and VirtualMachines."""
    PROVIDER = "provider's"
    """Site, Tenants, Hosts, Pools, PlacementRules, Images, and the fields of other kinds that only the provider sets."""


class Reach(enum.Enum):
    """Where a role gives a right."""

    NO = "-"
    YES = "yes"
    """In the scope where it was granted, and below."""
    ROOT = "at /"
    """Only where it was granted in the scope ``/``."""


_NO, _YES, _ROOT = Reach.NO, Reach.YES, Reach.ROOT

RIGHTS: Final[Mapping[tuple[tuple[Verb, ...], Matter], tuple[Reach, ...]]] = {
    # For each role, in the order in which they are declared: viewer, operator, policy-editor, security-admin, auditor.
    ((Verb.READ, Verb.WATCH, Verb.PLAN, Verb.ASK), Matter.ANYTHING):                     (_YES,  _YES,  _YES,  _YES,  _YES),
    ((Verb.WRITE, Verb.DELETE, Verb.ROLLBACK, Verb.APPROVE), Matter.RULES):              (_NO,   _NO,   _YES,  _YES,  _NO),
    ((Verb.WRITE, Verb.DELETE, Verb.ROLLBACK, Verb.APPROVE), Matter.ADMIN_RULES):        (_NO,   _NO,   _NO,   _YES,  _NO),
    ((Verb.WRITE, Verb.DELETE, Verb.ROLLBACK, Verb.APPROVE), Matter.INVENTORY):          (_NO,   _NO,   _NO,   _YES,  _NO),
    ((Verb.WRITE, Verb.DELETE, Verb.ROLLBACK, Verb.APPROVE), Matter.PROVIDER):           (_NO,   _NO,   _NO,   _ROOT, _NO),
    ((Verb.CONFIRM,), Matter.RULES):                                                     (_NO,   _YES,  _YES,  _YES,  _NO),
    ((Verb.CONFIRM,), Matter.ADMIN_RULES):                                               (_NO,   _YES,  _NO,   _YES,  _NO),
    ((Verb.CONFIRM,), Matter.INVENTORY):                                                 (_NO,   _YES,  _NO,   _YES,  _NO),
    ((Verb.CONFIRM,), Matter.PROVIDER):                                                  (_NO,   _ROOT, _NO,   _ROOT, _NO),
    ((Verb.READ_HOSTS, Verb.READ_METRICS), Matter.ANYTHING):                             (_ROOT, _ROOT, _ROOT, _ROOT, _ROOT),
    ((Verb.JOIN_HOST, Verb.MOVE), Matter.ANYTHING):                                      (_NO,   _ROOT, _NO,   _ROOT, _NO),
    ((Verb.REVOKE_HOST, Verb.BACKUP), Matter.ANYTHING):                                  (_NO,   _NO,   _NO,   _ROOT, _NO),
    ((Verb.READ_AUDIT, Verb.READ_PEOPLE), Matter.ANYTHING):                              (_NO,   _NO,   _NO,   _YES,  _YES),
    ((Verb.MANAGE_PEOPLE,), Matter.ANYTHING):                                            (_NO,   _NO,   _NO,   _YES,  _NO),
    ((Verb.MANAGE_TOKENS,), Matter.ANYTHING):                                            (_YES,  _YES,  _YES,  _YES,  _YES),
}  # fmt: skip
"""Which role may do what, about what."""

REACHES: Final[Mapping[tuple[Verb, Matter], Mapping[Role, Reach]]] = {
    (verb, matter): dict(zip(Role, reaches, strict=True))
    for (verbs, matter), reaches in RIGHTS.items()
    for verb in verbs
}
"""The same, for looking up. What is not in it nobody may do."""

PROVIDER_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "Network": frozenset({"routing_domain", "bridge", "vni", "tags"}),
    "VirtualMachine": frozenset({"tags", "images", "definition"}),
}
"""By kind, fields of ``spec`` that only the provider sets: they reach beyond the scope of the resource.

A tenant's network in another tenant's routing domain would be among that tenant's addresses; tags say which hosts a VM may share, and with whom.
What a VM boots from and is made of is what hypervisors of the provider run.
"""
