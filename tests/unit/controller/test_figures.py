"""Figures of traffic, as Prometheus reads them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from flowing import traffic
from serai.controller.figures import _of_traffic
from serai.controller.traffic.totals import Totals
from serai.flowstore.exporter import Told
from serai.model.key import Key


def read(totals: Totals, exported: dict[str, Told]) -> dict[tuple[str, str], float]:
    """What is told, by name and by the value of the one label."""
    kept: Any = SimpleNamespace(intake=SimpleNamespace(totals=totals), exported=exported)
    families = list(text_string_to_metric_families(_of_traffic(kept).decode()))
    assert {family.type for family in families} == {"counter"}
    return {
        (sample.name, next(iter(sample.labels.values()))): sample.value for family in families for sample in family.samples
    }  # fmt: skip


def test_counters_are_what_a_recount_says() -> None:
    made, totals = traffic(5), Totals()
    batch = {"host": "a", "records": 5, "lost_ring": 1, "lost_forgotten": 2, "lost_spool": 4}
    tables = {"batches": made.table().slice(0, 0).from_pylist([batch]), "flows": made.table()}
    totals.add(tables)
    totals.add(tables)
    found = read(totals, {'file:///a"b\\c': Told(sent=3, dropped=4)})
    assert found["serai_flow_records_total", "a"] == 10
    assert found["serai_flow_records_lost_total", "a"] == 14
    assert found["serai_export_records_total", 'file:///a"b\\c'] == 3
    assert found["serai_export_records_dropped_total", 'file:///a"b\\c'] == 4
    for tenant in {row["tenant"] for row in made.rows}:
        rows = [row for row in made.rows if row["tenant"] == tenant]
        expected = {
            "bytes": sum(row["bytes_out"] + row["bytes_in"] for row in rows),
            "packets": sum(row["packets_out"] + row["packets_in"] for row in rows),
            "connections": sum(row["connections"] for row in rows),
            "denied_packets": sum(row["packets_out"] + row["packets_in"] for row in rows if row["verdict"] == 1),
        }
        for name, count in expected.items():
            assert found[f"serai_traffic_{name}_total", tenant or "(provider)"] == 2 * count


def test_what_the_inventory_no_longer_has_is_forgotten() -> None:
    made, totals = traffic(5), Totals()
    batches = [{"host": host, "records": 5, "lost_ring": 1, "lost_forgotten": 2, "lost_spool": 4} for host in "ab"]
    tables = {"batches": made.table().slice(0, 0).from_pylist(batches), "flows": made.table()}
    assert {row["tenant"] for row in made.rows} == {"", "acme", "globex"}
    acme, globex, a = Key("Tenant", "acme"), Key("Tenant", "globex"), Key("Host", "a")
    totals.keep({acme, globex, a})
    totals.add(tables)
    totals.keep({acme, globex, a})
    assert [host for host, *_ in totals.hosts()] == ["a", "b"]
    assert [tenant for tenant, *_ in totals.tenants()] == ["", "acme", "globex"]
    totals.keep({acme})
    assert [host for host, *_ in totals.hosts()] == ["b"]  # it has joined, and nobody has written it down
    assert [tenant for tenant, *_ in totals.tenants()] == ["", "acme"]
    before = dict(read(totals, {}))
    totals.add(tables)
    found = read(totals, {})
    assert found["serai_flow_records_total", "a"] == 5
    assert found["serai_traffic_bytes_total", "acme"] == 2 * before["serai_traffic_bytes_total", "acme"]
    totals.keep({acme, a})
    assert [tenant for tenant, *_ in totals.tenants()] == ["", "acme"]  # what came late is forgotten again


def test_every_counter_is_described() -> None:
    page = (Path(__file__).parents[3] / "docs/EXPORT.md").read_text()
    kept: Any = SimpleNamespace(intake=SimpleNamespace(totals=Totals()), exported={})
    told = re.findall(r"^# TYPE (\S+) counter$", _of_traffic(kept).decode(), re.MULTILINE)
    assert re.findall(r"^\| `(serai_\w+)` \|", page, re.MULTILINE) == told


def test_a_scrape_of_many_tenants_has_no_more_than_it_must() -> None:
    totals = Totals()
    for number in range(1000):
        totals._tenants[f"tenant-{number}"] = [number] * 4
    assert len(read(totals, {})) == 4000
