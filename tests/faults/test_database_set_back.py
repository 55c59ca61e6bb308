"""Somebody sets the database back behind everybody's back: the hosts are witnesses, and so is whoever kept a checkpoint."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sites import Site, site

from serai.wire import api


def checkpoint(at: Site) -> str:
    with at.client() as client:
        return client.ask("GET", "/v1/audit/checkpoint", api.Checkpoint).note


def verdict(at: Site, *kept: str) -> api.AuditVerdict:
    with at.client() as client:
        asked = api.AuditVerifyRequest(checkpoints=list(kept))
        return client.ask("POST", "/v1/audit/verify", api.AuditVerdict, body=asked)


def says(at: Site, sentence: str) -> bool:
    """Look whether the controller says so of itself to whoever asks whether it is well."""
    time.sleep(0.3)  # who asks too often is sent away
    with at.client() as client:
        health = client.health()
    return not health.ok and sentence in health.parts["audit"]


def test_what_is_cut_off_is_missed(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        at.connect()
        at.until(lambda: at.stand(80), "both hosts hold the first rulesets")
        at.kill()
        before = (tmp_path / "serai.db").read_bytes(), (tmp_path / "serai.db-wal").read_bytes()
        at.start()
        for port in range(81, 86):
            assert at.apply(port) is not None
        at.until(lambda: at.stand(85), "both hosts hold what is in force")
        at.kill()
        at.start()  # the hosts come again, and are given the latest checkpoint
        at.until(lambda: at.stand(85), "the hosts are back")
        kept = checkpoint(at)
        assert verdict(at, kept).ok
        at.kill()
        (tmp_path / "serai.db").write_bytes(before[0])
        (tmp_path / "serai.db-wal").write_bytes(before[1])
        at.start()
        assert at.head() == 1
        assert verdict(at).ok, "by itself it is whole"
        told = verdict(at, kept)
        assert not told.ok
        assert any("records, and there were" in fault for fault in told.faults), told.faults
        at.until(lambda: says(at, "records, and there were"), "the hosts have told")


def test_a_record_that_is_changed_is_found(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        for port in range(80, 84):
            assert at.apply(port) is not None
        at.kill()
        with sqlite3.connect(tmp_path / "serai.db") as database:
            (body,) = database.execute("SELECT body FROM audit WHERE seq = 3").fetchone()
            database.execute("UPDATE audit SET body = ? WHERE seq = 3", (body.replace(b'"apply"', b'"label"'),))
        database.close()
        at.start()
        assert not verdict(at).ok
