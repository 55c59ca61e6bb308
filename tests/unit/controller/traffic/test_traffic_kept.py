"""A real controller and a real engine: what hosts tell is kept, named, and answered to whoever may see it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.config import Config
from serai.controller.errors import ForbiddenError, InvalidError, NotFoundError
from serai.controller.main import Running, controller
from serai.controller.traffic import learning
from serai.controller.traffic.asking import Span
from serai.controller.traffic.config import FlowSettings
from serai.flowstore.exporter import ExportSettings
from serai.model.address import pack
from serai.model.flow_record import DROP_COLUMNS, FLOW_COLUMNS, SIGHTING_COLUMNS, Column, Sighting, layout
from serai.model.inventory import vnic_id
from serai.model.policy import RuleRef
from serai.model.reasons import Reason
from serai.model.tenancy import ROOT, Scope
from serai.wire import api, flowapi
from serai.wire.records import encode
from serai.wire.remote import FromController, Losses, Records, Taken

ADMIN = Caller(name="admin", grants=(Grant(Role.SECURITY_ADMIN, ROOT),))
ACME = Caller(name="ann", grants=(Grant(Role.VIEWER, Scope("/acme")),))
SHOP = Caller(name="sue", grants=(Grant(Role.VIEWER, Scope("/acme/shop")),))
NOBODY = Caller(name="eve", grants=())
SPOOL = "0123456789abcdef"
RULE = "/acme:shop/ingress/web"


def _vm(scope: str, name: str, number: int, tier: str) -> str:
    return (
        f"kind: VirtualMachine\nmetadata: {{name: {name}, scope: {scope}}}\nspec: {{host: a, labels: {{tier: {tier}}}, vnics: "
        f'[{{name: nic0, network: "/:shared", mac: "52:54:00:00:00:0{number}", addresses: [10.0.0.{number}]}}]}}'
    )


def world(tier: str = "web") -> str:
    parts = [
        "kind: Tenant\nmetadata: {name: acme}\nspec: {applications: [{name: shop}, {name: pay}]}",
        "kind: Tenant\nmetadata: {name: globex}",
        "kind: Host\nmetadata: {name: a}",
    ]
    parts.append("kind: Network\nmetadata: {name: shared, scope: /}\nspec: {subnets: [10.0.0.0/24]}")
    parts += [_vm("/acme/shop", "web", 1, tier), _vm("/acme/pay", "db", 2, "db"), _vm("/globex", "mail", 3, "mail")]
    return "\n---\n".join(f"apiVersion: serai.dev/v1\n{part}\n" for part in parts)


VMS = {1: ("/acme/shop", "web"), 2: ("/acme/pay", "db"), 3: ("/globex", "mail")}


def row(
    near: int,
    far: int,
    *,
    direction: int = 0,
    port: int = 443,
    out: int = 1000,
    into: int = 500,
    verdict: int = 0,
    at: int = 0,
) -> dict[str, Any]:
    scope, name = VMS[near]
    return {
        "at": at, "vnic": vnic_id(Scope(scope), name, "nic0"), "event": 3, "direction": direction, "protocol": 6, "local": np.void(_raw(near)), "remote": np.void(_raw(far)),
        "local_port": 50_000 if direction == 0 else port, "remote_port": port if direction == 0 else 50_000, "service": port, "verdict": verdict, "reason": 3 if verdict else 0,
        "rule": RuleRef(RULE).id, "packets_out": 2, "packets_in": 1, "bytes_out": out, "bytes_in": into, "connections": 1, "age_ms": 3000, "idle_ms": 100,
    }  # fmt: skip


def _raw(number: int) -> bytes:
    return pack(IPv4Address(f"10.0.0.{number}"))


def batch(
    number: int,
    rows: Iterable[dict[str, Any]],
    *,
    at: float,
    lost: int = 0,
    raw: bytes | None = None,
    **beside: list[dict[str, Any]],
) -> Records:
    told = list(rows)
    return Records(
        spool=SPOOL, number=number, since=at - 10, until=at, records=len(told), flows=_encoded(told, FLOW_COLUMNS, at) if raw is None else raw, rules=[RULE],
        lost=Losses(ring=lost), drops=_encoded(beside.get("drops", []), DROP_COLUMNS, at), sightings=_encoded(beside.get("sightings", []), SIGHTING_COLUMNS, at),
    )  # fmt: skip


def _encoded(rows: list[dict[str, Any]], columns: Mapping[str, Column], at: float) -> bytes:
    made = np.zeros(len(rows), layout(columns))
    for place, each in enumerate(rows):
        for name, value in (each | {"at": int(at)}).items():
            made[name][place] = value
    return encode(made, columns)


class Hearing:
    """What a host is told."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []

    def __call__(self, host: str, message: FromController) -> None:
        assert isinstance(message, Taken)
        self.taken.append((host, message.number))


