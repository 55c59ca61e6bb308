"""Machine definitions that were right are kept, whole or not at all, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from serai.agent import definitions
from serai.agent.definitions import Definitions
from serai.inventory.definition import digest_of


def machine(name: str) -> str:
    return f"<domain><name>{name}</name></domain>"


def test_what_is_known_is_compared_also_by_later_agents(tmp_path: Path) -> None:
    wanted = digest_of(machine("a"))
    known = Definitions(tmp_path / "kept")
    assert known.explain(wanted, machine("b")) == ""
    known.remember(machine("a"))
    assert Definitions(tmp_path / "kept").explain(wanted, machine("b")) == "name is otherwise"
    assert known.explain(wanted, machine("a")) == ""


def test_what_is_damaged_is_not_known(tmp_path: Path) -> None:
    known, wanted = Definitions(tmp_path), digest_of(machine("a"))
    for content in (b"", b"x", b"\xff"):
        (tmp_path / wanted).write_bytes(content)
        assert known.explain(wanted, machine("b")) == ""


def test_the_oldest_goes_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_MOST", 3)
    known = Definitions(tmp_path)
    for at in range(5):
        known.remember(machine(f"m{at}"))
    assert len(list(tmp_path.iterdir())) == 3
    assert known.explain(digest_of(machine("m4")), machine("x"))


def test_a_disk_that_refuses_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Definitions(tmp_path / "file").remember(machine("a"))
