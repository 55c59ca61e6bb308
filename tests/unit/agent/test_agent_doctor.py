"""What the doctor says of a host that is well, and of one that is not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from credentials import Site, now
from serai.agent import doctor
from serai.agent.config import Config
from serai.agent.install import install_hook
from serai.agent.lastgood import LastGood
from serai.model.ruleset import HostRuleset


def test_an_identity_that_is_good_late_over_damaged_and_none(tmp_path: Path) -> None:
    site = Site.make(tmp_path)
    (none,) = doctor.identity(tmp_path / "b", now())
    assert (none.ok, "host token" in none.remedy) == (False, True)
    site.identity("a")
    for after, ok, told in ((0, True, "host a"), (20, False, "should have been renewed"), (30, False, "it is over")):
        (check,) = doctor.identity(tmp_path / "a", now() + timedelta(hours=after))
        assert check.ok is ok
        assert told in check.finding
    (tmp_path / "a" / "identity" / "host.pem").write_text("nonsense")
    (damaged,) = doctor.identity(tmp_path / "a", now())
    assert damaged.ok is False


def test_the_last_ruleset(tmp_path: Path) -> None:
    assert doctor.last_ruleset(tmp_path).ok is None
    LastGood(tmp_path / "ruleset").write(HostRuleset.of("a", []))
    assert doctor.last_ruleset(tmp_path).ok
    (tmp_path / "ruleset").write_bytes(b"nonsense")
    assert doctor.last_ruleset(tmp_path).ok is False


def test_room_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.disk("disk", tmp_path / "not" / "there").ok
    monkeypatch.setattr(doctor, "LEAST_BYTES", 1 << 60)
    full = doctor.disk("disk", tmp_path)
    assert (full.ok, "make room" in full.remedy) == (False, True)


def test_everything_is_looked_at_and_nothing_is_changed(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    config = Config(
        host="a",
        socket=tmp_path / "none.sock",
        state=tmp_path / "state",
        bpffs=tmp_path / "bpf",
        libvirt="test:///default",
    )
    before = {check.name: check for check in doctor.examine(config, hook=hook)}
    assert {
        "kernel",
        "libvirt",
        "hook",
        "clock",
        "disk of the agent",
        "identity",
        "last ruleset",
        "agent",
    } <= before.keys()
    assert before["libvirt"].ok
    assert before["agent"].ok is False
    assert before["hook"].ok is False
    assert not (tmp_path / "state").exists()
    assert all(check.remedy for check in before.values() if check.ok is False)
    install_hook(hook)
    assert {check.name: check.ok for check in doctor.examine(config, hook=hook)}["hook"]
    hook.write_text("old")
    assert {check.name: check.ok for check in doctor.examine(config, hook=hook)}["hook"] is False
