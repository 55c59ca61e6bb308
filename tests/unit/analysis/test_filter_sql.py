import random
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from engine import Engine, random_inventory, random_records
from filters import ODD, filters, terms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serai.analysis.filter import (
    FIELDS,
    PAIR_COLUMNS,
    PROTOCOL_COLUMNS,
    VM_COLUMNS,
    Filter,
    FilterError,
    Inventory,
    NotKeptError,
    Term,
    clause,
    matches,
    parse,
)
from serai.analysis.filter.tree import quoted

RNG = random.Random(6)
INVENTORY = random_inventory(RNG)
RECORDS = random_records(RNG, 1500)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    started = Engine()
    started.fill(tmp_path_factory.mktemp("flows"), RECORDS, INVENTORY)
    yield started
    started.close()


def asked(engine: Engine, what: Filter) -> list[int]:
    written = clause(what)
    sql = f"SELECT row FROM flows WHERE {written.sql} ORDER BY row"  # noqa: S608 - this is what is tested
    return [int(row) for row in engine.ask(sql, written.parameters)]


def meant(what: Filter) -> list[int]:
    return [int(row) for row in np.flatnonzero(matches(what, RECORDS, INVENTORY))]


def test_the_records_reach_the_engine_as_they_are(engine: Engine) -> None:
    rows = engine.ask("SELECT toString(local), vm, bytes_out FROM flows ORDER BY row")
    assert len(rows) == RECORDS.num_rows
    for row, local, vm, sent in zip(rows, RECORDS["local"], RECORDS["vm"], RECORDS["bytes_out"], strict=True):
        shown = row.split("\t")
        assert int(shown[1]) == vm.as_py()
        assert int(shown[2]) == sent.as_py()
        assert shown[0].startswith("::ffff:") == local.as_py().startswith(bytes(10) + b"\xff\xff")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(what=filters())
def test_the_engine_finds_what_a_filter_means(engine: Engine, what: Filter) -> None:
    assert asked(engine, what) == meant(what)


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_found_by_each_operator(engine: Engine, field: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(what=terms((field,)))
    def agree(what: Term) -> None:
        assert asked(engine, what) == meant(what)

    agree()


def test_what_is_compared_is_told_apart(engine: Engine) -> None:
    """The data makes both answers likely: otherwise an agreement would say nothing."""
    for text in (
        "vm=web-1",
        "label.tier=db",
        "src=10.0.0.0/8",
        "dst~web-*",
        "service=443",
        "rtt>10us",
        "rule~*",
        "peer~*",
        "port=443",
    ):
        found = asked(engine, parse(text))
        assert 0 < len(found) < RECORDS.num_rows, text


def test_everything(engine: Engine) -> None:
    assert len(asked(engine, parse(""))) == RECORDS.num_rows


# What no value can do


def tokens(sql: str) -> list[str]:
    return re.findall(r"\{f[0-9]+:[A-Za-z0-9]+\}|'[^']*'|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[^\s]", sql)


KNOWN = {
    *(column for field in FIELDS.values() for column in field.columns),
    *("IN", "SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "LIKE", "BETWEEN"),
    *("number", "endpoints", "vnics", "rules", "name", "path", "scope", "text", "labels"),
    *("mapContains", "startsWith", "replaceAll", "substring", "position", "if", "bitTest", "toUInt64"),
    *"() [] , = < > ! + *".replace(" ", ""),
    *("'%'", "'_'", "'*'", "'?'", "':'", r"'\\%'", r"'\\_'"),
    *("0", "1", "6", "17", "132", "1000"),
}


@given(what=filters())
def test_sql_is_made_of_words_that_are_known(what: Filter) -> None:
    written = clause(what)
    bound = re.findall(r"\{(f[0-9]+):(String|UInt8|UInt32|UInt64|IPv6)\}", written.sql)
    assert {name for name, _ in bound} == set(written.parameters)
    assert {token for token in tokens(written.sql) if not token.startswith("{f")} <= KNOWN
    for name, kind in bound:
        assert isinstance(written.parameters[name], str if kind in {"String", "IPv6"} else int)


@pytest.mark.parametrize("field", ["rule", "host", "label.tier", "peer.label.tier"])
@given(value=st.one_of(st.text(max_size=60), st.sampled_from(ODD)), operator=st.sampled_from(["=", "!=", "~", "!~"]))
def test_sql_does_not_depend_on_values(field: str, operator: str, value: str) -> None:
    plain = clause(parse(f"{field}{operator}x"))
    try:
        written = clause(parse(f"{field}{operator}{quoted(value)}"))
    except FilterError:
        return
    assert written.sql == plain.sql
    assert value in written.parameters.values()


@given(key=st.text(min_size=1, max_size=30))
def test_sql_does_not_depend_on_keys_of_labels(key: str) -> None:
    try:
        what = parse(f"label.{key}=x")
    except FilterError:
        return
    if isinstance(what, Term):
        assert clause(what).sql == clause(parse("label.a=x")).sql


@given(text=st.text(alphabet="vmruleb~=!<>*?'\"\\ ()\t\n\x00,and.oin0", max_size=40))
def test_no_parameter_wants_escaping(text: str) -> None:
    try:
        what = parse(text)
    except FilterError:
        return
    for value in clause(what).parameters.values():
        assert not isinstance(value, str) or (value.isprintable() and "\\" not in value)


# Rollups


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("vm=web-1 and label.tier=db and scope=/acme", VM_COLUMNS),
        ("tenant=acme and verdict=denied and direction=egress", VM_COLUMNS),
        ("service=tcp/443 or dport=8000-8099 or dport<1024 or service!=22", VM_COLUMNS),
        ("service=udp", PROTOCOL_COLUMNS),
        ("src=web-1 and dst=db-1 and rule~*web*", PAIR_COLUMNS),
        ("peer.label.tier=db and peer.scope=/ and peer.tenant=acme", PAIR_COLUMNS),
    ],
)
def test_rollups_answer_what_they_keep(text: str, columns: frozenset[str]) -> None:
    assert clause(parse(text), columns) == clause(parse(text))