def config(directory: Path, **more: Any) -> Config:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    return Config(
        database=f"sqlite:///{directory}/serai.db", keys=directory / "keys", names=["localhost"], address="127.0.0.1", port=ports[0], agents_port=ports[1],
        client=directory / "client.toml", flows=FlowSettings(directory=directory / "flows", **more),
    )  # fmt: skip


@asynccontextmanager
async def running(directory: Path, **more: Any) -> AsyncIterator[tuple[Running, Hearing]]:
    async with controller(config(directory, **more)) as made:
        hearing = Hearing()
        made.traffic.serve(hearing)
        if not await made.store.revisions.head():
            await made.service.apply(ADMIN, api.ChangeRequest(files={"base.yaml": world()}))
        yield made, hearing


async def until(holds: Any, what: str, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert holds(), what


async def kept(made: Running, hearing: Hearing, host: str, *batches: Records) -> None:
    """Let a host tell, and wait until the engine has it."""
    for each in batches:
        made.traffic.records(host, each)
    await until(lambda: any(told[0] == host and told[1] >= batches[-1].number for told in hearing.taken), "it is taken")
    await until(lambda: made.traffic.intake.settled, "it is in the engine")


def span(narrowed: str = "", *, now: float | None = None) -> Span:
    end = datetime.fromtimestamp(now, UTC) if now else datetime.now(UTC)
    return Span(since=end - timedelta(minutes=30), until=end + timedelta(seconds=1), narrowed=narrowed)


def moment() -> float:
    return datetime.now(UTC).timestamp() // 10 * 10 - 60


def test_what_a_host_tells_is_kept_and_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            at = moment()
            await kept(
                made,
                hearing,
                "a",
                batch(
                    1,
                    [row(1, 2), row(2, 1, direction=1, out=500, into=1000), row(1, 9, port=53), row(3, 1, verdict=1)],
                    at=at,
                ),
            )
            page = await made.service.flows(ADMIN, span(), limit=100, after=None)
            told = {
                (each.vm, each.peer, each.remote, each.service, each.verdict, each.rule, each.host, each.network)
                for each in page.records
            }
            assert told == {
                ("/acme/shop:web", "/acme/pay:db", "10.0.0.2", "tcp/443", "accepted", RULE, "a", "/:shared"),
                ("/acme/pay:db", "/acme/shop:web", "10.0.0.1", "tcp/443", "accepted", RULE, "a", "/:shared"),
                ("/acme/shop:web", "", "10.0.0.9", "tcp/53", "accepted", RULE, "a", "/:shared"),
                ("/globex:mail", "/acme/shop:web", "10.0.0.1", "tcp/443", "denied", RULE, "a", "/:shared"),
            }
            assert {each.vnic for each in page.records} == {
                "/acme/shop:web/nic0",
                "/acme/pay:db/nic0",
                "/globex:mail/nic0",
            }
            assert page.completeness.percent == 100.0
            assert page.completeness.records == 4
            pairs = await made.service.top(ADMIN, span(), by="pairs", group="vm", limit=10)
            assert [(list(each.names), each.bytes) for each in pairs.rows] == [
                (["/acme/shop:web", "/acme/pay:db"], 1500),
                (["/acme/shop:web", "10.0.0.9"], 1500),
            ]

    asyncio.run(test())


def test_people_see_what_they_may(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            at = moment()
            rows = [row(1, 2), row(2, 1, direction=1), row(3, 1, port=25), row(1, 3, direction=1, port=25), row(3, 9)]
            await kept(made, hearing, "a", batch(1, rows, at=at))
            seen = await made.service.flows(ACME, span(), limit=100, after=None)
            assert {(each.vm, each.peer) for each in seen.records} == {
                ("/acme/shop:web", "/acme/pay:db"),
                ("/acme/pay:db", "/acme/shop:web"),
                ("/acme/shop:web", ""),
            }
            assert "globex" not in repr(seen.records)
            only = await made.service.flows(SHOP, span(), limit=100, after=None)
            assert {each.vm for each in only.records} == {"/acme/shop:web"}
            pairs = await made.service.top(ACME, span(), by="pairs", group="vm", limit=10)
            assert {tuple(each.names) for each in pairs.rows} == {
                ("/acme/shop:web", "/acme/pay:db"),
                ("(elsewhere)", "/acme/shop:web"),
            }
            drawn = await made.service.service_map(SHOP, span(), scope="/", group="scope", depth=0, limit=10)
            assert {(each.source, each.target) for each in drawn.edges} == {
                ("/acme/shop", "(elsewhere)"),
                ("(elsewhere)", "/acme/shop"),
            }
            assert (await made.service.spoke(SHOP, span(), vm="web", limit=10)).vm == "/acme/shop:web"
            assert not seen.completeness.silent
            for hidden in ("mail", "/globex:mail", "db"):
                with pytest.raises(NotFoundError):
                    await made.service.spoke(SHOP, span(), vm=hidden, limit=10)
            with pytest.raises(ForbiddenError):
                await made.service.service_map(ACME, span(), scope="/globex", group="vm", depth=0, limit=10)
            with pytest.raises(ForbiddenError):
                await made.service.flows(NOBODY, span(), limit=10, after=None)

    asyncio.run(test())


def card(number: int) -> int:
    return vnic_id(Scope(VMS[number][0]), VMS[number][1], "nic0")


def test_drops_and_sightings_are_answered_to_whom_they_concern(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            drops = [
                {"vnic": card(1), "direction": 0, "reason": Reason.FOREIGN_IP, "packets": 5},
                {"vnic": card(1), "direction": 1, "reason": Reason.DENIED, "packets": 70},
                {"vnic": card(3), "direction": 0, "reason": Reason.FOREIGN_IP, "packets": 9},
                {"vnic": 0, "direction": 0, "reason": Reason.UNKNOWN_VNIC, "packets": 1},
            ]
            seen = [
                {
                    "vnic": card(1),
                    "kind": Sighting.DHCP_OFFER,
                    "direction": 1,
                    "packets": 2,
                    "address": np.void(_raw(1)),
                },
                {"vnic": card(1), "kind": Sighting.DHCP_DISCOVER, "direction": 0, "packets": 3},
                {
                    "vnic": card(2),
                    "kind": Sighting.ARP_REQUEST,
                    "direction": 0,
                    "packets": 4,
                    "address": np.void(_raw(1)),
                },
            ]
            await kept(made, hearing, "a", batch(1, [row(1, 2)], at=moment(), drops=drops, sightings=seen))
            whole = await made.service.drops(ADMIN, span(), of="/", limit=10)
            assert [(each.reason, each.packets, each.vnics) for each in whole.reasons] == [
                ("denied", 70, 1),
                ("foreign_ip", 14, 2),
                ("unknown_vnic", 1, 1),
            ]
            assert whole.reasons[1].description == Reason.FOREIGN_IP.description
            assert [(each.host, each.vnic, each.direction, each.reason, each.packets) for each in whole.rows] == [
                ("a", "/acme/shop:web/nic0", "ingress", "denied", 70), ("a", "/globex:mail/nic0", "egress", "foreign_ip", 9), ("a", "/acme/shop:web/nic0", "egress", "foreign_ip", 5),
                ("a", "", "egress", "unknown_vnic", 1),
            ]  # fmt: skip
            assert (whole.packets, whole.completeness.records) == (85, 1)
            mine = await made.service.drops(ACME, span(), of="/", limit=1)
            assert [(each.reason, each.packets) for each in mine.reasons] == [("denied", 70), ("foreign_ip", 5)]
            assert [(each.host, each.vnic) for each in mine.rows] == [("", "/acme/shop:web/nic0")]
            assert (mine.more, mine.packets) == (1, 75)
            assert (await made.service.drops(ACME, span(), of="web", limit=9)).of == "/acme/shop:web"
            assert (await made.service.drops(ADMIN, span(), of="/acme/pay", limit=9)).rows == []
            links = await made.service.sightings(SHOP, span(), vm="web")
            assert [(each.vnic, each.kind, each.direction, each.packets, each.address) for each in links.rows] == [
                ("/acme/shop:web/nic0", "dhcp_discover", "egress", 3, ""),
                ("/acme/shop:web/nic0", "dhcp_offer", "ingress", 2, "10.0.0.1"),
            ]
            with pytest.raises(ForbiddenError):
                await made.service.drops(ACME, span(), of="/globex", limit=9)
            for hidden in (
                made.service.drops(SHOP, span(), of="db", limit=9),
                made.service.sightings(SHOP, span(), vm="db"),
            ):
                with pytest.raises(NotFoundError):
                    await hidden

    asyncio.run(test())


def test_hosts_are_told_to_whom_may_see_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            await kept(made, hearing, "a", batch(1, [row(1, 2), row(3, 9)], at=moment()))
            await kept(made, hearing, "b", batch(1, [row(2, 9, out=70)], at=moment()))
            by = await made.service.top(ADMIN, span(), by="talkers", group="host", limit=10)
            assert [(each.names[0], each.bytes) for each in by.rows] == [("a", 2000), ("b", 70)]
            assert list(by.headings) == ["sent by (host)"]
            nets = await made.service.top(ACME, span(), by="listeners", group="network", limit=10)
            assert [(each.names[0], each.bytes) for each in nets.rows] == [("/:shared", 1000)]
            narrowed = await made.service.flows(ADMIN, span("not (vm=mail or host=a)"), limit=10, after=None)
            assert [each.host for each in narrowed.records] == ["b"]
            assert {each.host for each in (await made.service.flows(ACME, span(), limit=10, after=None)).records} == {
                ""
            }
            with pytest.raises(ForbiddenError):
                await made.service.top(ACME, span(), by="talkers", group="host", limit=10)
            with pytest.raises(ForbiddenError):
                await made.service.flows(ACME, span("not (vm=mail or host=a)"), limit=10, after=None)
            with pytest.raises(InvalidError, match="a record tells the host of one end only"):
                await made.service.top(ADMIN, span(), by="pairs", group="host", limit=10)
            with pytest.raises(InvalidError, match="a record tells the network of one end only"):
                await made.service.service_map(ADMIN, span(), scope="/", group="network", depth=0, limit=10)

    asyncio.run(test())


@pytest.mark.parametrize("much", [1, 1000], ids=["elsewhere", "here"])
def test_policies_come_from_traffic_and_are_tried_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, much: int
) -> None:
    monkeypatch.setattr(learning, "_MUCH", much)

    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            rows = [row(1, 2), row(3, 2, port=25), row(2, 3, direction=1, port=25), row(2, 9, port=53)]
            await kept(made, hearing, "a", batch(1, rows, at=moment()))
            times = {"since": span().since, "until": span().until}
            found = await made.service.suggest(ADMIN, flowapi.SuggestRequest(scope="/acme", **times))
            assert (found.conversations, found.completeness.records) == (3, 4)
            assert "from: [{scope: /globex}]\n      ports: [tcp/25]" in found.yaml
            assert found.ungoverned == {"ingress": ("/acme/shop:web",)}
            assert "# ingress of 1 VM is not governed" in found.yaml
            mine = await made.service.suggest(SHOP, flowapi.SuggestRequest(scope="/acme/shop", **times))
            assert mine.conversations == 0
            assert "1 kinds of conversations with VMs that you may not see are left out" in mine.notes
            suggested = {"base.yaml": world(), "suggested.yaml": found.yaml}
            tried = await made.service.whatif(ADMIN, flowapi.WhatIfRequest(files=suggested, **times))
            assert (tried.conversations, tried.more) == (3, 0)
            assert {(each.change, each.source, each.target) for each in tried.rows} == {
                ("allowed", "/acme/shop:web", "/acme/pay:db"),
                ("allowed", "/globex:mail", "/acme/pay:db"),
            }

    asyncio.run(test())


def test_names_and_labels_are_those_of_that_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            await kept(made, hearing, "a", batch(1, [row(1, 2)], at=moment()))
            await made.service.apply(ADMIN, api.ChangeRequest(files={"base.yaml": world("edge")}))
            await kept(made, hearing, "a", batch(2, [row(1, 2, out=7)], at=datetime.now(UTC).timestamp()))
            by = await made.service.top(ADMIN, span(), by="talkers", group="label:tier", limit=10)
            assert {each.names[0]: each.bytes for each in by.rows} == {"web": 1000, "edge": 7}
            whole = await made.service.top(ADMIN, span(), by="talkers", group="vm", limit=10)
            assert {each.names[0]: each.bytes for each in whole.rows} == {"/acme/shop:web": 1007}

    asyncio.run(test())


def test_a_batch_that_comes_again_is_known_also_by_the_next_controller(tmp_path: Path) -> None:
    async def test() -> None:
        first, second = batch(1, [row(1, 2)], at=moment()), batch(2, [row(1, 2)], at=moment() + 10)
        async with running(tmp_path) as (made, hearing):
            await kept(made, hearing, "a", first, first)
        async with running(tmp_path) as (made, hearing):
            await kept(made, hearing, "a", first, second, second)
            page = await made.service.flows(ADMIN, span(), limit=10, after=None)
            assert len(page.records) == 2
            assert page.completeness.records == 2

    asyncio.run(test())


def test_the_engine_dies_and_nothing_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            await until(lambda: made.traffic.ready, "it is ready")
            for number in range(1, 6):
                made.traffic.records("a", batch(number, [row(1, 2)], at=moment() + number))
                if number == 3:
                    mine = ["pgrep", "-P", str(os.getpid()), "-f", "serai.flowstore.engine"]
                    os.kill(int(subprocess.run(mine, capture_output=True, check=True).stdout), signal.SIGKILL)  # noqa: ASYNC221
                await asyncio.sleep(0.4)
            await until(lambda: ("a", 5) in hearing.taken, "it is taken", 60)
            await until(lambda: made.traffic.ready and made.traffic.intake.settled, "it is in the engine", 60)
            page = await made.service.flows(ADMIN, span(), limit=100, after=None)
            assert len(page.records) == 5
            assert made.traffic.trouble == ""

    asyncio.run(test())


def test_what_cannot_be_read_is_told_as_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            good = batch(1, [row(1, 2)] * 3, at=moment(), lost=1)
            broken = batch(2, [row(1, 2)] * 4, at=moment() + 10, raw=b"nonsense")
            await kept(made, hearing, "a", good, broken)
            told = (await made.service.flows(ADMIN, span(), limit=10, after=None)).completeness
            assert (told.records, told.lost, told.percent) == (3, 5, 37.5)
            assert "37.5 % of 3 records" in told.sentence()

    asyncio.run(test())


def test_a_silent_host_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, hearing):
            now = datetime.now(UTC).timestamp()
            await kept(
                made, hearing, "a", *(batch(number, [row(1, 2)], at=now - 200 + 10 * number) for number in range(1, 6))
            )
            await kept(
                made, hearing, "b", *(batch(number, [row(2, 1)], at=now - 200 + 10 * number) for number in range(1, 20))
            )
            told = (
                await made.service.top(
                    ADMIN,
                    Span(since=datetime.fromtimestamp(now - 190, UTC), until=datetime.fromtimestamp(now, UTC)),
                    by="talkers",
                    group="vm",
                    limit=5,
                )
            ).completeness
            assert [each.host for each in told.silent] == ["a"]
            assert abs((told.silent[0].since - datetime.fromtimestamp(now - 150, UTC)).total_seconds()) < 1

    asyncio.run(test())


def test_bad_questions_get_one_sentence(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (made, _):
            await until(lambda: made.traffic.ready, "it is ready")
            with pytest.raises(InvalidError, match=r"there is no field 'dprot'"):
                await made.service.flows(ADMIN, span("vm=web and dprot=1"), limit=1, after=None)
            with pytest.raises(InvalidError, match="no place in a list"):
                await made.service.flows(ADMIN, span(), limit=1, after="x")
            with pytest.raises(InvalidError, match="not grouped by"):
                await made.service.top(ADMIN, span(), by="talkers", group="colour", limit=1)
            with pytest.raises(InvalidError, match="no top"):
                await made.service.top(ADMIN, span(), by="everything", group="vm", limit=1)
            with pytest.raises(InvalidError, match="must end after it begins"):
                await made.service.top(
                    ADMIN, Span(since=span().until, until=span().since), by="talkers", group="vm", limit=1
                )
            with pytest.raises(NotFoundError, match="no traffic of a VM"):
                await made.service.trend(ADMIN, span(), of="nobody", by="protocol", steps=10)

    asyncio.run(test())


def test_who_keeps_nothing_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path, store="off") as (made, hearing):
            made.traffic.records("a", batch(1, [row(1, 2)], at=moment()))
            with pytest.raises(NotFoundError, match="keeps no records"):
                await made.service.flows(ADMIN, span(), limit=1, after=None)
            assert hearing.taken == []
            assert (await made.service.health()).ok

    asyncio.run(test())


def test_settings_are_looked_at() -> None:
    with pytest.raises(ValueError, match=r"or write 'embedded' or 'off'"):
        FlowSettings(store="postgresql://x")


def test_others_are_told_and_figures_are_kept(tmp_path: Path) -> None:
    async def test() -> None:
        told = tmp_path / "told.jsonl"
        async with running(tmp_path, export=ExportSettings(ocsf=f"file://{told}")) as (made, hearing):
            await kept(
                made, hearing, "a", batch(1, [row(1, 2), row(3, 1, verdict=1, out=60, into=0)], at=moment(), lost=2)
            )
            await until(lambda: told.exists() and told.read_text().count("\n") == 2, "it is told")
            assert "/acme/shop:web" in told.read_text()
            figures = (await made.service.metrics(ADMIN)).decode()
            for line in (
                'serai_flow_records_total{host="a"} 2.0', 'serai_flow_records_lost_total{host="a"} 2.0', 'serai_traffic_bytes_total{tenant="acme"} 1500.0',
                'serai_traffic_denied_packets_total{tenant="globex"} 3.0', f'serai_export_records_total{{to="file://{told}"}} 2.0',
            ):  # fmt: skip
                assert line in figures, figures

    asyncio.run(test())
