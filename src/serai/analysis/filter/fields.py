"""The one table of what a filter can ask for: reading, SQL, the oracle and the page ``docs/FLOWS.md`` follow from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from serai.analysis.filter import kinds
from serai.analysis.filter.kinds import Kind
from serai.analysis.filter.values import nearest
from serai.model.flow import DIRECTIONS
from serai.model.flow_record import Verdict
from serai.model.reasons import Reason


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """Something that records have and filters compare."""

    kind: Kind
    help: str
    """For a person."""
    columns: tuple[str, ...]
    """What it is told from, in ``model/flow_record.py``; of numbers, their sum."""
    aliases: tuple[str, ...] = ()
    keyed: bool = False
    """It is written with a key: ``label.tier``."""


_DIRECTIONS = kinds.choice({direction.value: number for number, direction in enumerate(DIRECTIONS)})
_VERDICTS = kinds.choice({verdict.name.lower(): verdict.value for verdict in Verdict})
_REASONS = dataclasses.replace(
    kinds.choice({reason.name.lower(): reason.value for reason in Reason}),
    takes="a name of REASONS.md in lower case: `foreign_ip`; `none`",
)

FIELDS: Final[Mapping[str, Field]] = {
    "vm": Field(kind=kinds.VM, help="the VM whose gate counted", columns=("vm",)),
    "peer": Field(kind=kinds.VM, help="the VM at the other end", columns=("peer",)),
    "src": Field(
        kind=kinds.END,
        help="who opened the conversation",
        columns=("direction", "vm", "peer", "local", "remote"),
        aliases=("source",),
    ),
    "dst": Field(
        kind=kinds.END,
        help="to whom it was opened",
        columns=("direction", "vm", "peer", "local", "remote"),
        aliases=("destination",),
    ),
    "tenant": Field(kind=kinds.TENANT, help="the tenant of the VM", columns=("tenant",)),
    "peer.tenant": Field(kind=kinds.TENANT, help="the tenant of the peer", columns=("peer",)),
    "scope": Field(kind=kinds.SCOPE, help="the VM stands in it or below it", columns=("vm",)),
    "peer.scope": Field(kind=kinds.SCOPE, help="the peer stands in it or below it", columns=("peer",)),
    "label": Field(kind=kinds.TEXT, help="a label of the VM, as it was then", columns=("vm",), keyed=True),
    "peer.label": Field(kind=kinds.TEXT, help="a label of the peer, as it was then", columns=("peer",), keyed=True),
    "network": Field(kind=kinds.NETWORK, help="the network of the vNIC", columns=("network",)),
    "vnic": Field(kind=kinds.VNIC, help="the vNIC whose gate counted", columns=("vnic",)),
    "host": Field(kind=kinds.TEXT, help="the host whose gate counted", columns=("host",)),
    "local": Field(kind=kinds.ADDRESS, help="the VM's address", columns=("local",)),
    "remote": Field(kind=kinds.ADDRESS, help="the address of the other end", columns=("remote",)),
    "addr": Field(
        kind=kinds.ADDRESS, help="the address of either end", columns=("local", "remote"), aliases=("address",)
    ),
    "service": Field(
        kind=kinds.SERVICE,
        help="what the conversation was opened to; a number alone is a port of TCP, UDP or SCTP",
        columns=("protocol", "service"),
        aliases=("dport",),
    ),
    "port": Field(
        kind=kinds.PORT,
        help="the port of either end, or of the service: drops have no other",
        columns=("local_port", "remote_port", "protocol", "service"),
    ),
    "local_port": Field(kind=kinds.PORT, help="the VM's port", columns=("local_port",)),
    "remote_port": Field(kind=kinds.PORT, help="the port of the other end", columns=("remote_port",)),
    "protocol": Field(
        kind=kinds.PROTOCOL,
        help="the protocol above IP; `0` where the frame was not IP",
        columns=("protocol",),
        aliases=("proto",),
    ),
    "direction": Field(kind=_DIRECTIONS, help="`egress`: the VM opened it", columns=("direction",)),
    "verdict": Field(kind=_VERDICTS, help="what became of the packets", columns=("verdict",)),
    "staged": Field(kind=_VERDICTS, help="the verdict with staged policies in force", columns=("staged",)),
    "reason": Field(kind=_REASONS, help="why packets were, or would have been, dropped", columns=("reason",)),
    "rule": Field(kind=kinds.TEXT, help="the rule that decided, by its text", columns=("rule",)),
    "bytes": Field(kind=kinds.COUNT, help="bytes of frames, both ways", columns=("bytes_out", "bytes_in")),
    "bytes_in": Field(kind=kinds.COUNT, help="bytes of frames to the VM", columns=("bytes_in",)),
    "bytes_out": Field(kind=kinds.COUNT, help="bytes of frames from the VM", columns=("bytes_out",)),
    "packets": Field(kind=kinds.COUNT, help="packets, both ways", columns=("packets_out", "packets_in")),
    "packets_in": Field(kind=kinds.COUNT, help="packets to the VM", columns=("packets_in",)),
    "packets_out": Field(kind=kinds.COUNT, help="packets from the VM", columns=("packets_out",)),
    "connections": Field(kind=kinds.COUNT, help="conversations that began", columns=("connections",)),
    "rtt": Field(kind=kinds.TIME, help="from SYN to SYN-ACK, where a record tells it", columns=("rtt_us",)),
    "age": Field(kind=kinds.TIME, help="since the first packet of the conversation", columns=("age_ms",)),
    "unanswered": Field(kind=kinds.FLAG, help="a SYN had no answer", columns=("unanswered",)),
    "refused": Field(kind=kinds.FLAG, help="the answer to the SYN was a reset", columns=("refused",)),
    "begins": Field(kind=kinds.FLAG, help="the conversation began in this interval", columns=("event",)),
    "ends": Field(kind=kinds.FLAG, help="it ended in this interval", columns=("event",)),
}
"""By the name that a filter's text has, in the order in which people read about them."""

_NAMES = {name: name for name, field in FIELDS.items() if not field.keyed} | {
    alias: name for name, field in FIELDS.items() for alias in field.aliases
}
_KEYED = re.compile(r"((?:peer\.)?label)\.(.+)", re.IGNORECASE)


def find(text: str) -> tuple[str, str]:
    """Return the name of the field that is meant, and the key of a label (else nothing).

    Raises:
        ValueError: there is no such field; the text names the nearest.
    """
    if text.lower() in _NAMES:
        return _NAMES[text.lower()], ""
    keyed = _KEYED.fullmatch(text)
    if keyed and keyed[2].isprintable() and "\\" not in keyed[2]:
        return keyed[1].lower(), keyed[2]
    if text.lower().removesuffix(".") in FIELDS:
        raise ValueError(f"{text!r} needs the key of a label, as in {text.removesuffix('.')}.tier")
    hint = nearest(text, [*_NAMES, "label", "peer.label"])
    raise ValueError(f"there is no field {text[:100]!r}{': ' if hint else ''}{hint}")
