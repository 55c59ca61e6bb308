"""What the engine answers about drops and sightings, against a plain look at all rows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from flow_oracle import Oracle
from flowing import Row, Traffic, address, traffic, with_store
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.counted import drops, reasons, sightings
from serai.analysis.traffic.statement import Clause, Statement
from serai.analysis.traffic.window import Window
from serai.flowstore.store import FlowStore
from serai.model.flow_record import Sighting
from serai.model.reasons import Reason
from serai.model.tenancy import Scope

SCOPES: list[Sequence[Scope] | None] = [None, [Scope("/acme")], [Scope("/acme/shop"), Scope("/globex")]]


def counted(made: Traffic) -> tuple[list[Row], list[Row]]:
    """Drops and sightings of the VMs of some traffic, and drops behind a tap that nobody is known to have."""
    rnd = random.Random(11)
    cards = sorted({(row["vnic"], row["vm"], row["tenant"]) for row in made.rows})
    dropped, seen = [], []
    for _ in range(600):
        vnic, vm, tenant = rnd.choice([*cards, (0, 0, "")])
        about = {
            "at": rnd.randrange(made.since, made.until + 1, 10), "vnic": vnic, "direction": rnd.randrange(2), "host": f"host-{rnd.randrange(3)}", "tenant": tenant, "vm": vm,
        }  # fmt: skip
        reason = rnd.choice([Reason.UNKNOWN_VNIC] if not vnic else [Reason.DENIED, Reason.FOREIGN_IP, Reason.NO_FLOW])
        dropped.append(about | {"reason": int(reason), "packets": rnd.randrange(1, 10**10)})
        if vnic:
            kind = rnd.choice([Sighting.ARP_REQUEST, Sighting.DHCP_DISCOVER, Sighting.DHCP_ACK])
            raw = bytes(16) if kind is Sighting.DHCP_DISCOVER else address(rnd.randrange(50))
            seen.append(about | {"kind": int(kind), "packets": rnd.randrange(1, 1000), "address": raw})
    # Of two rows of one moment nobody can say which was the last.
    return dropped, list({(row["at"], row["vnic"], row["kind"], row["direction"]): row for row in seen}.values())


_DROPS = pa.schema(
    {
        "at": pa.uint32(), "vnic": pa.uint64(), "direction": pa.uint8(), "reason": pa.uint8(), "packets": pa.uint64(), "host": pa.string(), "tenant": pa.string(),
        "vm": pa.uint64(),
    }
)  # fmt: skip
_SIGHTINGS = pa.schema(
    {
        "at": pa.uint32(), "vnic": pa.uint64(), "kind": pa.uint8(), "direction": pa.uint8(), "packets": pa.uint32(), "address": pa.binary(16), "host": pa.string(),
        "tenant": pa.string(), "vm": pa.uint64(),
    }
)  # fmt: skip


def grouped(rows: Iterable[Row], *keys: str) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def told(rows: Iterable[Row]) -> tuple[int, int, int]:
    mine = list(rows)
    return (sum(row["packets"] for row in mine), min(row["at"] for row in mine), max(row["at"] for row in mine))


def test_drops_and_sightings_are_summed_of_whom_it_is_asked(tmp_path: Path) -> None:
    made = traffic(5, conversations=60)
    dropped, seen = counted(made)
    windows = [
        Window(since=made.since - 1, until=made.until),
        Window(since=made.since + 1800, until=made.since + 7200),
    ]

    async def ask(store: FlowStore) -> None:
        for name, table in made.names().items():
            await store.insert(name, table)
        await store.insert("drops", pa.Table.from_pylist(dropped, _DROPS))
        await store.insert("sightings", pa.Table.from_pylist(seen, _SIGHTINGS))

        async def rows(statement: Statement) -> list[Row]:
            found: list[Row] = (await store.ask(statement.sql, statement.parameters)).to_pylist()
            return found

        for window in windows:
            for scopes in SCOPES:
                inside = Oracle(made, since=window.since, until=window.until, scopes=scopes).inside
                asked = Asked(window=window, scopes=scopes, seen=scopes, limit=1000)
                await _check_drops(rows, None, asked, [row for row in dropped if inside(row["vm"])])
            numbers = [number for number, end in made.endpoints.items() if end.path == "/acme/shop:web-1"]
            of = Clause(sql="{vms:Array(UInt64)}", parameters={"vms": numbers})
            asked = Asked(window=window, scopes=[Scope("/acme")], seen=None, limit=1000)
            await _check_drops(rows, of, asked, [row for row in dropped if row["vm"] in numbers])
            mine = [row for row in seen if row["vm"] in numbers and window.since < row["at"] <= window.until]
            found = await rows(sightings(of, asked))
            assert {(row["vnic"], row["kind"], row["direction"]): _line(row) for row in found} == {
                key: told(same) for key, same in grouped(mine, "vnic", "kind", "direction").items()
            }
            last = {
                key: max(same, key=lambda row: row["at"])
                for key, same in grouped(mine, "vnic", "kind", "direction").items()
            }
            assert {(row["vnic"], row["kind"], row["direction"]): row["address"] for row in found} == {
                key: row["address"] for key, row in last.items()
            }
            assert [row["kind"] for row in found if row["direction"] == 0] == sorted(
                {row["kind"] for row in mine if row["direction"] == 0}
            )
        few = await rows(drops(None, Asked(window=windows[0], limit=3)))
        assert len(few) == 3
        assert few[0]["rows"] == len(grouped(dropped, "host", "vnic", "direction", "reason"))

    with_store(tmp_path / "engine", ask)


async def _check_drops(rows: Callable[[Statement], Any], of: Clause | None, asked: Asked, mine: list[Row]) -> None:
    mine = [row for row in mine if asked.window.since < row["at"] <= asked.window.until]
    found = await rows(drops(of, asked))
    assert {(row["host"], row["vnic"], row["direction"], row["reason"]): _line(row) for row in found} == {
        key: told(same) for key, same in grouped(mine, "host", "vnic", "direction", "reason").items()
    }
    assert [row["packets"] for row in found] == sorted((row["packets"] for row in found), reverse=True)
    assert {(row["reason"],): (row["packets"], row["vnics"]) for row in await rows(reasons(of, asked))} == {
        key: (told(same)[0], len({row["vnic"] for row in same})) for key, same in grouped(mine, "reason").items()
    }


def _line(row: Row) -> tuple[int, int, int]:
    return row["packets"], row["first"], row["last"]
