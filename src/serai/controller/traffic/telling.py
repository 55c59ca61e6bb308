"""From rows of the flow store to bodies of the API."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from serai.analysis.naming import service_text
from serai.analysis.traffic.coverage import Coverage
from serai.model.address import unpack
from serai.model.flow_record import Event, Sighting, Verdict
from serai.model.ports import PROTOCOLS
from serai.model.reasons import Reason
from serai.wire import flowapi

Row = Mapping[str, Any]

VERDICTS: Final[Mapping[int, Literal["accepted", "denied", "observed"]]] = {
    Verdict.ACCEPTED: "accepted", Verdict.DENIED: "denied", Verdict.OBSERVED: "observed",
}  # fmt: skip
_DIRECTIONS: Final[tuple[Literal["egress"], Literal["ingress"]]] = ("egress", "ingress")
_PROTOCOLS: Final = {number: name for name, number in PROTOCOLS.items()}
_REASONS: Final = frozenset(Reason)
_SILENCES: Final = 5
_NO_IP: Final = "-"


def moment(seconds: float) -> datetime:
    """Write seconds since 1970 as the API does."""
    return datetime.fromtimestamp(seconds, UTC)


def protocol_text(protocol: int) -> str:
    """Name a protocol."""
    return _PROTOCOLS.get(protocol, str(protocol)) if protocol else _NO_IP


def verdict_text(verdict: int) -> Literal["accepted", "denied", "observed"]:
    """Name a verdict."""
    return VERDICTS.get(verdict, "denied")


def rule_text(row: Row, rules: Mapping[int, str]) -> str:
    """Name the rule of a row; where no policy was asked, say nothing."""
    return rules.get(row["rule"], f"a rule no longer known ({row['rule']:#x})") if row["rule"] else ""


def completeness(found: Coverage, *, begins: float | None, names: bool) -> flowapi.Completeness:
    """Tell how complete an answer is; ``names``: whoever asks may know which hosts there are."""
    silences = [
        flowapi.Silence(host=gap.host, since=moment(gap.since), until=moment(gap.until))
        for gap in found.gaps[:_SILENCES]
    ]
    return flowapi.Completeness(
        percent=round(found.percent, 3), records=found.records, lost=found.lost, silent=silences if names else [],
        silent_hosts=len({gap.host for gap in found.gaps}), begins=None if begins is None else moment(begins),
        until=None if found.latest is None else moment(found.latest),
    )  # fmt: skip


def record(
    row: Row, endpoints: Mapping[int, Row], vnics: Mapping[int, str], rules: Mapping[int, str], *, hosts: bool
) -> flowapi.Record:
    """Tell one record in names; ``hosts``: whoever asks may know which hosts there are."""
    vm, peer = endpoints.get(row["vm"]), endpoints.get(row["peer"])
    at = moment(row["at"])
    return flowapi.Record(
        at=at, host=row["host"] if hosts else "", vnic=vnic_text(row["vnic"], vnics), vm=vm["path"] if vm else "", tenant=row["tenant"], scope=vm["scope"] if vm else "",
        network=row["network"], labels=dict(vm["labels"]) if vm else {}, peer=peer["path"] if peer else "", peer_labels=dict(peer["labels"]) if peer else {},
        local=str(unpack(row["local"])), remote=str(unpack(row["remote"])), local_port=row["local_port"], remote_port=row["remote_port"],
        protocol=protocol_text(row["protocol"]), service=service_text(row["protocol"], row["service"]), direction=direction_text(row["direction"]),
        verdict=verdict_text(row["verdict"]), staged=verdict_text(row["staged"]), reason=reason_text(row["reason"]), rule=rule_text(row, rules),
        identity=row["identity"], own_identity=row["own_identity"], begins=bool(row["event"] & Event.BEGINS), ends=bool(row["event"] & Event.ENDS),
        packets_out=row["packets_out"], packets_in=row["packets_in"], bytes_out=row["bytes_out"], bytes_in=row["bytes_in"],
        first=at - timedelta(milliseconds=row["age_ms"]), last=at - timedelta(milliseconds=row["idle_ms"]), flags_out=row["flags_out"], flags_in=row["flags_in"],
        rtt_us=row["rtt_us"], syn_repeats=row["syn_repeats"], unanswered=bool(row["unanswered"]), refused=bool(row["refused"]),
    )  # fmt: skip


def reason_text(number: int) -> str:
    """Name a reason."""
    return _named(Reason, number)


def reason_description(number: int) -> str:
    """Say what a reason means."""
    return Reason(number).description if number in _REASONS else "a reason that this controller does not know"


def sighting_text(number: int) -> str:
    """Name a kind of message."""
    return _named(Sighting, number)


def _named(kinds: type[enum.IntEnum], number: int) -> str:
    try:
        return kinds(number).name.lower()
    except ValueError:
        return str(number)


def direction_text(number: int) -> Literal["egress", "ingress"]:
    """Name a direction."""
    return _DIRECTIONS[number & 1]


def vnic_text(number: int, paths: Mapping[int, str]) -> str:
    """Name a vNIC; none is the one that nobody is known to have."""
    return paths.get(number, f"{number:#x}") if number else ""


def address_text(raw: bytes) -> str:
    """Write an address; none is ``::``."""
    return str(unpack(raw)) if any(raw) else ""


def series(rows: Sequence[Row], by: str, *, since: int, step: int, steps: int, most: int) -> list[flowapi.Series]:
    """Put the rows of a trend into lines, the largest first; beyond ``most`` they are one."""
    lines: dict[str, list[list[int]]] = {}
    for row in rows:
        at = (row["at"] - since) // step
        if 0 <= at < steps:
            line = lines.setdefault(_line(row, by), [[0] * steps for _ in range(3)])
            for place, what in enumerate(("bytes", "packets", "connections")):
                line[place][at] += row[what]
    ordered = sorted(lines.items(), key=lambda item: (-sum(item[1][0]), -sum(item[1][1]), item[0]))
    told = ordered[:most]
    if len(ordered) > most:
        rest = [[sum(line[place][at] for _, line in ordered[most:]) for at in range(steps)] for place in range(3)]
        told.append(("others", rest))
    return [flowapi.Series(name=name, bytes=line[0], packets=line[1], connections=line[2]) for name, line in told]


def _line(row: Row, by: str) -> str:
    match by:
        case "protocol":
            return protocol_text(row["protocol"])
        case "service":
            return service_text(row["protocol"], row["service"])
        case "verdict":
            return verdict_text(row["verdict"])
        case "direction":
            return direction_text(row["direction"])
        case _:
            return str(row["name"])
