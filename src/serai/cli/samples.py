"""How samples of dropped packets are shown."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from serai.analysis.naming import service_text
from serai.model.address import Address
from serai.model.flow import UNREAD, DropSample
from serai.model.policy import Direction
from serai.wire import local


def sample_table(reply: local.SamplesReply) -> Table:
    """Lay samples out for a person, the latest last."""
    table = Table(box=None, pad_edge=False)
    for heading in ("AGE", "VNIC", "FROM", "TO", "WHAT", "VERDICT", "REASON", "RULE"):
        table.add_column(heading, justify="right" if heading == "AGE" else "left", overflow="fold")
    rules = {number: text for text, number in reply.rules.items()}
    for sample in reply.samples:
        source, target = _ends(sample)
        verdict = Text("observed", "yellow") if sample.observed else Text("dropped", "red")
        table.add_row(
            f"{sample.age_seconds:.1f} s",
            _vnic(sample, reply),
            source,
            target,
            _what(sample),
            verdict,
            sample.reason.name.lower(),
            rules.get(sample.rule, "-"),
        )
    return table


def sample_fields(reply: local.SamplesReply) -> list[dict[str, object]]:
    """The same for a program."""
    rules = {number: text for text, number in reply.rules.items()}
    return [
        {
            "ageSeconds": sample.age_seconds,
            "vnic": reply.vnics.get(str(sample.vnic)),
            "direction": str(sample.direction),
            "local": str(sample.local),
            "localPort": sample.local_port,
            "remote": str(sample.remote),
            "remotePort": sample.remote_port,
            "protocol": sample.protocol,
            "service": sample.port,
            "bytes": sample.length,
            "observed": sample.observed,
            "reason": sample.reason.name.lower(),
            "rule": rules.get(sample.rule),
        }
        for sample in reply.samples
    ]


def _vnic(sample: DropSample, reply: local.SamplesReply) -> str:
    return reply.vnics.get(str(sample.vnic), "-" if sample.vnic else "nobody is known behind this tap")


def _ends(sample: DropSample) -> tuple[str, str]:
    here = _end(sample.local, sample.local_port)
    there = _end(sample.remote, sample.remote_port)
    return (here, there) if sample.direction is Direction.EGRESS else (there, here)


def _end(address: Address, port: int) -> str:
    if address == UNREAD:
        return "-"
    text = f"[{address}]" if port and address.version == 6 else str(address)  # noqa: PLR2004  # the IP version
    return f"{text}:{port}" if port else text


def _what(sample: DropSample) -> str:
    named = service_text(sample.protocol, sample.port) if sample.protocol else "no IP"
    return f"{named}, {sample.length} bytes"
