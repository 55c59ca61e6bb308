"""The control plane: a controller, and 512 agents without kernels in a process of their own, over TLS on this machine.

Both share its processors: what is measured is the controller, the agents and the network between them.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.metric import Metric
from bench.postgres import cluster
from bench.site import Controller, Site, SiteError, site
from serai.lab.population import Document, body_of
from serai.lab.scale import Scale
from serai.wire import api
from serai.wire.client import Client, ClientError

SCALE: Final = Scale(hosts=512, vms=32, vnics=10, tenants=400)
"""320 vNICs on each of 512 hosts."""
EDITS: Final = 200
_PATIENCE_SECONDS: Final = 300
_LAPS: Final = 3


def measure(scale: Scale = SCALE, edits: int = EDITS) -> list[Metric]:
    """Measure one controller over SQLite, then two over PostgreSQL."""
    return [*_one(scale, edits), *_two(scale)]


def _one(scale: Scale, edits: int) -> Iterator[Metric]:
    with tempfile.TemporaryDirectory(prefix="serai-control-") as path:
        directory = Path(path)
        with site(directory, scale, f"sqlite:///{directory}/serai.db") as made:
            made.fill()
            (controller,) = made.controllers
            began = time.monotonic()
            controller.start()
            controller.wait()
            ready = time.monotonic() - began
            made.start_agents()
            with controller.client() as client:
                _settle(client, scale.hosts)
                yield Metric(name="control.join_512_s", value=time.monotonic() - began, unit="s", goal=120)
                yield Metric(name="control.ready_s", value=ready, unit="s")
                yield from _edited(client, made, edits)
                laps = [_ruled(client, made, lap) for lap in range(_LAPS)]
                yield Metric(name="control.global_s", value=max(laps), unit="s", goal=15)
            yield Metric(name="control.rss_gb", value=controller.peak_bytes() / 2**30, unit="GiB", goal=4)


def _edited(client: Client, made: Site, edits: int) -> Iterator[Metric]:
    """Change a port in a rule of one tenant, until every host that it concerns has acknowledged."""
    choice = random.Random(1)  # noqa: S311 (the same every time, on purpose)
    taken = []
    for _ in range(edits):
        tenant, port = choice.randrange(made.scale.tenants), choice.randrange(1024, 65536)
        _, _, app, _ = made.population.policies(tenant, app_port=port)
        began = time.monotonic()
        _apply(client, app)
        taken.append((time.monotonic() - began) * 1000)
    yield Metric(name="control.edit_p99_ms", value=statistics.quantiles(taken, n=100)[98], unit="ms", goal=500)
    yield Metric(name="control.edit_median_ms", value=statistics.median(taken), unit="ms")


def _ruled(client: Client, made: Site, lap: int) -> float:
    """Let the provider deny one prefix more to everybody, until all hosts have acknowledged."""
    began = time.monotonic()
    _apply(client, made.population.ground_rules(f"203.0.113.{lap}/32"))
    return time.monotonic() - began


def _apply(client: Client, document: Document) -> None:
    request = api.ChangeRequest(files={"bench.yaml": body_of(document)})
    applied = client.ask("POST", "/v1/apply", api.Applied, body=request)
    params = {"revision": applied.revision, "timeout": 30}
    status = client.ask("GET", "/v1/wait", api.Status, params=params, seconds=60)
    if status.behind:
        raise SiteError(f"{status.behind} hosts do not hold revision {applied.revision} after 30 s")


def _settle(client: Client, hosts: int) -> None:
    """Wait until all hosts are there, and hold what they should."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        status = client.ask("GET", "/v1/status", api.Status)
        there = sum(host.connected for host in status.hosts)
        if there == hosts and not status.behind:
            return
        if time.monotonic() > until:
            raise SiteError(f"{there} of {hosts} hosts are connected, and {status.behind} are behind")
        time.sleep(0.25)


def _two(scale: Scale) -> Iterator[Metric]:
    """Kill the controller that leads; how long until the other does, and until it serves all hosts."""
    with (
        tempfile.TemporaryDirectory(prefix="serai-control-") as path,
        cluster() as server,
        site(Path(path), scale, server.url, controllers=2) as made,
    ):
        made.fill()
        first, second = made.controllers
        first.start()
        first.wait()
        second.start()
        second.wait()
        made.start_agents()
        with first.client() as client:
            _settle(client, scale.hosts)
        began = time.monotonic()
        first.kill()
        _wait_until_leads(second)
        yield Metric(name="control.takeover_s", value=time.monotonic() - began, unit="s", goal=5)
        with second.client() as client:
            _settle(client, scale.hosts)
        yield Metric(name="control.takeover_all_hosts_s", value=time.monotonic() - began, unit="s")


def _wait_until_leads(controller: Controller) -> None:
    """Wait until a controller has compiled all, and says that it leads."""
    until = time.monotonic() + _PATIENCE_SECONDS
    with controller.client() as client:
        while True:
            try:
                if "serai_leads 1.0" in client.text("/metrics"):
                    return
            except ClientError:
                pass
            if time.monotonic() > until:
                raise SiteError("the second controller does not take over")
            time.sleep(0.02)
