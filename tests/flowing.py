"""Random traffic as it is kept: both ends tell their side, VMs change their labels, some is denied; and a real engine to ask."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from bench.flowstore import flow_store
from serai.analysis.register import Endpoint, endpoint_number
from serai.flowstore.store import FlowStore
from serai.model.flow_record import FLOW_COLUMNS, Kind
from serai.model.policy import RuleRef
from serai.model.tenancy import Scope, content_id

T = TypeVar("T")
Row = dict[str, Any]

DAY = 86400
_TYPES = {
    Kind.UINT8: pa.uint8(),
    Kind.UINT16: pa.uint16(),
    Kind.UINT32: pa.uint32(),
    Kind.UINT64: pa.uint64(),
    Kind.ADDRESS: pa.binary(16),
}
SCHEMA = pa.schema(
    [(name, _TYPES[column.kind]) for name, column in FLOW_COLUMNS.items()]
    + [
        ("host", pa.string()),
        ("tenant", pa.string()),
        ("network", pa.string()),
        ("vm", pa.uint64()),
        ("peer", pa.uint64()),
        ("abroad", pa.uint8()),
    ]
)
RULES = [RuleRef(f"/acme:shop/ingress/rule-{number}") for number in range(4)]


def with_store(directory: Path, ask: Callable[[FlowStore], Awaitable[T]]) -> T:
    """Do something with a store."""

    async def run() -> T:
        async with flow_store(directory) as store:
            return await ask(store)

    return asyncio.run(run())


def address(number: int) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes([10, 0, number >> 8, number & 255])


@dataclasses.dataclass
class Traffic:
    """What was recorded, row by row, and who was who."""

    rows: list[Row]
    endpoints: dict[int, Endpoint]
    since: int
    until: int

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, SCHEMA)

    def names(self) -> dict[str, pa.Table]:
        """The tables of names."""
        ends = [
            {
                "number": e.number,
                "path": e.path,
                "name": e.name,
                "tenant": e.tenant,
                "scope": str(e.scope),
                "labels": list(e.labels.items()),
                "since": self.since,
            }
            for e in self.endpoints.values()
        ]
        schema = pa.schema(
            {
                "number": pa.uint64(), "path": pa.string(), "name": pa.string(), "tenant": pa.string(), "scope": pa.string(),
                "labels": pa.map_(pa.string(), pa.string()), "since": pa.uint32(),
            }
        )  # fmt: skip
        vnics = {row["vnic"]: f"{self.endpoints[row['vm']].path}/nic0" for row in self.rows if row["vm"]}
        return {
            "endpoints": pa.Table.from_pylist(ends, schema),
            "vnics": pa.table({"vnic": pa.array(list(vnics), pa.uint64()), "path": list(vnics.values())}),
            "rules": pa.table(
                {"number": pa.array([rule.id for rule in RULES], pa.uint64()), "text": [rule.text for rule in RULES]}
            ),
        }


def traffic(seed: int, *, conversations: int = 400, seconds: int = 3 * 3600, until: int | None = None) -> Traffic:
    """Make traffic of three tenants (one of them the provider) and the world outside."""
    rnd = random.Random(seed)
    until = until or 1_795_564_800 + rnd.randrange(DAY) // 10 * 10
    since = until - seconds
    endpoints: dict[int, Endpoint] = {}
    vms: list[tuple[str, int, list[int]]] = []
    for at, path in enumerate(
        [
            "/acme/shop:web-1",
            "/acme/shop:web-2",
            "/acme/shop:db",
            "/acme/pay:web-1",
            "/acme:jump",
            "/globex:mail",
            "/globex/lab:one",
            "/:dns",
        ]
    ):
        numbers = []
        for version in range(rnd.choice([1, 1, 2])):
            labels = {"app": path.rpartition("/")[2].partition(":")[0], "tier": rnd.choice(["web", "db"])} | (
                {"v": str(version)} if version else {}
            )
            number = endpoint_number(path, labels)
            endpoints[number] = Endpoint(number=number, path=path, labels=labels)
            numbers.append(number)
        vms.append((path, at, numbers))
    rows: list[Row] = []
    for _ in range(conversations):
        source, target = rnd.choice([*vms, None]), rnd.choice([*vms, None])
        if source is target:
            continue
        protocol, service = rnd.choice([(6, 443), (6, 22), (17, 53), (6, 5432), (1, 8 << 8), (6, 50001)])
        verdict = rnd.choice([0, 0, 0, 0, 1, 2])
        common = {
            "at": rnd.randrange(since + 10, until, 10), "protocol": protocol, "service": service, "verdict": verdict, "staged": verdict, "reason": 3 if verdict else 0,
            "rule": rnd.choice(RULES).id, "event": rnd.choice([0, 1, 2, 3]), "age_ms": rnd.randrange(60_000), "idle_ms": rnd.randrange(9000),
        }  # fmt: skip
        there, back = (
            (rnd.randrange(1, 100_000), rnd.randrange(100_000)) if verdict != 1 else (rnd.randrange(1, 2000), 0)
        )
        port = rnd.randrange(1024, 65535) if verdict != 1 else 0
        tellers = [side for side in (0, 1) if (source, target)[side] is not None]
        sides = tellers if verdict != 1 else tellers[-1:]
        rows += [_told(rnd, side, (source, target), common | {"port": port}, (there, back)) for side in sides]
    return Traffic(rows=rows, endpoints=endpoints, since=since, until=until)


def _told(rnd: random.Random, side: int, between: tuple[Any, Any], common: Row, sizes: tuple[int, int]) -> Row:
    common = dict(common)
    port = common.pop("port")
    near, far = between if side == 0 else between[::-1]
    out, into = sizes if side == 0 else sizes[::-1]
    ends = (port, common["service"]) if side == 0 else (common["service"], port)
    tenant = Scope(near[0].rpartition(":")[0]).tenant or ""
    far_tenant = (Scope(far[0].rpartition(":")[0]).tenant or "") if far else ""
    return common | {
        "vnic": content_id("vnic", near[0]), "direction": side, "local": address(near[1] + 1), "remote": address(far[1] + 1 if far else 1000 + rnd.randrange(3)),
        "local_port": ends[0] if port else 0, "remote_port": ends[1] if port else 0, "own_identity": near[1], "identity": far[1] if far else 0,
        "packets_out": out // 100, "packets_in": into // 100, "bytes_out": out, "bytes_in": into, "connections": common["event"] & 1,
        "flags_out": 0x1B, "flags_in": 0x1B, "rtt_us": rnd.randrange(1000), "syn_repeats": 0, "unanswered": 0, "refused": 0,
        "host": f"host-{near[1] % 3}", "tenant": tenant, "network": f"/{tenant}:front" if tenant else "/:front", "vm": rnd.choice(near[2]),
        "peer": rnd.choice(far[2]) if far else 0, "abroad": int(bool(far) and far_tenant != tenant),
    }  # fmt: skip
