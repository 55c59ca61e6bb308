"""Two that think they are the one: agents of one host, controllers of one site."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from sites import HOSTS, Memory, digest, site

from bench.postgres import cluster
from serai.lab.simulated import Pool


def test_the_newer_agent_of_a_host_wins_and_the_older_is_silent_for_good(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        at.connect()
        at.until(lambda: at.stand(80), "both hosts hold the first rulesets")
        older = at.agents["a"]
        (tmp_path / "twin").mkdir()
        for file in (tmp_path / "a").rglob("*"):  # a copy of the disk, without what the link remembers
            if file.is_file() and file.name != "link.json":
                copy = tmp_path / "twin" / file.relative_to(tmp_path / "a")
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(file.read_bytes())
                copy.chmod(file.stat().st_mode)
        newer = Memory("a", Pool())
        agent = at.link("a", newer, state="twin")
        at.until(lambda: bool((status := older.link.status()) and status.fenced), "the older one is fenced")
        assert at.apply(81) == 2
        at.until(lambda: newer.held()[0] == bytes.fromhex(digest("a", 81)), "the newer one is told")
        time.sleep(1)
        assert older.host.held()[0] == bytes.fromhex(digest("a", 80)), "the older one hears nothing any more"
        status = agent.link.status()
        assert status
        assert status.connected
        assert at.status()["a"].epoch == 2


def test_a_leader_that_was_asleep_can_do_no_harm(tmp_path: Path) -> None:
    with cluster() as server, site(tmp_path, server.url) as first:
        assert first.apply(80) == 1
        second = first.another()
        try:
            second.start()
            both = [first.agents_url, second.agents_url]
            first.connect(by=dict.fromkeys(HOSTS, both))
            first.until(lambda: first.stand(80), "both hosts hold the first rulesets")
            assert first.process is not None
            first.process.send_signal(signal.SIGSTOP)
            server.connect().execute(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted"
            )
            second.until(second.leads, "the second one takes over")
            second.until(lambda: second.apply(81) is not None, "it makes changes")
            second.until(lambda: second.stand(81), "and tells all hosts")
            first.process.send_signal(signal.SIGCONT)
            time.sleep(3)
            assert not first.leads()
            assert second.stand(81)
            assert second.apply(82) is not None
            second.until(lambda: second.stand(82), "and goes on to")
        finally:
            second.close()
