"""What the engine answers, against what a plain look at all records says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.flowstore import flow_store
from flow_oracle import Oracle
from flowing import Row, Traffic, traffic
from serai.analysis.filter import parse
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import Group, GroupError
from serai.analysis.traffic.records import Cursor, next_cursor, numbers_of, records
from serai.analysis.traffic.servicemap import conversations, edges, peers
from serai.analysis.traffic.statement import Clause, Statement
from serai.analysis.traffic.top import top
from serai.analysis.traffic.trend import step_of, trend
from serai.analysis.traffic.window import Window
from serai.flowstore.store import FlowStore
from serai.model.tenancy import Scope

SCOPES: list[Sequence[Scope] | None] = [
    None,
    [Scope("/acme")],
    [Scope("/acme/shop")],
    [Scope("/acme/shop"), Scope("/globex")],
    [Scope("/")],
]
GROUPS = ["vm", "tenant", "scope", "label:tier", "label:v"]
NARROW = {
    "": lambda _: True,
    "protocol=tcp": lambda row: row["protocol"] == 6,
    "bytes>50000": lambda row: row["bytes_out"] + row["bytes_in"] > 50_000,
    "verdict=observed or dport=53": lambda row: row["verdict"] == 2 or row["service"] == 53,
    "remote=10.0.0.0/29": lambda row: (
        row["remote"][12:14] == b"\x0a\x00" and row["remote"][14] == 0 and row["remote"][15] < 8
    ),
}


class Asking:
    """One store with one traffic, for all tests of this file."""

    def __init__(self, directory: Path) -> None:
        self.traffic = traffic(7)
        self._loop = asyncio.new_event_loop()
        self._context = flow_store(directory)
        self._store: FlowStore = self._loop.run_until_complete(self._context.__aenter__())
        self._loop.run_until_complete(self._fill(self.traffic))

    async def _fill(self, made: Traffic) -> None:
        for name, table in made.names().items():
            await self._store.insert(name, table)
        table = made.table()
        for at in range(0, table.num_rows, 100):  # several parts, so that rollups must merge
            await self._store.insert("flows", table.slice(at, 100), token=f"t{at}")

    def rows(self, statement: Statement) -> list[Row]:
        found: list[Row] = self._loop.run_until_complete(
            self._store.ask(statement.sql, statement.parameters)
        ).to_pylist()
        return found

    def close(self) -> None:
        self._loop.run_until_complete(self._context.__aexit__(None, None, None))
        self._loop.close()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    asking = Asking(tmp_path_factory.mktemp("flows") / "engine")
    yield asking
    asking.close()


def windows(made: Traffic) -> list[Window]:
    """All of it, by all grains; and a part whose ends are whole steps."""
    whole = made.until // 3600 * 3600
    return [
        Window(since=made.since - 86400, until=made.until + 3600),
        Window(since=whole - 7200, until=whole),
        Window(since=whole - 3600 * 3, until=whole + 3600),
    ]


def cases(made: Traffic) -> Iterator[tuple[Window, Sequence[Scope] | None, str]]:
    """Go through windows and scopes, each with a way to group; every pair of them comes up."""
    for row, window in enumerate(windows(made)):
        for column, scopes in enumerate(SCOPES):
            yield window, scopes, GROUPS[(2 * row + column) % len(GROUPS)]


def oracle(at: Asking, window: Window, scopes: Sequence[Scope] | None, narrow: str) -> Oracle:
    # Rollups hold the step in which a record's interval ended, from its beginning on; a raw question looks at that end.
    edge = 0 if narrow in {"bytes>50000", "remote=10.0.0.0/29"} else -1
    return Oracle(at.traffic, since=window.since + edge, until=window.until + edge, scopes=scopes, keep=NARROW[narrow])


def asked(window: Window, scopes: Sequence[Scope] | None, narrow: str) -> Asked:
    return Asked(window=window, scopes=scopes, seen=scopes, narrowed=parse(narrow) if narrow else None, limit=1000)


def sums(rows: list[Row], *keys: str) -> dict[Any, tuple[int, int, int]]:
    def key(row: Row) -> Any:
        found = tuple(tuple(row[each]) if isinstance(row[each], list) else row[each] for each in keys)
        return found if len(found) > 1 else found[0]

    answer = {key(row): (row["bytes"], row["packets"], row["connections"]) for row in rows}
    assert len(answer) == len(rows), "one thing is told twice"
    return answer


EACH = pytest.mark.parametrize("narrow", NARROW)


@EACH
def test_talkers_and_listeners(at: Asking, narrow: str) -> None:
    for window, scopes, group in cases(at.traffic):
        plain = oracle(at, window, scopes, narrow)
        for by, way in (("talkers", "out"), ("listeners", "in")):
            rows = at.rows(top(by, Group.of(group), asked(window, scopes, narrow)))
            own = (row for row in plain.own() if row["verdict"] != 1)
            expected = plain.sums(own, lambda row: (plain.name(row["vm"], group),), way)
            assert sums(rows, "names") == {name: line for name, line in expected.items() if line[0]}
            assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
            if rows:
                assert rows[0]["all_bytes"] == sum(line[0] for line in expected.values())


@EACH
@pytest.mark.parametrize("group", ["network", "host"])
def test_talkers_by_what_records_say_themselves(at: Asking, narrow: str, group: str) -> None:
    for window in windows(at.traffic):
        for scopes in SCOPES:
            plain = Oracle(at.traffic, since=window.since, until=window.until, scopes=scopes, keep=NARROW[narrow])
            for by, way in (("talkers", "out"), ("listeners", "in")):
                statement = top(by, Group.of(group), asked(window, scopes, narrow))
                assert statement.table == "flows"
                own = (row for row in plain.own() if row["verdict"] != 1)
                expected = plain.sums(own, lambda row: (plain.name(row["vm"], group, row),), way)
                assert sums(at.rows(statement), "names") == {name: line for name, line in expected.items() if line[0]}


@pytest.mark.parametrize("group", ["network", "host"])
def test_what_is_said_of_one_end_groups_no_pairs(at: Asking, group: str) -> None:
    question = asked(windows(at.traffic)[0], None, "")
    for ask in (
        lambda g: top("pairs", g, question),
        lambda g: top("denied", g, question),
        lambda g: edges(g, question),
    ):
        with pytest.raises(GroupError, match=f"a record tells the {group} of one end only"):
            ask(Group.of(group))


@EACH
def test_pairs_services_and_what_is_denied(at: Asking, narrow: str) -> None:
    for window, scopes, group in cases(at.traffic):
        plain, question = oracle(at, window, scopes, narrow), asked(window, scopes, narrow)
        passed = [row for row in plain.edges() if row["verdict"] != 1]
        denied = [row for row in plain.edges() if row["verdict"] == 1]

        def ends(row: Row, plain: Oracle = plain, group: str = group) -> tuple[str, str]:
            return plain.ends(row, group)

        assert sums(at.rows(top("pairs", Group.of(group), question)), "names") == plain.sums(passed, ends)

        def refused(row: Row) -> Any:
            return ends(row), row["protocol"], kept(row), row["rule"]

        rows = at.rows(top("denied", Group.of(group), question))
        assert sums(rows, "names", "protocol", "service", "rule") == plain.sums(denied, refused)
        last = {(tuple(row["names"]), row["protocol"], row["service"], row["rule"]): row["last"] for row in rows}
        assert last == {key: max(row["at"] for row in denied if refused(row) == key) for key in last}
        services = sums(at.rows(top("services", Group.of("vm"), question)), "protocol", "service")
        assert services == plain.sums(passed, lambda row: (row["protocol"], kept(row)))
        protocols = sums(at.rows(top("protocols", Group.of("vm"), question)), "protocol")
        assert protocols == plain.sums(passed, lambda row: row["protocol"])


def kept(row: Row) -> int:
    """Rollups keep no services that nobody has assigned; raw records do."""
    return int(row["service"]) if row["service"] < 49152 else 0


def test_a_statement_tells_where_it_looks(at: Asking) -> None:
    window = windows(at.traffic)[0]
    for narrow in NARROW:
        single = "flows" if narrow in {"bytes>50000", "remote=10.0.0.0/29"} else ""
        question = asked(window, None, narrow)
        vm = Group.of("vm")
        for statement in (
            top("talkers", vm, question),
            top("pairs", vm, question),
            edges(vm, question),
            trend(None, "peer", question, 60),
        ):
            assert statement.table == single
    assert records(asked(window, None, ""), None).table == "flows"


@EACH
def test_maps(at: Asking, narrow: str) -> None:
    for window, scopes, group in cases(at.traffic):
        plain = oracle(at, window, scopes, narrow)
        told = sums(
            at.rows(edges(Group.of(group), asked(window, scopes, narrow))),
            "source",
            "target",
            "protocol",
            "service",
            "verdict",
        )
        assert told == plain.sums(
            plain.edges(), lambda row: (*plain.ends(row, group), row["protocol"], kept(row), row["verdict"])
        )


def test_scopes_are_cut_at_a_depth(at: Asking) -> None:
    window = windows(at.traffic)[0]
    rows = at.rows(edges(Group.of("scope", depth=1), asked(window, None, "")))
    assert {row["source"] for row in rows} | {row["target"] for row in rows} == {"/", "/acme", "/globex", "outside"}


@EACH
@pytest.mark.parametrize("by", ["protocol", "service", "verdict", "direction"])
def test_trends(at: Asking, narrow: str, by: str) -> None:
    keys = {
        "protocol": ("protocol",),
        "service": ("protocol", "service"),
        "verdict": ("verdict",),
        "direction": ("direction",),
    }[by]
    for window in windows(at.traffic):
        step = step_of(window, by, 20)
        for scopes in SCOPES:
            plain = oracle(at, window, scopes, narrow)
            question = asked(window, scopes, narrow)
            rows = list(plain.own())
            if scopes is None and not narrow and by in {"protocol", "verdict"}:
                rows = list(plain.edges())  # of the whole site each conversation is told once
            expected = plain.sums(
                rows,
                lambda row: (row["at"] // step * step, *(kept(row) if key == "service" else row[key] for key in keys)),
            )
            assert sums(at.rows(trend(None, by, question, step)), "at", *keys) == expected


@EACH
def test_one_vm(at: Asking, narrow: str) -> None:
    window = windows(at.traffic)[0]
    for path in ("/acme/shop:web-1", "/:dns", "/globex/lab:one"):
        numbers = [number for number, end in at.traffic.endpoints.items() if end.path == path]
        of = Clause(sql="{vms:Array(UInt64)}", parameters={"vms": numbers})
        tenant = at.traffic.endpoints[numbers[0]].tenant
        scopes = [Scope(f"/{tenant}")] if tenant else [Scope("/")]
        plain = oracle(at, window, scopes, narrow)
        question = asked(window, scopes, narrow)
        step = step_of(window, "peer", 20)

        rows = at.rows(trend(of, "protocol", question, step))
        mine = [row for row in plain.rows if row["vm"] in numbers]
        assert sums(rows, "at", "protocol") == plain.sums(
            mine, lambda row, step=step: (row["at"] // step * step, row["protocol"])
        )

        touching = [row for row in plain.edges() if row["vm"] in numbers or row["peer"] in numbers]

        def other(row: Row, plain: Oracle = plain, numbers: list[int] = numbers) -> str:
            return plain.name(row["peer"], "vm", row) if row["vm"] in numbers else plain.name(row["vm"], "vm")

        by_peer = at.rows(trend(of, "peer", question, step))
        assert sums(by_peer, "at", "name") == plain.sums(
            touching, lambda row, step=step: (row["at"] // step * step, other(row))
        )

        def opened(row: Row, numbers: list[int] = numbers) -> bool:
            return (row["direction"] == 0) == (row["vm"] in numbers)

        if not narrow:
            told = sums(at.rows(peers(of, question)), "peer", "mine", "protocol", "service", "verdict")
            assert told == plain.sums(
                touching, lambda row: (other(row), opened(row), row["protocol"], kept(row), row["verdict"])
            )


def test_a_vm_is_found_by_name_and_by_path(at: Asking) -> None:
    assert {row["path"] for row in at.rows(numbers_of("web-1"))} == {"/acme/shop:web-1", "/acme/pay:web-1"}
    assert {row["path"] for row in at.rows(numbers_of("/acme/pay:web-1"))} == {"/acme/pay:web-1"}
    assert at.rows(numbers_of("' OR 1 = 1 --")) == []


@EACH
def test_records_come_page_by_page_and_none_twice(at: Asking, narrow: str) -> None:
    window = windows(at.traffic)[0]
    for scopes in SCOPES:
        plain = Oracle(at.traffic, since=window.since, until=window.until, scopes=scopes, keep=NARROW[narrow])
        found: list[Row] = []
        after: Cursor | None = None
        while True:
            question = Asked(
                window=window, scopes=scopes, seen=scopes, narrowed=parse(narrow) if narrow else None, limit=37
            )
            page = at.rows(records(question, after))
            found += page
            if len(page) < 37:
                break
            after = Cursor.read(str(next_cursor([row["at"] for row in page], after)))
        assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
        columns = at.traffic.table().column_names
        assert sorted(tuple(map(str, map(row.get, columns))) for row in found) == sorted(
            tuple(map(str, map(row.get, columns))) for row in plain.own()
        )


def test_conversations_are_told_with_their_rules(at: Asking) -> None:
    window = windows(at.traffic)[0]
    plain = oracle(at, window, None, "")
    told = at.rows(conversations(asked(window, None, "")))
    expected = plain.sums(
        plain.edges(),
        lambda row: (
            at.traffic.endpoints[row["vm"]].path, at.traffic.endpoints[row["peer"]].path if row["peer"] else "", row["direction"], row["protocol"], kept(row), row["verdict"], row["rule"],
            plain.name(0, "vm", row) if not row["peer"] else "::",
        ),
    )  # fmt: skip
    assert sums(told, "path", "peer_path", "direction", "protocol", "service", "verdict", "rule", "address") == expected


@pytest.mark.parametrize("nasty", ["x' OR 1=1 --", "x\\", "x;DROP TABLE flows", "x\n", "{x:String}", "\x00", "ü🦔"])
def test_no_text_of_people_stands_in_a_statement(nasty: str) -> None:
    window = Window(since=0, until=100)
    scope = Scope("/acme")
    plain = edges(Group(kind="label", key="app"), asked(window, [scope], ""))
    odd = edges(Group(kind="label", key=nasty), asked(window, [scope], ""))
    assert plain.sql == odd.sql
    assert numbers_of(nasty).sql == numbers_of("web-1").sql