@pytest.mark.parametrize(
    ("text", "columns", "field"),
    [
        ("vm=web-1 and bytes>1M", PAIR_COLUMNS, "bytes"),
        ("peer=web-1", VM_COLUMNS, "peer"),
        ("src=web-1", VM_COLUMNS, "src"),
        ("src=10.0.0.0/8", PAIR_COLUMNS, "src"),
        ("remote=10.0.0.0/8", PAIR_COLUMNS, "remote"),
        ("dport=443", PROTOCOL_COLUMNS, "service"),
        ("dport=50000", VM_COLUMNS, "service"),
        ("dport>1024", VM_COLUMNS, "service"),
        ("dport=0", VM_COLUMNS, "service"),
        ("port=443", VM_COLUMNS, "port"),
        ("not host=h1", VM_COLUMNS, "host"),
        ("begins=yes", PAIR_COLUMNS, "begins"),
        ("vm=a or (vm=b and not age>1h)", PAIR_COLUMNS, "age"),
    ],
)
def test_what_rollups_do_not_keep_is_refused_by_name(text: str, columns: frozenset[str], field: str) -> None:
    with pytest.raises(NotKeptError, match=f"long-term history does not keep '{field}'") as caught:
        clause(parse(text), columns)
    assert caught.value.field == field


@given(what=filters(("service",)))
def test_a_service_that_a_rollup_can_answer_is_the_same_there(what: Filter) -> None:
    """Rollups put ephemeral services and none together as 0."""
    services = [0, 1, 22, 443, 1024, 2048, 8050, 49151, 49152, 50000, 65535]
    kept = pa.Table.from_pylist([{"protocol": p, "service": s} for p in (1, 6, 17, 47) for s in services])
    rolled = pa.Table.from_pylist(
        [{**row, "service": row["service"] if row["service"] < 49152 else 0} for row in kept.to_pylist()]
    )
    try:
        clause(what, VM_COLUMNS)
    except NotKeptError:
        return
    nobody = Inventory(endpoints={}, vnics={}, rules={})
    assert list(matches(what, kept, nobody)) == list(matches(what, rolled, nobody))
