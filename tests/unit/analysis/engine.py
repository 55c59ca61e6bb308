"""ClickHouse in a process of its own: it starts threads, and other tests fork. Also the tables as the flow store has them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from filters import ADDRESSES, KEYS, LABELS, ODD, RULES, SCOPES, VMS

from serai.analysis.filter import Inventory
from serai.model import address
from serai.model.flow_record import FLOW_COLUMNS, Kind
from serai.model.reasons import Reason
from serai.model.tenancy import Scope

TYPES = {
    Kind.UINT8: ("UInt8", pa.uint8()), Kind.UINT16: ("UInt16", pa.uint16()), Kind.UINT32: ("UInt32", pa.uint32()),
    Kind.UINT64: ("UInt64", pa.uint64()), Kind.ADDRESS: ("IPv6", pa.binary(16)),
}  # fmt: skip
NAMED = {
    "host": ("LowCardinality(String)", pa.string()), "tenant": ("LowCardinality(String)", pa.string()),
    "network": ("LowCardinality(String)", pa.string()), "vm": ("UInt64", pa.uint64()), "peer": ("UInt64", pa.uint64()),
}  # fmt: skip
COLUMNS = {name: TYPES[column.kind] for name, column in FLOW_COLUMNS.items()} | NAMED | {"row": ("UInt32", pa.uint32())}
"""Of the table ``flows``, and a number for each row."""
TABLES = {
    "endpoints": "number UInt64, path String, name String, tenant String, scope String, labels Map(String, String), since DateTime('UTC')",
    "vnics": "vnic UInt64, path String",
    "rules": "number UInt64, text String",
}
CONVERSIONS = [
    (6, 443),
    (6, 22),
    (17, 53),
    (132, 80),
    (1, 8 << 8),
    (58, 128 << 8),
    (1, 0),
    (47, 0),
    (0, 0),
    (6, 0),
    (6, 50000),
    (6, 8050),
    (17, 65535),
    (1, 443),
]
"""Protocols and services."""


class Engine:
    """One session of the engine, told by lines of JSON."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[str]:
        """Return the lines of the answer."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps([sql, dict(parameters or {})]) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["text"].splitlines()

    def close(self) -> None:
        self._child.communicate(timeout=60)

    def fill(self, directory: Path, records: pa.Table, inventory: Inventory) -> None:
        """Make the tables."""
        structure = ", ".join(f"{name} {clickhouse}" for name, (clickhouse, _) in COLUMNS.items())
        self.ask(f"CREATE TABLE flows ({structure}) ENGINE = MergeTree ORDER BY row")
        for table, columns in TABLES.items():
            self.ask(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
        path = directory / "records.arrow"
        with pa.ipc.new_file(str(path), records.schema) as file:
            file.write_table(records)
        self.ask(f"INSERT INTO flows SELECT * FROM file('{path}', 'Arrow', '{structure}')")  # noqa: S608 - of this file
        rows = {
            "endpoints": [{"number": n, **known, "since": 0} for n, known in inventory.endpoints.items()],
            "vnics": [{"vnic": number, "path": path} for number, path in inventory.vnics.items()],
            "rules": [{"number": number, "text": text} for number, text in inventory.rules.items()],
        }
        for table, told in rows.items():
            path = directory / f"{table}.json"
            path.write_text("\n".join(json.dumps(row) for row in told))
            self.ask(f"INSERT INTO {table} SELECT * FROM file('{path}', 'JSONEachRow', $${TABLES[table]}$$)")  # noqa: S608 - likewise


def random_inventory(rng: random.Random) -> Inventory:
    """VMs in all scopes, some of them twice, with other labels."""
    endpoints: dict[int, dict[str, Any]] = {}
    for number in range(1, 40):
        scope, name = Scope(rng.choice(SCOPES)), rng.choice(VMS)
        labels = {key: rng.choice(LABELS + ODD) for key in KEYS if rng.random() < 0.6}
        endpoints[number] = {
            "path": f"{scope}:{name}",
            "name": name,
            "tenant": scope.tenant or "",
            "scope": scope,
            "labels": labels,
        }
    vnics = {number: f"{vm['path']}/nic{number % 2}" for number, vm in endpoints.items()}
    vnics[2**64 - 1] = "/acme/shop:web-1/nic0"
    return Inventory(endpoints=endpoints, vnics=vnics, rules=dict(enumerate(RULES, 1)))


def random_records(rng: random.Random, count: int) -> pa.Table:
    """Records, also such as no gate would make."""
    rows = [_record(rng, number) for number in range(count)]
    schema = pa.schema([(name, arrow) for name, (_, arrow) in COLUMNS.items()])
    return pa.Table.from_pylist(rows, schema=schema)


def _record(rng: random.Random, number: int) -> dict[str, object]:
    protocol, service = rng.choice(CONVERSIONS)
    few = [0, 0, 1, 60, 1000, 1500, 10**6, 3 * 10**9]
    return {
        "at": 1_700_000_000 + number, "vnic": rng.choice([*range(42), 2**64 - 1]), "event": rng.randrange(4),
        "direction": rng.randrange(2), "protocol": protocol, "local": _address(rng), "remote": _address(rng),
        "local_port": rng.choice([0, 1, 22, 443, 8000, 50000, 65535]), "remote_port": rng.choice([0, 1, 80, 443, 49152]),
        "service": service, "own_identity": 1, "identity": 2, "verdict": rng.randrange(3), "staged": rng.randrange(3),
        "reason": rng.choice(list(Reason)), "rule": rng.randrange(len(RULES) + 2), "packets_out": rng.choice(few),
        "packets_in": rng.choice(few), "bytes_out": rng.choice(few), "bytes_in": rng.choice(few),
        "connections": rng.randrange(2), "age_ms": rng.choice([0, 1, 10, 2500, 60_000, 86_400_000]),
        "idle_ms": 0, "flags_out": 0, "flags_in": 0, "rtt_us": rng.choice([0, 0, 1, 899, 900, 10_000]), "syn_repeats": 0,
        "unanswered": rng.randrange(2), "refused": rng.randrange(2), "host": rng.choice(["h1", "h2", *ODD]),
        "tenant": rng.choice(["", "acme", "globex"]), "network": rng.choice(["", "/acme:front", "/acme:back", "/globex:front"]),
        "vm": rng.randrange(42), "peer": rng.choice([0, *range(42)]), "row": number,
    }  # fmt: skip


def _address(rng: random.Random) -> bytes:
    return address.pack(address.parse(rng.choice(ADDRESSES)))


def _serve() -> None:
    from chdb.session import Session  # noqa: PLC0415 - in this process only

    session = Session()
    for line in sys.stdin:
        sql, parameters = json.loads(line)
        try:
            answer = {"text": session.query(sql, "TSV", params=parameters).bytes().decode()}
        except RuntimeError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - to whoever started it


if __name__ == "__main__":
    _serve()
