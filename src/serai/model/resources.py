"""The resources that people write in YAML, field by field. References in them are not resolved yet."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serai.model import fields
from serai.model.claims import InvariantSpec
from serai.model.inventory import ETHERTYPES, Serves
from serai.model.peers import Peers
from serai.model.placing import Memory, PlacementRuleSpec, PoolSpec, Tags
from serai.model.policy import Action, Direction, Tier
from serai.model.selectors import Part, Selector
from serai.model.tenancy import Mode, Scope

MAX_VNI = 2**24 - 1
"""VXLAN network identifiers have 24 bits (RFC 7348)."""
MAX_PRIORITY = 1000
FLOWS = (64, 1 << 20)
"""The fewest and the most flows that a vNIC may be told to hold."""
NEW_FLOWS = (1, 1_000_000)
"""The fewest and the most new flows a second that a vNIC may be told to open."""
Approval = Annotated[int, Field(ge=1, le=2)]
"""How many people must stand behind a change, its author included."""


class RootMetadata(Part):
    """Metadata of kinds that only the provider has."""

    name: fields.Name
    scope: fields.RootPath | None = None


class Metadata(Part):
    """Metadata of kinds that belong to a scope."""

    name: fields.Name
    scope: fields.ScopePath


class ServiceMetadata(Metadata):
    """A service's name must not read like a port."""

    name: fields.ServiceName


class Defaults(Part):
    """What is said of a connection that no tier decides."""

    ingress: Literal["Accept", "Deny"] = "Deny"
    egress: Literal["Accept", "Deny"] = "Accept"


class Quarantine(Part):
    """What VMs in mode ``isolate`` may still reach and be reached from."""

    allow: tuple[fields.Prefix, ...] = ()


class SiteSpec(Part):
    """Settings of the whole site."""

    mode: Mode | None = None
    defaults: Defaults = Defaults()
    quarantine: Quarantine = Quarantine()
    approval: Approval = 1


class ApplicationSpec(Part):
    """An application: it declares the scope ``/TENANT/NAME``."""

    name: fields.Name
    mode: Mode | None = None
    approval: Approval = 1


class TenantSpec(Part):
    """A tenant's settings and applications."""

    mode: Mode | None = None
    approval: Approval = 1
    applications: tuple[ApplicationSpec, ...] = ()


class NetworkSpec(Part):
    """A virtual layer-2 segment."""

    routing_domain: fields.Name | None = None
    subnets: Annotated[tuple[fields.Subnet, ...], fields.AtLeastOne]
    bridge: fields.Bridge | None = None
    vni: Annotated[int, Field(ge=1, le=MAX_VNI)] | None = None
    tags: Tags = ()


class HostSpec(Part):
    """A hypervisor."""

    address: fields.Address | None = None
    tags: Tags = ()


class AllowedAddressSpec(Part):
    """Addresses that a vNIC may use beside its own."""

    prefix: fields.AllowedPrefix
    mac: fields.MacText | None = None


class VnicSpec(Part):
    """A virtual network card."""

    name: fields.Name = "eth0"
    network: fields.Reference
    mac: fields.MacText
    addresses: Annotated[tuple[fields.Station, ...], fields.AtLeastOne]
    allowed_addresses: tuple[AllowedAddressSpec, ...] = ()
    serves: tuple[Serves, ...] = ()
    tunnels: bool = False
    ethertypes: Annotated[tuple[fields.Ethertype, ...], fields.at_most(ETHERTYPES)] = ()
    max_flows: Annotated[int, Field(ge=FLOWS[0], le=FLOWS[1])] | None = None
    new_flows_per_second: Annotated[int, Field(ge=NEW_FLOWS[0], le=NEW_FLOWS[1])] | None = None


class VirtualMachineSpec(Part):
    """A virtual machine."""

    labels: dict[fields.LabelKey, fields.LabelValue] = Field(default_factory=dict)
    mode: Mode | None = None
    host: fields.Name | None = None
    domain: fields.Domain | None = None
    tags: Tags = ()
    memory: Memory | None = None
    images: tuple[fields.Name, ...] = ()
    definition: fields.Digest | None = None
    vnics: Annotated[tuple[VnicSpec, ...], fields.AtLeastOne]


class ImageSpec(Part):
    """What machines boot from: any of these files, each by its digest."""

    digests: Annotated[tuple[fields.Digest, ...], fields.AtLeastOne]


