"""Flows as people are shown them, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from serai.datapath.deltas import service
from serai.datapath.idle import idle_ns
from serai.datapath.layout import EGRESS, INGRESS
from serai.datapath.maps import Array
from serai.model.address import unpack
from serai.model.flow import DIRECTIONS, FlowRow, Outcome
from serai.model.inventory import VnicId
from serai.model.reasons import Reason
from serai.model.ruleset import Step

_NS = 1_000_000_000


def rows(vnic: VnicId, keys: Array, flows: Array, now_ns: int) -> Iterator[FlowRow]:
    """Go through flows of ``vnic``."""
    ports = service(keys, flows)
    ages = (idle_ns(flows, now_ns) / _NS).tolist()
    for at, (key, flow) in enumerate(zip(keys, flows, strict=True)):
        accepted = flow["step"] == Step.ACCEPT
        yield FlowRow(
            vnic=vnic,
            direction=DIRECTIONS[flow["origin"] & 1],
            remote=unpack(key["remote"].tobytes()),
            identity=int(flow["identity"]),
            protocol=int(key["protocol"]),
            port=int(ports[at]),
            packets_out=int(flow["packets"][EGRESS]),
            packets_in=int(flow["packets"][INGRESS]),
            bytes_out=int(flow["bytes"][EGRESS]),
            bytes_in=int(flow["bytes"][INGRESS]),
            outcome=Outcome.ACCEPTED if accepted else Outcome.OBSERVED,
            reason=Reason.NONE if accepted else Reason.DENIED,
            rule=int(flow["rule"]),
            staged=Outcome.ACCEPTED if flow["staged_step"] == Step.ACCEPT else Outcome.DENIED,
            age_seconds=ages[at],
        )
