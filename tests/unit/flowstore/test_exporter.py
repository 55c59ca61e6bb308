"""Exports: a real collector reads them, nobody waits for one that is away, and all that is not told is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from flowing import SCHEMA, Row, traffic
from ipfix_reader import Read, Reader
from nfcapd import Collected, free_port
from serai.analysis.export.names import Names
from serai.flowstore.exporter import Exporter, ExportSettings, Told
from serai.flowstore.jsonlines import Block, JsonLines
from serai.model.address import unpack

NOBODY = Names()


@contextlib.asynccontextmanager
async def exporter(settings: ExportSettings) -> AsyncIterator[Exporter]:
    found = Exporter(settings, clock=time.time, version="1.2.3")
    found.start()
    try:
        yield found
    finally:
        await found.close()


async def until(holds: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (the exporter tells nobody)
            await asyncio.sleep(0.02)


def recorded(count: int, seed: int = 7) -> list[Row]:
    """Conversations on three hosts, of both versions of IP."""
    rows = traffic(seed, conversations=count).rows
    for number, row in enumerate(rows):
        if number % 3 == 0:
            for end in ("local", "remote"):
                row[end] = ip_address("2001:db8::").packed[:12] + row[end][12:]
            row["protocol"] = {1: 58}.get(row["protocol"], row["protocol"])
            row["service"] = 128 << 8 if row["protocol"] == 58 else row["service"]
    return rows


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


# IPFIX


def as_collected(row: Row) -> tuple[Any, ...]:
    mine = row["direction"] == 0
    ends = ("local", "remote") if mine else ("remote", "local")
    ports: list[Any] = [row[f"{end}_port"] for end in ends]
    if row["protocol"] in {1, 58}:
        ports = [row["service"] >> 8, row["service"] & 255]
    else:
        ports[1] = ports[1] or row["service"]
    sums = []
    for way in ("out", "in") if mine else ("in", "out"):
        sums += [row[f"packets_{way}"], row[f"bytes_{way}"] - 14 * row[f"packets_{way}"]]
    times = [row["at"] * 1000 - row[each] for each in ("age_ms", "idle_ms")]
    return (row["protocol"], *(str(unpack(row[end])) for end in ends), *ports, *sums, *times)


def as_read(flow: dict[str, Any]) -> tuple[Any, ...]:
    ends = [flow.get(f"{end}4_addr") or flow[f"{end}6_addr"] for end in ("src", "dst")]
    ports = [flow[each] for each in (("icmp_type", "icmp_code") if "icmp_type" in flow else ("src_port", "dst_port"))]
    sums = [flow.get(f"{way}_{what}", 0) for way in ("in", "out") for what in ("packets", "bytes")]
    times = [
        round(datetime.fromisoformat(flow[each]).replace(tzinfo=UTC).timestamp() * 1000) for each in ("first", "last")
    ]
    return (flow["proto"], *(str(ip_address(end)) for end in ends), *ports, *sums, *times)


def test_a_real_collector_reads_what_was_recorded(tmp_path: Path) -> None:
    collected = Collected(tmp_path, free_port(socket.SOCK_DGRAM))
    made = traffic(7, conversations=400)
    names = Names()
    names.learn(made.names())
    rows = recorded(400)
    assert {row["host"] for row in rows} >= {"host-0", "host-1"}

    async def test() -> Told:
        settings = ExportSettings(ipfix=(f"udp://127.0.0.1:{collected.port}",))
        async with exporter(settings) as found:
            await found.offer(table(rows[:100]), names)
            await found.offer(table(rows[100:]), names)
            await until(lambda: found.sent == len(rows))
            return found.figures[settings.ipfix[0]]

    with collected.running():
        assert asyncio.run(test()) == Told(sent=len(rows))
        time.sleep(0.5)  # what is in its buffer
    found = collected.flows()
    assert Counter(map(as_read, found)) == Counter(map(as_collected, rows))
    assert "Sequence Errors: 0, Bad Packets: 0" in collected.log


def test_a_collector_of_datagrams_that_comes_late_misses_nothing() -> None:
    rows = recorded(60)
    port = free_port(socket.SOCK_DGRAM)

    async def test() -> None:
        url = f"udp://127.0.0.1:{port}"
        async with exporter(ExportSettings(ipfix=(url,))) as found:
            await found.offer(table(rows), NOBODY)
            await until(lambda: found.figures[url].trouble)
            assert found.figures[url] == Told(waiting=len(rows), trouble="[Errno 111] Connection refused")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
                late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                late.bind(("127.0.0.1", port))
                late.setblocking(False)
                await until(lambda: found.sent == len(rows))
                assert found.figures[url] == Told(sent=len(rows))
                reader, told = Reader(), 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        raw = late.recv(65536)
                        assert len(raw) <= 1400
                        domain = int.from_bytes(raw[12:16])
                        reader.expected.setdefault(domain, int.from_bytes(raw[8:12]))  # others were sent before
                        told += len(reader.read(raw).records)
                assert told == len(rows)

    asyncio.run(test())


class Listener:
    """A collector that is connected to."""

    def __init__(self) -> None:
        self.connections: list[list[Read]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", port):
            yield
            self.hang_up()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages: list[Read] = []
        self.connections.append(messages)
        self._writers.append(writer)
        known = Reader()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(4)
                raw = header + await reader.readexactly(int.from_bytes(header[2:]) - 4)
                messages.append(known.read(raw))

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    @property
    def records(self) -> int:
        return sum(len(message.records) for messages in self.connections for message in messages)


def test_connections_are_made_anew_and_templates_told_once_in_each() -> None:
    rows = recorded(300)
    port = free_port(socket.SOCK_STREAM)
    hosts = len({row["host"] for row in rows})

    async def test() -> None:
        url = f"tcp://127.0.0.1:{port}"
        listener = Listener()
        async with exporter(ExportSettings(ipfix=(url,))) as found:
            await found.offer(table(rows), NOBODY)
            await until(lambda: found.figures[url].trouble)
            async with listener.running(port):
                await until(lambda: listener.records == len(rows))
                await found.offer(table(rows), NOBODY)
                await until(lambda: listener.records == 2 * len(rows))
                assert len(listener.connections) == 1
                listener.hang_up()
                await asyncio.sleep(0.2)
                await found.offer(table(rows), NOBODY)
                await until(lambda: listener.records == 3 * len(rows))
            assert found.figures[url] == Told(sent=3 * len(rows))
        assert [sum(bool(message.templates) for message in each) for each in listener.connections] == [hosts, hosts]

    asyncio.run(test())


def test_a_socket_opened_anew_is_a_session_of_its_own() -> None:
    rows = [row for row in recorded(60) if row["protocol"]]
    seen: dict[int, Reader] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.setblocking(False)

        async def test() -> None:
            settings = ExportSettings(ipfix=(f"udp://127.0.0.1:{collector.getsockname()[1]}",))
            found = Exporter(settings, clock=time.time, version="1.2.3")
            for times in (1, 2):
                found.start()
                await found.offer(table(rows), NOBODY)
                await until(lambda times=times: found.sent == times * len(rows))  # type: ignore[misc]
                await found.close()
                with contextlib.suppress(BlockingIOError):
                    while True:
                        raw, (_, port) = collector.recvfrom(2000)
                        seen.setdefault(port, Reader()).read(raw)  # templates are known, numbers begin at 0

        asyncio.run(test())
    assert len(seen) == 2


def test_what_waits_when_it_is_closed_is_dropped_once(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no directory")
    rows = recorded(30)

    async def test() -> None:
        settings = ExportSettings(ocsf=f"file://{tmp_path}/log/flows.jsonl")
        found = Exporter(settings, clock=time.time, version="1.2.3")
        found.start()
        for _ in range(3):
            await found.offer(table(rows), NOBODY)
        await until(lambda: found.figures[settings.ocsf].trouble)
        await found.close(seconds=0.01)
        assert (found.sent, found.dropped) == (0, 3 * len(rows))
        (tmp_path / "log").unlink()
        found.start()
        await found.offer(table(rows), NOBODY)
        await until(lambda: found.sent == len(rows))
        await found.close()
        assert found.figures[settings.ocsf] == Told(sent=len(rows), dropped=3 * len(rows))

    asyncio.run(test())


def test_who_is_away_holds_up_nobody_and_what_is_too_much_is_counted(tmp_path: Path) -> None:
    rows = recorded(100)
    away, file = f"tcp://127.0.0.1:{free_port(socket.SOCK_STREAM)}", f"file://{tmp_path}/flows.jsonl"

    async def test() -> None:
        settings = ExportSettings(ipfix=(away,), ocsf=file, waiting_records=len(rows) + 10)
        found = Exporter(settings, clock=time.time, version="1")
        found.start()
        for number in range(1, 4):
            before = time.monotonic()
            await found.offer(table(rows), NOBODY)
            assert time.monotonic() - before < 0.1
            await until(lambda number=number: found.figures[file].sent == number * len(rows))
        assert found.figures[file] == Told(sent=3 * len(rows))
        assert found.figures[away].waiting == len(rows) + 10
        assert found.figures[away].dropped == found.dropped == 2 * len(rows) - 10
        before = time.monotonic()
        await found.close(seconds=0.3)
        assert time.monotonic() - before < 2
        assert found.dropped == 3 * len(rows)
        assert found.sent == 3 * len(rows)
        assert found.figures[away].waiting == 0

    asyncio.run(test())


def test_frames_that_are_not_ip_are_left_out_and_what_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    rows = recorded(20)
    for row in rows[:5]:
        row["protocol"] = 0
    del tmp_path

    async def test() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.bind(("127.0.0.1", 0))
            url = f"udp://127.0.0.1:{there.getsockname()[1]}"
            async with exporter(ExportSettings(ipfix=(url,))) as found:
                await found.offer(table(rows).drop_columns(["vnic"]), NOBODY)
                await found.offer(table(rows), NOBODY)
                await until(lambda: not found.figures[url].waiting)
                assert found.figures[url] == Told(sent=len(rows) - 5, left_out=5, dropped=len(rows))

    asyncio.run(test())


# OCSF


def test_a_file_is_turned_over_and_no_line_is_lost_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "flows.jsonl"
    rows = recorded(400)

    async def test() -> None:
        target = JsonLines(path, most_bytes=200_000, files=20, version="1")
        parcels = [
            parcel for at in range(0, len(rows), 50) for parcel in target.prepare(table(rows[at : at + 50]), NOBODY)[0]
        ]
        assert sum(parcel.records for parcel in parcels) == len(rows)
        for parcel in parcels:
            await target.send(parcel)
        await target.close()

    asyncio.run(test())
    files = sorted(path.parent.iterdir(), key=lambda file: -int(file.suffix[1:]) if file.suffix[1:].isdecimal() else 0)
    assert files[-1] == path
    assert 3 < len(files) < 20
    assert all(100_000 < file.stat().st_size <= 200_000 for file in files[:-1])
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [line["time"] for line in lines] == [row["at"] * 1000 for row in rows]
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_oldest_files_go(tmp_path: Path) -> None:
    for files in (0, 2):
        path = tmp_path / str(files) / "flows.jsonl"
        target = JsonLines(path, most_bytes=10, files=files, version="1")
        for number in range(5):
            asyncio.run(target.send(Block(lines=b"line %d...\n" % number, records=1)))
        asyncio.run(target.close())
        assert (
            sorted(file.name for file in path.parent.iterdir())
            == ["flows.jsonl", "flows.jsonl.1", "flows.jsonl.2"][: files + 1]
        )
        assert path.read_bytes() == b"line 4...\n"
    assert path.with_name("flows.jsonl.2").read_bytes() == b"line 2...\n"


def test_a_file_that_others_move_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    target = JsonLines(path, most_bytes=1000, files=1, version="1")
    asyncio.run(target.send(Block(lines=b"one\n", records=1)))
    path.rename(tmp_path / "elsewhere")
    asyncio.run(target.send(Block(lines=b"two\n", records=1)))
    asyncio.run(target.close())
    assert path.read_bytes() == b"two\n"


def test_half_a_line_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flows.jsonl"
    target = JsonLines(path, most_bytes=1000, files=1, version="1")
    asyncio.run(target.send(Block(lines=b"one\n", records=1)))
    write, room = os.write, [6, 0]

    def full(descriptor: int, raw: bytes) -> int:
        if not (left := room.pop(0)):
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(raw)[:left])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            asyncio.run(target.send(Block(lines=b"number two\n", records=1)))
    assert path.read_bytes() == b"one\n"
    asyncio.run(target.send(Block(lines=b"number two\n", records=1)))
    asyncio.run(target.close())
    assert path.read_bytes() == b"one\nnumber two\n"


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    rows = recorded(10)
    (tmp_path / "place").write_text("no directory")

    async def test() -> None:
        url = f"file://{tmp_path}/place/flows.jsonl"
        async with exporter(ExportSettings(ocsf=url)) as found:
            await found.offer(table(rows), NOBODY)
            await until(lambda: found.figures[url].trouble)
            (tmp_path / "place").unlink()
            await until(lambda: found.sent == len(rows))
            assert not found.figures[url].trouble
        assert len((tmp_path / "place" / "flows.jsonl").read_text().splitlines()) == len(rows)

    asyncio.run(test())


# Settings


def test_nothing_is_exported_by_default() -> None:
    async def test() -> None:
        async with exporter(ExportSettings()) as found:
            await found.offer(table(recorded(10)), NOBODY)
            assert not found.figures
        assert (found.sent, found.dropped) == (0, 0)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"ipfix": ["http://collector:4739"]}, "udp://HOST:PORT"),
        ({"ipfix": ["udp://:4739"]}, "udp://HOST:PORT"),
        ({"ipfix": ["udp://collector:99999"]}, "no good port"),
        ({"ipfix": ["tcp://collector/path"]}, "udp://HOST:PORT"),
        ({"ipfix": ["udp://user@collector"]}, "udp://HOST:PORT"),
        ({"ipfix": ["udp://collector", "udp://collector"]}, "twice"),
        ({"ocsf": "/var/log/flows.jsonl"}, "file:///PATH"),
        ({"ocsf": "file://host/flows.jsonl"}, "file:///PATH"),
        ({"ocsf_megabytes": 0}, ">= 1"),
        ({"syslog": "udp://collector"}, "unknown field"),
    ],
)
def test_settings_that_are_none_say_why(given: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(given, ExportSettings)


def test_settings_that_are_some() -> None:
    found = msgspec.convert(
        {"ipfix": ["udp://collector", "tcp://[2001:db8::1]:4740"], "ocsf": "file:///var/log/serai/flows.jsonl"}, ExportSettings
    )  # fmt: skip
    assert list(Exporter(found, clock=time.time, version="1").figures) == [*found.ipfix, found.ocsf]
