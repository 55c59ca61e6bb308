"""PostgreSQL is killed in the midst of changes: what was acknowledged is there when it is back, and hosts keep what they hold."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sites import site

from bench.postgres import cluster
from serai.wire import api
from serai.wire.client import ClientError


def test_killed_while_changes_are_made(tmp_path: Path) -> None:
    with cluster(durable=True) as server, site(tmp_path, server.url) as at:
        assert at.apply(80) == 1
        at.connect()
        at.until(lambda: at.stand(80), "both hosts hold the first rulesets")

        acknowledged: dict[int, int] = {}
        some = threading.Event()
        stop = threading.Event()

        def change() -> None:
            for port in range(1000, 3000):
                if stop.is_set():
                    return
                revision = at.apply(port, message=str(port))
                if revision is not None:
                    acknowledged[revision] = port
                    if len(acknowledged) > 20:
                        some.set()

        changing = threading.Thread(target=change)
        changing.start()
        assert some.wait(30)
        server.stop(kill=True)
        stop.set()
        changing.join(30)
        held = {name: host.held()[0] for name, host in at.hosts.items()}
        request = api.ChangeRequest(files={"all.yaml": "kind: Site"})
        with at.client() as client, pytest.raises(ClientError) as refused:
            client.ask("POST", "/v1/apply", api.Applied, body=request)
        assert refused.value.status in {401, 503}
        assert all(host.held()[0] == held[name] for name, host in at.hosts.items()), "hosts go on with what they hold"

        server.start()
        at.until(lambda: at.apply(4000) is not None, "changes are made again")
        at.until(lambda: at.stand(4000), "both hosts hold what is in force")
        with at.client() as client:
            found = {
                revision.number: revision.message
                for revision in client.ask("GET", "/v1/revisions", api.Revisions, params={"limit": 1000}).revisions
            }
        assert {number: found.get(number) for number in acknowledged} == {n: str(p) for n, p in acknowledged.items()}
        assert at.audit_is_whole()
