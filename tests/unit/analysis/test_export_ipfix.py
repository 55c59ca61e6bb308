"""What an independent reader finds in our IPFIX messages is what was recorded."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowing import RULES, SCHEMA, Row, traffic
from ipfix_reader import REVERSE, Read, Reader, Values
from serai.analysis.export.ipfix import TCP_BYTES, UDP_BYTES, Session, domain_of, encode
from serai.analysis.export.names import Names
from serai.analysis.register import Endpoint
from serai.model.reasons import Reason

NOW = 1_795_600_000.75
IPV4 = st.binary(min_size=4, max_size=4).map(lambda raw: bytes(10) + b"\xff\xff" + raw)
IPV6 = st.binary(min_size=16, max_size=16).filter(lambda raw: raw[:12] != bytes(10) + b"\xff\xff")
TEXT = st.text(st.characters(codec="utf-8"), max_size=300)
NAMES = Names(
    endpoints={1: Endpoint(number=1, path="/acme/shop:web-1", labels={}), 2: Endpoint(number=2, path="/acme:db", labels={})},
    vnics={7: "/acme/shop:web-1/nic0"},
)  # fmt: skip
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
COUNT = st.integers(0, 2**50)


def a_row(**given: Any) -> Row:
    zeros = {name: 0 if name not in {"local", "remote"} else bytes(16) for name in SCHEMA.names}
    return zeros | {"host": "host-1", "tenant": "acme", "network": "/acme:front", "protocol": 6, "at": 1_795_560_000} | given  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> Row:
    version = draw(st.sampled_from([IPV4, IPV6]))
    return a_row(
        at=draw(U32), vnic=draw(st.sampled_from([7, 8, 2**64 - 1])), event=draw(st.integers(0, 3)), direction=draw(st.integers(0, 1)),
        protocol=draw(st.sampled_from([0, 1, 6, 17, 47, 58, 132, 255])), local=draw(version), remote=draw(version), local_port=draw(U16), remote_port=draw(U16),
        service=draw(U16), verdict=draw(st.integers(0, 2)), reason=draw(U8), packets_out=draw(COUNT), packets_in=draw(COUNT), bytes_out=draw(COUNT), bytes_in=draw(COUNT),
        age_ms=draw(U32), idle_ms=draw(U32), flags_out=draw(U8), flags_in=draw(U8), vm=draw(st.sampled_from([0, 1, 2, 3])), host=draw(st.sampled_from(["host-1", "höst-2", "h"])),
    )  # fmt: skip


def table(found: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(found, SCHEMA)


def messages(found: pa.Table, names: Names, most: int, session: Session | None = None) -> list[bytes]:
    session = session or Session()
    sent = []
    for stream in encode(found, names).streams:
        for piece in stream.cut(most):
            if session.due(piece.host, NOW):
                sent.append(session.introduction(piece.host, NOW))
                session.introduced(piece.host, NOW)
            sent.append(session.message(piece, NOW))
            session.sent(piece)
    return sent


def read(raw: list[bytes]) -> list[Read]:
    reader = Reader()
    return [reader.read(message) for message in raw]


def expected(row: Row, names: Names) -> Values:
    """What the registry calls the values of a row, written out one by one."""
    mine = row["direction"] == 0
    out, into = ("out", "in") if mine else ("in", "out")
    ends = ("local", "remote") if mine else ("remote", "local")
    mapped = bytes(10) + b"\xff\xff"
    fourth = row["local"][:12] == mapped or row["remote"][:12] == mapped
    vm = names.endpoints.get(row["vm"])
    found: dict[tuple[int, int], Any] = {
        (0, 152): (max(0, row["at"] * 1000 - row["age_ms"]), 8), (0, 153): (max(0, row["at"] * 1000 - row["idle_ms"]), 8),
        (0, 8 if fourth else 27): row[ends[0]][12 if fourth else 0 :], (0, 12 if fourth else 28): row[ends[1]][12 if fourth else 0 :],
        (0, 4): (row["protocol"], 1), (0, 61): (int(mine), 1), (0, 239): (1, 1), (0, 138): (row["vnic"], 8),
        (0, 349): names.vnics.get(row["vnic"], "").encode(), (0, 350): vm.path.encode() if vm else b"",
    }  # fmt: skip
    for enterprise, way in ((0, out), (REVERSE, into)):
        packets, frames = row[f"packets_{way}"], row[f"bytes_{way}"]
        found |= {(enterprise, 2): (packets, 8), (enterprise, 352): (frames, 8), (enterprise, 1): (max(0, frames - 14 * packets), 8)}  # fmt: skip
    if row["protocol"] in {6, 17, 132}:
        target = row[f"{ends[1]}_port"] or row["service"]
        found |= {(0, 7): (row[f"{ends[0]}_port"], 2), (0, 11): (target, 2), (0, 6): (row[f"flags_{out}"], 1), (REVERSE, 6): (row[f"flags_{into}"], 1)}  # fmt: skip
    elif row["protocol"] == (1 if fourth else 58):
        found[0, 32 if fourth else 139] = (row["service"], 2)
    why = {Reason.DENIED: 129, Reason.FLOW_QUOTA: 138, Reason.FLOW_RATE: 138, Reason.FOREIGN_IP: 140}
    found[0, 89] = (why.get(row["reason"], 128) if row["verdict"] == 1 else 64, 1)
    closed = row["protocol"] == 6 and (row["flags_out"] | row["flags_in"]) & 5
    found[0, 136] = ((3 if closed else 1) if row["event"] & 2 else 2, 1)
    return {key: value if isinstance(value, bytes) else value[0].to_bytes(value[1]) for key, value in found.items()}


@settings(deadline=None, max_examples=60)
@given(st.lists(rows(), max_size=60), st.sampled_from([UDP_BYTES, TCP_BYTES]))
def test_what_is_read_is_what_was_recorded(made: list[Row], most: int) -> None:
    raw = messages(table(made), NAMES, most)
    assert all(len(message) <= most for message in raw)
    found: dict[str, list[Values]] = {}
    hosts: dict[int, str] = {}
    for each in read(raw):
        for option in each.options:
            hosts[int.from_bytes(option[0, 149])] = option[0, 300].decode()
            assert int.from_bytes(option[0, 149]) == each.domain
        found.setdefault(hosts[each.domain], []).extend(each.records)
        assert each.export_time == int(NOW)
    for host in {row["host"] for row in made}:
        told = [expected(row, NAMES) for row in made if row["host"] == host and row["protocol"]]
        assert Counter(map(str, map(sorted, map(dict.items, found.get(host, []))))) == Counter(
            map(str, map(sorted, map(dict.items, told)))
        )
    assert encode(table(made), NAMES).left_out == sum(row["protocol"] == 0 for row in made)


@settings(deadline=None, max_examples=30)
@given(TEXT, TEXT)
def test_names_of_any_length_are_told_and_the_end_of_very_long_ones(vm: str, vnic: str) -> None:
    names = Names(endpoints={1: Endpoint(number=1, path=vm * 3, labels={})}, vnics={7: vnic * 3})
    raw = messages(table([a_row(vm=1, vnic=7)]), names, UDP_BYTES)
    assert all(len(message) <= UDP_BYTES for message in raw)
    record = read(raw)[1].records[0]
    for key, text in (((0, 349), vnic * 3), ((0, 350), vm * 3)):
        told = record[key].decode()  # never cut within a character
        assert text.endswith(told)
        assert len(told) == len(text) or 497 <= len(told.encode()) <= 500


def test_no_records_make_no_messages() -> None:
    assert messages(table([]), NAMES, UDP_BYTES) == []


def test_records_come_in_whatever_chunks() -> None:
    made = traffic(3, conversations=200)
    names = Names()
    names.learn(made.names())
    whole = made.table()
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 100), whole.slice(101)])
    hosts = pa.chunked_array([chunk.dictionary_encode() for chunk in parts["host"].chunks])
    parts = parts.set_column(parts.column_names.index("host"), "host", hosts)
    assert messages(parts, names, UDP_BYTES) == messages(whole, names, UDP_BYTES)
    told = Counter(
        record[0, 350].decode() for each in read(messages(whole, names, UDP_BYTES)) for record in each.records
    )
    assert told == Counter(made.endpoints[row["vm"]].path for row in made.rows)
    assert names.rules == {rule.id: rule.text for rule in RULES}


def test_messages_are_filled() -> None:
    made = traffic(4, conversations=600)
    raw = messages(made.table(), Names(), UDP_BYTES)
    hosts = len({row["host"] for row in made.rows})
    assert len(raw) <= hosts + hosts + sum(map(len, raw)) / (UDP_BYTES - 250)


def test_a_hundred_thousand_records_a_second_are_encoded() -> None:
    made = traffic(4, conversations=3000)
    names = Names()
    names.learn(made.names())
    many = pa.concat_tables([made.table()] * 5).combine_chunks()

    def seconds() -> float:
        began = time.process_time()
        messages(many, names, UDP_BYTES)
        return time.process_time() - began

    assert many.num_rows / min(seconds() for _ in range(3)) > 100_000


def test_a_host_is_the_same_domain_everywhere() -> None:
    assert domain_of("host-1") == 0x67148020  # collectors have it on record
    assert domain_of("host-1") != domain_of("host-2")
    assert 0 < domain_of("host-1") < 2**32


def test_templates_are_told_again_when_they_get_old_and_numbers_go_on() -> None:
    session = Session(again_seconds=60, again_messages=3)
    stream = encode(table([a_row()] * 2), NAMES).streams[0]
    piece = next(stream.cut(UDP_BYTES))
    reader = Reader()
    assert session.due("host-1", NOW)
    with pytest.raises(KeyError):
        Reader().read(session.message(piece, NOW))  # nobody knows what that is
    for _ in range(2):
        first = reader.read(session.introduction("host-1", NOW))
        session.introduced("host-1", NOW)
        assert len(first.templates) == 7
        for _ in range(3):
            assert not session.due("host-1", NOW + 59)
            assert len(reader.read(session.message(piece, NOW)).records) == 2
            session.sent(piece)
        assert session.due("host-1", NOW)
    assert reader.expected[domain_of("host-1")] == 1 + 2 * 3 * 2
    session.introduced("host-1", NOW)
    assert session.due("host-1", NOW + 60)
    assert session.due("host-1", NOW - 60)  # a clock that was set back
    session.introduced("host-1", NOW)
    session.forget()
    assert session.due("host-1", NOW)


def test_what_a_host_is_called_is_told_first_and_then_seldom() -> None:
    session, reader = Session(again_seconds=60), Reader()

    def named() -> bool:
        read = reader.read(session.introduction("host-1", NOW))
        session.introduced("host-1", NOW)
        assert len(read.templates) == 7
        return bool(read.options)

    assert [number for number in range(130) if named()] == [0, 60, 120]
    session.forget()
    assert named()


def test_the_number_of_records_begins_anew_after_the_last() -> None:
    session = Session()
    session._sequence["host-1"] = 2**32 - 1
    piece = next(encode(table([a_row()] * 2), NAMES).streams[0].cut(UDP_BYTES))
    session.sent(piece)
    assert session.message(piece, NOW)[8:12] == (1).to_bytes(4)
