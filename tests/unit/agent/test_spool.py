"""Batches on disk: in their order, within their room, whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serai.agent.batches import Made, batches
from serai.agent.spool import Spool, forget
from serai.datapath.interval import DROP, SIGHTING, Interval
from serai.model.flow_record import BATCH_RECORDS, DROP_COLUMNS, FLOW_COLUMNS, layout
from serai.model.policy import RuleRef
from serai.wire.records import decode
from serai.wire.remote import AGENT_LIMIT, Losses, Records, decode_from_agent, encode

RECORD = layout(FLOW_COLUMNS)
PIECES = [("flows", 7, np.arange(5, dtype="<u8")), ("drops", 0, np.empty(0, "<u8"))]
ROOM = 10 * 4096


def interval(count: int = 0, **otherwise: Any) -> Interval:
    flows = np.frombuffer(np.random.default_rng(count).bytes(RECORD.itemsize * count), RECORD).copy()
    return Interval(
        **{
            "flows": [flows], "drops": np.empty(0, DROP), "sightings": np.empty(0, SIGHTING), "ring": 0, "denials": 0, "forgotten": 0,
            **otherwise,
        }
    )  # fmt: skip


def make(what: Interval, rules: dict[int, str] | None = None, **otherwise: Any) -> list[Made]:
    told: dict[str, Any] = {"spool": 16 * "a", "first": 1, "since": 0.0, "until": 10.0, "removed": 0, **otherwise}
    return list(batches(what, rules or {}, **told))


def read(made: Made) -> Records:
    message = decode_from_agent(made.raw)
    assert isinstance(message, Records)
    return message


def opened(directory: Path, *, room: int = ROOM, form: str = "f") -> Spool:
    made = Spool(directory, most_bytes=room, form=form)
    made.open()
    return made


def write(spool: Spool, count: int = 0, *, size: int = 0, volume: int = 1) -> None:
    lost, gone = spool.make_room()
    made = make(interval(count), spool=spool.name, first=spool.number + 1, removed=lost)
    if size:
        raw = encode(
            Records(
                spool=spool.name,
                number=spool.number + 1,
                since=0.0,
                until=1.0,
                records=1,
                flows=bytes(size),
                lost=Losses(spool=lost),
            )
        )
        made = [Made(number=spool.number + 1, records=1, raw=raw)]
    head = spool.head(made, gone, until=10.0, volume=volume, pieces=len(PIECES))
    spool.written(spool.write(made, head, PIECES, gone), head, lost)


def numbers(spool: Spool) -> list[int]:
    found, last = [], None
    while (batch := spool.after(last)) is not None:
        last = batch.spool, batch.number
        found.append(batch.number)
    return found


# Batches


def test_of_nothing_one_hears_too() -> None:
    (made,) = make(interval(), removed=3)
    assert (read(made).records, read(made).flows, read(made).lost) == (0, b"", Losses(spool=3))


def test_an_interval_of_many_records_is_told_in_several_batches() -> None:
    what = interval(2 * BATCH_RECORDS + 1, ring=1, forgotten=2)
    made = [read(each) for each in make(what, first=9)]
    assert [(m.number, m.records) for m in made] == [(9, BATCH_RECORDS), (10, BATCH_RECORDS), (11, 1)]
    assert [m.lost for m in made] == [Losses(ring=1, forgotten=2), Losses(), Losses()], "what is lost is lost once"
    tables = [decode(m.flows, FLOW_COLUMNS, most_rows=BATCH_RECORDS, most_bytes=1 << 22) for m in made]
    assert [v for table in tables for v in table["vnic"].to_pylist()] == what.flows[0]["vnic"].tolist()


def test_all_sorts_share_the_batches_whatever_pieces_they_come_in() -> None:
    what = interval(BATCH_RECORDS + 2)
    (flows,) = what.flows
    drops = np.zeros(2 * BATCH_RECORDS + 1, DROP)
    drops["packets"] = np.arange(len(drops))
    pieces = [flows[:1], flows[1:1], flows[1:]]
    made = [read(each) for each in make(dataclasses.replace(what, flows=pieces, drops=drops))]
    assert [m.records for m in made] == [1, BATCH_RECORDS, 1]
    for sort, columns, name, wanted in (
        ("flows", FLOW_COLUMNS, "vnic", flows["vnic"]),
        ("drops", DROP_COLUMNS, "packets", drops["packets"]),
    ):
        tables = [decode(getattr(m, sort), columns, most_rows=BATCH_RECORDS, most_bytes=1 << 22) for m in made]
        assert [v for table in tables for v in table[name].to_pylist()] == wanted.tolist()


def test_a_batch_that_would_be_too_long_is_told_in_parts() -> None:
    what = interval(BATCH_RECORDS)
    texts = {number: f"/acme:{'p' * 400}{number}/egress/r" for number in what.flows[0]["rule"].tolist()}
    made = make(what, texts)
    assert len(made) > 1
    assert all(len(each.raw) <= AGENT_LIMIT for each in made)
    assert sum(each.records for each in made) == BATCH_RECORDS
    assert [each.number for each in made] == list(range(1, len(made) + 1))


def test_a_batch_tells_the_texts_of_its_rules_and_of_no_others() -> None:
    what = interval(3)
    text = "/acme:p/egress/r"
    what.flows[0]["rule"] = [RuleRef(text).id, 0, 5]
    (made,) = make(what, {RuleRef(text).id: text, 6: "/other:p/egress/r"})
    assert read(made).rules == [text]


# The disk


def test_batches_come_in_their_order_until_they_are_taken(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for count in (0, 2, 3):
        write(spool, count)
    assert numbers(spool) == [1, 2, 3]
    spool.taken(spool.name, 2)
    assert (numbers(spool), spool.sent) == ([3], 2)
    spool.taken("f" * 16, 99)
    assert numbers(spool) == [3]
    assert numbers(opened(tmp_path)) == [3], "and after a restart"


def test_numbers_go_on_after_a_restart_also_where_all_was_taken(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    write(spool)
    spool.taken(spool.name, 1)
    again = opened(tmp_path)
    assert (again.name, again.number) == (spool.name, 1)
    write(again)
    assert numbers(again) == [2]


def test_what_was_told_is_there_again(tmp_path: Path) -> None:
    write(opened(tmp_path), volume=4)
    told = Spool(tmp_path, most_bytes=ROOM, form="f").open()
    assert told is not None
    head, pieces = told
    assert (head.volume, head.number) == (4, 1)
    assert [(name, number, bytes(raw)) for name, number, raw in pieces] == [
        (name, number, array.tobytes()) for name, number, array in PIECES
    ]


@pytest.mark.parametrize("damage", ["another boot", "told is gone", "told is cut", "told is nonsense", "spool is gone"])
def test_where_nobody_knows_what_was_told_a_new_spool_begins_behind_the_old(tmp_path: Path, damage: str) -> None:
    first = opened(tmp_path)
    write(first)
    file = tmp_path / ("spool" if "spool" in damage else "told")
    if "gone" in damage:
        file.unlink()
    elif "cut" in damage:
        file.write_bytes(file.read_bytes()[:-3])
    elif "nonsense" in damage:
        file.write_bytes(b"nonsense")
    second = Spool(tmp_path, most_bytes=ROOM, form="g" if "boot" in damage else "f")
    assert second.open() is None
    assert second.name != first.name
    write(second)
    write(second)
    assert numbers(second) == [1, 1, 2], "the old one's first"
    second.taken(first.name, 1)
    assert numbers(second) == [1, 2]


def test_the_oldest_go_when_there_is_no_room_and_are_counted_once(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for _ in range(30):
        write(spool, size=3000)
        assert sum(batch.size for batch in spool.batches) <= ROOM + 4096
    left = numbers(spool)
    assert left == list(range(31 - len(left), 31))
    told = [batch.lost.spool for number in left if (batch := spool.after((spool.name, number - 1))) is not None]
    assert spool.removed == left[0] - 1
    assert told == [1] * len(left), "each interval removes one, and says so"


def test_what_was_to_be_removed_when_the_agent_died_is_removed_by_the_next(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for _ in range(10):
        write(spool, size=3000)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if "-" in path.name}
    write(spool, size=3000)
    assert 1 not in numbers(spool)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert numbers(opened(tmp_path)) == numbers(spool)


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_damaged_batch_is_left_out_and_counted(tmp_path: Path, content: bytes | None) -> None:
    spool = opened(tmp_path)
    for count in (1, 5, 1):
        write(spool, count)
    (file,) = tmp_path.glob("*-2-5")
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert numbers(spool) == [1, 3]
    write(spool)
    batch = spool.after((spool.name, 3))
    assert batch is not None
    assert batch.lost.spool == 5
    assert numbers(opened(tmp_path)) == [1, 3, 4]


def test_a_disk_that_refuses_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    write(spool, 1)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serai.agent.spool.frames.write", refuse)
    with pytest.raises(OSError, match="No space"):
        write(spool, 2)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.new"))
    write(spool, 3)
    assert numbers(spool) == [1, 2]
    assert numbers(opened(tmp_path)) == [1, 2]


def test_another_site_gets_nothing_of_what_was(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    write(spool, 3)
    assert spool.is_ours
    forget(tmp_path)
    assert not spool.is_ours
    assert spool.after(None) is None
    spool.open()
    assert (spool.is_ours, list(spool.batches), spool.number) == (True, [], 0)
