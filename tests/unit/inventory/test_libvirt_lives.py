"""What libvirt says of its domains' lives, with libvirt's own test driver: domains in this process, no hypervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

import libvirt
import pytest

from serai.inventory.libvirt import LibvirtWatch, life_after, life_of
from serai.inventory.migration import LibvirtMigration
from serai.model.life import Life

URI = "test:///default"
"""One world for all connections of this process; it has a domain called ``test``, which runs."""
XML = "<domain type='test'><name>{}</name><memory>8192</memory><os><type>hvm</type></os></domain>"


@pytest.mark.parametrize(
    ("kind", "detail", "life"),
    [
        ("STARTED", "STARTED_MIGRATED", Life.HELD),
        ("STARTED", "STARTED_BOOTED", None),
        ("SUSPENDED", "SUSPENDED_MIGRATED", Life.HELD),
        ("SUSPENDED", "SUSPENDED_POSTCOPY", Life.HELD),
        ("SUSPENDED", "SUSPENDED_PAUSED", None),
        ("SUSPENDED", "SUSPENDED_IOERROR", None),
        ("RESUMED", "RESUMED_MIGRATED", Life.RUNS),
        ("RESUMED", "RESUMED_POSTCOPY", Life.RUNS),
        ("RESUMED", "RESUMED_UNPAUSED", Life.RUNS),
        ("RESUMED", "RESUMED_POSTCOPY_FAILED", None),
        ("STOPPED", "STOPPED_MIGRATED", Life.MOVED),
        ("STOPPED", "STOPPED_FAILED", Life.GONE),
        ("STOPPED", "STOPPED_DESTROYED", Life.GONE),
        ("STOPPED", "STOPPED_SHUTDOWN", Life.GONE),
        ("SHUTDOWN", "SHUTDOWN_FINISHED", None),
        ("DEFINED", "DEFINED_ADDED", None),
    ],
)
def test_what_events_mean(kind: str, detail: str, life: Life | None) -> None:
    names = [getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}") for name in (kind, detail)]
    assert life_after(*names) is life


@pytest.mark.parametrize(
    ("state", "reason", "life"),
    [
        ("RUNNING", "RUNNING_BOOTED", Life.RUNS),
        ("RUNNING", "RUNNING_MIGRATED", Life.RUNS),
        ("BLOCKED", "BLOCKED_UNKNOWN", Life.RUNS),
        ("PAUSED", "PAUSED_MIGRATION", Life.HELD),
        ("PAUSED", "PAUSED_STARTING_UP", Life.HELD),
        ("PAUSED", "PAUSED_POSTCOPY", Life.HELD),
        ("PAUSED", "PAUSED_USER", None),
        ("SHUTOFF", "SHUTOFF_MIGRATED", None),
    ],
)
def test_what_states_mean(state: str, reason: str, life: Life | None) -> None:
    numbers = [getattr(libvirt, f"VIR_DOMAIN_{name}") for name in (state, reason)]
    assert life_of(*numbers) is life


class Listener:
    """Follows libvirt, and notes what it says."""

    def __init__(self) -> None:
        self.lives: list[tuple[str, Life]] = []
        self.listings: list[set[str]] = []
        self.seen: list[str] = []

    def listed(self, domains: Collection[str]) -> None:
        self.listings.append(set(domains))

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110  (what is waited for has no event)
                await asyncio.sleep(0.01)


def test_domains_are_told_with_their_lives_and_then_what_becomes_of_them() -> None:
    async def test() -> None:
        told = Listener()
        watch = LibvirtWatch(
            URI, lambda name, _: told.seen.append(name), lambda *life: told.lives.append(life), told.listed
        )
        running = asyncio.create_task(watch.run())
        others = libvirt.open(URI)
        try:
            await told.until(lambda: told.listings)
            assert told.lives == [("test", Life.RUNS)]
            assert told.listings == [{"test"}]
            domain = others.createXML(XML.format("lives"), 0)
            await told.until(lambda: "lives" in told.seen)
            domain.suspend()  # by its owner: that is no move
            domain.resume()
            await told.until(lambda: ("lives", Life.RUNS) in told.lives)
            domain.destroy()
            await told.until(lambda: ("lives", Life.GONE) in told.lives)
            assert told.lives[1:] == [("lives", Life.RUNS), ("lives", Life.GONE)]
            await told.until(lambda: told.seen.count("lives") > 1)
            assert told.seen.count("lives") == 2, "nobody asked for its taps while it was stopped for a moment"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            with contextlib.suppress(libvirt.libvirtError):
                others.lookupByName("lives").destroy()
            others.close()

    asyncio.run(test())


class TestMigration:
    """What libvirt refuses; that it moves guests the lab shows."""

    @staticmethod
    def migration(uri: str = URI) -> LibvirtMigration:
        return LibvirtMigration(uri, destination="qemu+tls://{host}/system?address={address}", seconds=5)

    def test_a_domain_that_is_not_here(self) -> None:
        assert self.migration().migrate("nobody", host="b", address="::1") == "there is no domain nobody here"

    def test_a_hypervisor_that_moves_nobody(self) -> None:
        assert "not supported" in self.migration().migrate("test", host="b", address="127.0.0.1")

    def test_a_daemon_that_is_not_there(self) -> None:
        assert self.migration("qemu+unix:///system?socket=/nonexistent").migrate("test", host="b", address="::1") != ""

    def test_who_is_not_being_moved_away(self) -> None:
        assert self.migration().leaving("nobody") == "there is no domain nobody here"
        assert "test" in self.migration().leaving("test")
        assert "cannot say" in self.migration("qemu+unix:///system?socket=/nonexistent").leaving("test")

    def test_there_is_nothing_to_stop(self) -> None:
        self.migration().stop("nobody")
        self.migration().stop("test")

    def test_one_that_was_stopped_before_it_began(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = self.migration()
        found = made._found

        @contextlib.contextmanager
        def stopped(domain: str) -> Any:
            made._stopped.add(domain)
            with found(domain) as it:
                yield it

        monkeypatch.setattr(made, "_found", stopped)
        assert made.migrate("test", host="b", address="::1") == "it was stopped before it began"