class ServiceSpec(Part):
    """Named ports, and the VMs that offer them."""

    ports: Annotated[tuple[fields.ServicePort, ...], fields.AtLeastOne]
    selector: Selector | None = None


class RuleSpec(Part):
    """What both kinds of rules share."""

    name: fields.Name
    action: Action
    ports: Annotated[tuple[fields.Ports, ...], fields.AtLeastOnePort] | None = None


class IngressRuleSpec(RuleSpec):
    """A rule on connections to the subject."""

    peers: Peers | None = Field(None, alias="from")


class EgressRuleSpec(RuleSpec):
    """A rule on connections from the subject."""

    peers: Peers | None = Field(None, alias="to")


class SubjectSpec(Part):
    """The VMs that a policy is about; nothing said: all of the policy's scope."""

    scope: fields.ScopePath | None = None
    selector: Selector | None = None


class PolicySpec(Part):
    """Rules for some VMs. A direction that is left out is not governed by the policy."""

    tier: Tier
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 500
    staged: bool = False
    subject: SubjectSpec = SubjectSpec()
    ingress: tuple[IngressRuleSpec, ...] | None = None
    egress: tuple[EgressRuleSpec, ...] | None = None

    @model_validator(mode="after")
    def _check_governs(self) -> Self:
        if self.ingress is None and self.egress is None:
            message = "governs nothing: write ingress, egress or both ([] means: matches nothing)"
            raise ValueError(message)
        return self

    def rules(self) -> dict[Direction, tuple[RuleSpec, ...]]:
        """The rules of every direction that is governed."""
        both = {Direction.EGRESS: self.egress, Direction.INGRESS: self.ingress}
        return {direction: rules for direction, rules in both.items() if rules is not None}


class Site(Part):
    """The site itself; there is at most one."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Site"]
    metadata: RootMetadata
    spec: SiteSpec = SiteSpec()


class Tenant(Part):
    """A tenant: it declares the scope ``/NAME``."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Tenant"]
    metadata: RootMetadata
    spec: TenantSpec = TenantSpec()


class Network(Part):
    """A network."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Network"]
    metadata: Metadata
    spec: NetworkSpec


class Host(Part):
    """A host."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Host"]
    metadata: RootMetadata
    spec: HostSpec = HostSpec()


class VirtualMachine(Part):
    """A VM."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["VirtualMachine"]
    metadata: Metadata
    spec: VirtualMachineSpec


class Service(Part):
    """A service."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Service"]
    metadata: ServiceMetadata
    spec: ServiceSpec


class Policy(Part):
    """A policy."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Policy"]
    metadata: Metadata
    spec: PolicySpec


class Invariant(Part):
    """An invariant."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Invariant"]
    metadata: Metadata
    spec: InvariantSpec


class Pool(Part):
    """A pool."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Pool"]
    metadata: RootMetadata
    spec: PoolSpec = PoolSpec()


class PlacementRule(Part):
    """A placement rule."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["PlacementRule"]
    metadata: RootMetadata
    spec: PlacementRuleSpec


class Image(Part):
    """An image."""

    api_version: Literal["serai.dev/v1"]
    kind: Literal["Image"]
    metadata: RootMetadata
    spec: ImageSpec


Resource = Site | Tenant | Network | Host | VirtualMachine | Service | Policy | Invariant | Pool | PlacementRule | Image

KINDS: dict[str, type[Resource]] = {
    "Site": Site,
    "Tenant": Tenant,
    "Network": Network,
    "Host": Host,
    "VirtualMachine": VirtualMachine,
    "Service": Service,
    "Policy": Policy,
    "Invariant": Invariant,
    "Pool": Pool,
    "PlacementRule": PlacementRule,
    "Image": Image,
}


def path_of(resource: Resource) -> str:
    """How the resource is called among its kind: ``/acme:shop``, or by name alone where only `/` has them."""
    scope: Scope | None = resource.metadata.scope
    if scope is None or isinstance(resource.metadata, RootMetadata):
        return resource.metadata.name
    return f"{scope}:{resource.metadata.name}"


def label(resource: Resource) -> str:
    """How errors name the resource, e.g. ``Policy /acme:shop``."""
    return f"{resource.kind} {path_of(resource)}"
