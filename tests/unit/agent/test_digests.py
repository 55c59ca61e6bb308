"""Digests of what VMs boot from: right, remembered, and forgotten as soon as a file is another."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
import time
from pathlib import Path

import pytest

from serai.agent import digests
from serai.agent.digests import Booted, Digests
from serai.inventory.booting import Boot
from serai.inventory.layers import open_file


def told(known: Digests, *files: Path, seconds: float = 60) -> list[Booted]:
    return asyncio.run(known.of([Boot(what=file.name, path=str(file)) for file in files], seconds))


def right(file: Path) -> Booted:
    return Booted(what=file.name, path=str(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files are read whole."""
    found: list[str] = []
    real = hashlib.sha256

    def counted(content: bytes = b"") -> object:
        found.append(threading.current_thread().name)
        return real(content)

    monkeypatch.setattr(digests.hashlib, "sha256", counted)
    return found


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need not be old to be remembered."""
    monkeypatch.setattr(digests, "_FRESH_NS", -(10**18))


def made(directory: Path, name: str = "kernel", content: bytes = b"k" * 3_000_000) -> Path:
    file = directory / name
    file.write_bytes(content)
    return file


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_also_by_later_agents(tmp_path: Path, reads: list[str]) -> None:
    file, store = made(tmp_path), tmp_path / "state/digests.json"
    expected = [right(file)]
    reads.clear()
    known = Digests(store)
    assert told(known, file) == expected
    assert told(known, file) == expected
    assert told(Digests(store), file) == expected
    assert len(reads) == 1
    assert store.stat().st_mode & 0o77 == 0


@pytest.mark.usefixtures("settled")
def test_a_file_that_is_another_is_read_again_whatever_its_times_say(tmp_path: Path) -> None:
    file, known = made(tmp_path), Digests(tmp_path / "digests.json")
    before, [first] = file.stat(), told(known, file)
    time.sleep(0.02)  # the kernel's clock for files is coarse
    with file.open("r+b") as opened:
        opened.write(b"X")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    [second] = told(known, file)
    assert second == right(file)
    assert second.sha256 != first.sha256
    other = made(tmp_path, "other", b"other")
    other.replace(file)
    assert told(known, file) == [right(file)]


def test_what_has_changed_just_now_is_not_remembered(tmp_path: Path, reads: list[str]) -> None:
    file, known = made(tmp_path), Digests(tmp_path / "digests.json")
    for _ in range(2):
        told(known, file)
    assert len(reads) == 2


@pytest.mark.usefixtures("settled")
def test_a_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    file, store = made(tmp_path), tmp_path / "digests.json"
    for content in (b"", b"[]", b'{"/k": {"stamp": [1, 2, 3, 4, 5], "sha256": "no"}}'):
        store.write_bytes(content)
        assert told(Digests(store), file) == [right(file)]


class Slow:
    """A file whose reader waits to be let on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.go, self.opened = threading.Event(), 0

        class Reader(io.FileIO):
            def readinto(inner, chunk: bytearray) -> int:  # type: ignore[override]  # noqa: N805
                found = super().readinto(chunk)
                if not found:
                    self.go.wait(60)
                return found

        def slowly(name: str) -> io.FileIO:
            if name != str(path):
                return open_file(name)
            self.opened += 1
            return Reader(name)

        monkeypatch.setattr(digests, "open_file", slowly)


@pytest.mark.usefixtures("settled")
def test_who_cannot_wait_is_told_how_far_it_is_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big, small, known = made(tmp_path, "big"), made(tmp_path, "small", b"s"), Digests(tmp_path / "digests.json")
    slow = Slow(monkeypatch, big)
    found = told(known, big, small, seconds=0.5)
    assert [each.sha256 for each in found] == ["", ""]
    assert found[0].why == "it is being read for the first time (100 %): try again in a while"
    assert "try again in a while" in found[1].why
    threading.Timer(0.2, slow.go.set).start()
    assert told(known, big, small) == [right(big), right(small)]
    assert slow.opened == 1, "who asks meanwhile waits for the same reading"


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, known = made(tmp_path, "big"), Digests(tmp_path / "digests.json")
    slow = Slow(monkeypatch, file)

    def change() -> None:
        with file.open("ab") as opened:
            opened.write(b"more")
        slow.go.set()

    threading.Timer(0.2, change).start()
    [found] = told(known, file)
    assert found.why == "it has changed while it was read"
    assert told(known, file) == [right(file)]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    known = Digests(tmp_path / "digests.json")
    [gone] = told(known, tmp_path / "gone")
    assert gone.why == "it cannot be read: No such file or directory"
    [raw] = asyncio.run(known.of([Boot(what="disk vda", path="/srv/d", written=True)], 5))
    assert raw.why.startswith("the guest writes to it")
    assert asyncio.run(known.of([], 5)) == []
