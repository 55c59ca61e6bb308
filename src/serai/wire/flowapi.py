"""Bodies of the HTTP API about traffic: what the flow store answers. Times are RFC 3339 in UTC.

Every answer says how complete it is (``Completeness``), and tells no more than whoever asks may see: a conversation is seen by who may
see one of its ends; an end that one may not see is told by its address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from serai.wire.api import Body, Word, Writing

TopBy = Literal["talkers", "listeners", "pairs", "protocols", "services", "denied"]
TrendBy = Literal["protocol", "service", "peer", "verdict", "direction"]


class Silence(Body, frozen=True, kw_only=True):
    """A time from which nothing of a host is known."""

    host: str
    since: datetime
    until: datetime


class Completeness(Body, frozen=True, kw_only=True):
    """How much of what happened an answer knows."""

    percent: float
    """Of the records that gates and agents made, those that are here; 100 where nothing was lost."""
    records: int
    """Records in the time asked for, of all hosts that were asked."""
    lost: int
    """Records that are known to have been lost on their way."""
    silent: Sequence[Silence] = ()
    """Hosts that told nothing for more than three intervals, and when."""
    silent_hosts: int = 0
    """How many hosts were silent at some time; ``silent`` names the longest silences only."""
    begins: datetime | None = None
    """The history begins here, where that is later than what was asked for: what was before was removed to make room."""
    until: datetime | None = None
    """The latest moment that any host has told of."""

    def sentence(self) -> str:
        """Say it to a person, in a line."""
        parts = [f"{self.percent:.1f} % of {self.records} records"] if self.records or self.lost else ["no records"]
        parts += [f"{each.host} silent {each.since:%H:%M:%S}-{each.until:%H:%M:%S} UTC" for each in self.silent[:3]]
        if self.silent_hosts > len(self.silent[:3]):
            parts.append(f"{self.silent_hosts} hosts were silent at times")
        if self.begins is not None:
            parts.append(f"history begins {self.begins:%Y-%m-%d %H:%M} UTC")
        return "; ".join(parts)


class Record(Body, frozen=True, kw_only=True):
    """One flow record, in names."""

    at: datetime
    """End of the interval that it tells of."""
    host: str
    """Empty where whoever asks may not see hosts."""
    vnic: str
    """Path, ``/acme/shop:web-1/nic0``; its number in hexadecimal where nobody knows it."""
    vm: str
    """Path; empty where it was not known."""
    tenant: str
    scope: str
    network: str
    labels: Mapping[str, str]
    """Of the VM, as they were then."""
    peer: str
    """Path of the VM at the other end; empty where it is none of this site, or not to be seen."""
    peer_labels: Mapping[str, str]
    local: str
    remote: str
    local_port: int
    remote_port: int
    protocol: str
    """``tcp``, ``udp``, ``icmp``...; a number where it has no name; ``-`` where it was not IP."""
    service: str
    """``tcp/443``, ``icmp/8.0``."""
    direction: Literal["egress", "ingress"]
    verdict: Literal["accepted", "denied", "observed"]
    staged: Literal["accepted", "denied", "observed"]
    reason: str
    """In lower case; ``none`` where packets passed."""
    rule: str
    """Its text; empty where none was asked."""
    identity: int
    own_identity: int
    begins: bool
    ends: bool
    packets_out: int
    packets_in: int
    bytes_out: int
    bytes_in: int
    first: datetime
    last: datetime
    flags_out: int
    flags_in: int
    rtt_us: int
    syn_repeats: int
    unanswered: bool
    refused: bool


class FlowPage(Body, frozen=True, kw_only=True):
    """Some records, the latest first."""

    records: Sequence[Record]
    after: str | None = None
    """To be asked for the next page; None: that is all."""
    completeness: Completeness


class TopRow(Body, frozen=True, kw_only=True):
    """One line of a top list."""

    names: Sequence[str]
    """One (a VM's path, a group, an address, a service), or two of a pair: who opened, and to whom; of ``denied``: who, whom, service, why."""
    bytes: int
    packets: int
    connections: int
    """That began in that time."""
    last: datetime | None = None
    """Of ``denied``: when it was seen last."""


class Top(Body, frozen=True, kw_only=True):
    """The most of something, largest first."""

    by: TopBy
    group: str
    """``vm``, ``tenant``, ``scope``, ``network``, ``host`` or ``label:KEY``."""
    headings: Sequence[str]
    """What stands in ``names``."""
    rows: Sequence[TopRow]
    total: TopRow
    """Of everything, also what is not listed; its names are empty."""
    since: datetime
    until: datetime
    completeness: Completeness


class Series(Body, frozen=True, kw_only=True):
    """One line of a trend: sums of each step."""

    name: str
    bytes: Sequence[int]
    packets: Sequence[int]
    connections: Sequence[int]


class Trend(Body, frozen=True, kw_only=True):
    """How traffic went, step by step."""

    of: str
    by: TrendBy
    since: datetime
    """Where the first step begins."""
    step_seconds: int
    series: Sequence[Series]
    """The largest first; beyond the tenth all are one, ``others``."""
    completeness: Completeness


class MapNode(Body, frozen=True, kw_only=True):
    """A group of ends on a map."""

    name: str
    """A scope, the value of a label, a VM's path; ``outside`` for addresses that no VM held."""
    vms: int
    """VMs in it that were seen."""


class MapEdge(Body, frozen=True, kw_only=True):
    """Who opened what to whom."""

    source: str
    target: str
    service: str
    verdict: Literal["accepted", "denied", "observed"]
    bytes: int
    packets: int
    connections: int


class ServiceMap(Body, frozen=True, kw_only=True):
    """Who talks to whom, in groups."""

    scope: str
    group: str
    nodes: Sequence[MapNode]
    edges: Sequence[MapEdge]
    """The largest first."""
    more: int = 0
    """Edges that are not listed."""
    since: datetime
    until: datetime
    completeness: Completeness


class PeerRow(Body, frozen=True, kw_only=True):
    """One thing that a VM did with one peer."""

    peer: str
    """A VM's path, or an address."""
    direction: Literal["egress", "ingress"]
    service: str
    verdict: Literal["accepted", "denied", "observed"]
    bytes: int
    packets: int
    connections: int
    first: datetime
    last: datetime


class Who(Body, frozen=True, kw_only=True):
    """With whom a VM spoke."""

    vm: str
    peers: Sequence[PeerRow]
    """The largest first."""
    more: int = 0
    since: datetime
    until: datetime
    completeness: Completeness


class DropReason(Body, frozen=True, kw_only=True):
    """What gates dropped for one reason."""

    reason: str
    """In lower case; a number where this controller does not know it."""
    description: str
    """What it means, for a person."""
    packets: int
    vnics: int
    """So many gates dropped for it."""


class DropRow(Body, frozen=True, kw_only=True):
    """What one gate dropped for one reason."""

    host: str
    """Empty where whoever asks may not see hosts."""
    vnic: str
    """Path, ``/acme/shop:web-1/nic0``; its number in hexadecimal where nobody knows it; empty where nobody is known behind the tap."""
    direction: Literal["egress", "ingress"]
    """Of the packets: from the VM, or to it."""
    reason: str
    packets: int
    first: datetime
    last: datetime


class Drops(Body, frozen=True, kw_only=True):
    """What gates dropped, or would have dropped where they only observe."""

    of: str
    """A VM's path, or a scope."""
    packets: int
    """All of them."""
    reasons: Sequence[DropReason]
    """The most first."""
    rows: Sequence[DropRow]
    """Likewise."""
    more: int = 0
    """Rows that are not listed."""
    since: datetime
    until: datetime
    completeness: Completeness


class SightingRow(Body, frozen=True, kw_only=True):
    """Messages of one kind that a gate saw of its link."""

    vnic: str
    """As in ``DropRow``."""
    kind: str
    """``arp_request``, ``neighbor_solicitation``, ``dhcp_offer``...; a number where this controller does not know it."""
    direction: Literal["egress", "ingress"]
    """From the VM, or to it."""
    packets: int
    address: str
    """That the last was about: asked for, offered or claimed; empty where it was about none."""
    first: datetime
    last: datetime


class Sightings(Body, frozen=True, kw_only=True):
    """What gates saw of the messages that the links of a VM need to work: ARP, neighbor discovery, DHCP."""

    vm: str
    rows: Sequence[SightingRow]
    """By vNIC and kind."""
    since: datetime
    until: datetime
    completeness: Completeness


class SuggestRequest(Body, frozen=True, kw_only=True):
    """Write the least policy that admits what was seen."""

    scope: Word
    since: datetime
    until: datetime


class Suggestion(Body, frozen=True, kw_only=True):
    """A policy, as YAML that ``serai check`` takes."""

    yaml: str
    notes: Sequence[str]
    """What it does not say, and why."""
    conversations: int
    """Kinds of conversations that it admits."""
    ungoverned: Mapping[Literal["ingress", "egress"], Sequence[str]] = {}
    """Paths of the scope's VMs for whom it does not speak, as nothing was seen of them that has to be admitted; of each direction that it governs."""
    completeness: Completeness


class WhatIfRequest(Body, frozen=True, kw_only=True):
    """Replay what was seen against other policies."""

    files: Mapping[Word, Writing]
    """As for a change."""
    prune: Word | None = None
    """A scope: resources in it that stand in no file go. None: what is not mentioned stays."""
    since: datetime
    until: datetime


class WhatIfRow(Body, frozen=True, kw_only=True):
    """One kind of conversation that would come out otherwise."""

    change: Literal["denied", "allowed"]
    """What it newly would be."""
    source: str
    target: str
    service: str
    connections: int
    bytes: int
    last: datetime
    rule_before: str
    """What decided, as it is in force now."""
    rule_after: str
    """What would decide."""


class WhatIf(Body, frozen=True, kw_only=True):
    """What a change would have done to what was seen."""

    rows: Sequence[WhatIfRow]
    """Those newly denied first, the largest first."""
    conversations: int
    """Kinds of conversations that were replayed."""
    unknown: int
    """Those that could not be: an end is gone, or what is recorded does not say enough."""
    more: int = 0
    """Rows that are not listed."""
    notes: Sequence[str] = ()
    """What was left out, and why."""
    completeness: Completeness
