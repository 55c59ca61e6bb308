"""``serai watch``: what is seen, what keys do, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import Input

from fake_network import DENIED_PACKETS, MOST, VMS, FakeNetwork
from serai.analysis.filter import parse
from serai.cli.main import main
from serai.cli.traffic.figures import chart, thin_bar
from serai.cli.traffic.live.app import WatchApp
from serai.cli.traffic.live.entry import Entry
from serai.cli.traffic.live.listing import Listing
from serai.cli.traffic.live.panes import Help
from serai.cli.traffic.live.place import WINDOWS, Condition, Place, service_is
from serai.cli.traffic.live.poller import Answer, Poller
from serai.cli.traffic.live.question import Question, View
from serai.cli.traffic.live.way import Way


class Watch:
    """An application that somebody uses."""

    def __init__(self, app: WatchApp, pilot: Pilot[None], network: FakeNetwork) -> None:
        self.app, self.pilot, self.network = app, pilot, network

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settled()

    async def settled(self) -> None:
        await self.until(lambda: self.app._view is not None or self.app._error is not None)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(200):
            await self.pilot.pause(0.02)
            if condition():
                await self.pilot.pause()
                return
        raise AssertionError("it never came")

    def screen(self) -> str:
        return "\n".join(
            "".join(segment.text for segment in strip) for strip in self.app.screen._compositor.render_strips()
        )

    def line(self, text: str) -> str:
        return next(line for line in self.screen().splitlines() if text in line)


@contextlib.asynccontextmanager
async def watching(
    network: FakeNetwork | None = None, *, size: tuple[int, int] = (100, 30), seconds: float = 30, **how: str
) -> AsyncIterator[Watch]:
    network = network or FakeNetwork()
    start = {"scope": "/", "group": "vm", "window": "10m", "narrowed": "", **how}
    app = WatchApp(network.client(), Way(**start), seconds=seconds)
    async with app.run_test(size=size) as pilot:
        watch = Watch(app, pilot, network)
        await watch.settled()
        yield watch


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


# What is seen


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 60)])
def test_everything_fits(size: tuple[int, int]) -> None:
    async def use() -> None:
        async with watching(size=size) as watch:
            for _ in range(3):
                told = watch.screen().splitlines()
                assert len(told) == size[1]
                assert "Quit" in told[-1]
                assert "serai" in told[0]
                assert "100.0 % of 48213 records" in told[1]
                await watch.press("enter")

    run(use())


def test_who_sends_most_what_is_spoken_and_what_is_denied() -> None:
    async def use() -> None:
        async with watching() as watch:
            first, second = watch.screen().splitlines()[4:6]
            assert first.split()[1] == f"▌{VMS[0]}"
            assert second.split()[1] == VMS[1]
            assert "Mbit/s" in first
            assert "╸" in second
            assert "╸" not in first
            assert "in all" in watch.screen()
            assert "icmp" in watch.screen()
            assert "▲" in watch.screen()
            denied = watch.line("198.51.100.7")
            assert denied.split()[2:6] == ["198.51.100.7", "→", "/globex/www:front-1", "tcp/22"]
            assert denied.split()[6:8] == ["61.7", "k"]  # all of them, not those of the latest records alone
            assert "ingress/no-ssh" in denied
            assert "no_flow" in watch.line("tcp/6379")
            assert "370 k packets in all" in watch.screen()
            assert "● live" in watch.screen()

    run(use())


def test_what_is_incomplete_is_told() -> None:
    async def use() -> None:
        async with watching(FakeNetwork(whole=False)) as watch:
            assert "97.2 % of 48213 records; hv-7 silent" in watch.screen()

    run(use())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("late", [0, 3.5, 9, 31, 59])
@pytest.mark.parametrize("place", [Place.at("/"), Place.at("/").to_vm(VMS[0])], ids=["group", "vm"])
def test_rates_are_those_of_the_steps_that_are_told(place: Place, window: str, late: float) -> None:
    now = datetime(2026, 11, 24, 14, 7, tzinfo=UTC) + timedelta(seconds=late)
    question = Question(place=place, group="vm", window=window, narrowed="", steps=60)
    for begins in (None, now - timedelta(seconds=41), now - timedelta(hours=3, seconds=7)):
        view = question.ask(FakeNetwork(begins=begins).client(), now)
        assert max(line.bytes for line in view.lines) / view.seconds == pytest.approx(MOST, rel=1e-6)


def test_what_is_denied_is_told_the_latest_first() -> None:
    question = Question(place=Place.at("/acme"), group="vm", window="1h", narrowed="", steps=60)
    network = FakeNetwork()
    view = question.ask(network.client(), datetime(2026, 11, 24, 14, 7, tzinfo=UTC))
    assert [each.packets for each in view.denials] == [DENIED_PACKETS // part for part in (1, 2, 3, 4)]
    assert [each.last for each in view.denials] == sorted((each.last for each in view.denials), reverse=True)
    assert [each.why for each in view.denials] == [
        "/acme:shop/egress/db-only",
        "/:baseline/ingress/no-ssh",
        "no_flow",
        "/globex:crm/egress/no-dns",
    ]
    asked = next(url.params for url in network.asked if url.params.get("by") == "denied")
    assert asked["filter"] == '(scope="/acme" or peer.scope="/acme")'
    for each in view.denials:
        assert parse(each.goes.near(""))


# Keys


def test_one_looks_closer_down_to_a_record_and_back() -> None:
    async def use() -> None:
        async with watching() as watch:
            await watch.press("down", "down", "enter")
            assert "/ ▸ db" in watch.screen()
            assert watch.network.last("map")["filter"] == '(vm="/acme/shop:db" or peer="/acme/shop:db")'
            assert watch.network.last("trends")["of"] == "/acme/shop:db"
            assert watch.app.query_one("#lines", Listing).border_title == "Peers"
            assert "denied" in watch.line("/globex/crm:db")
            await watch.press("down", "enter")
            assert "203.0.113.9 tcp/443" in watch.screen()
            assert watch.network.last("flows")["filter"] == (
                'src="203.0.113.9" and dst="/acme/shop:db" and service="tcp/443" and verdict="accepted"'
            )
            assert "/acme/shop:web-1/nic0 on host-1" in watch.screen()
            assert "port 50000" in watch.screen()
            await watch.press("down")
            await watch.until(lambda: "port 50001" in watch.screen())
            await watch.press("enter")  # there is nothing closer
            await watch.press("escape")
            row = watch.app.query_one("#lines", Listing).row
            assert row is not None
            assert row.key == ("←", "203.0.113.9", "tcp/443", "accepted")
            await watch.press("backspace")
            row = watch.app.query_one("#lines", Listing).row
            assert row is not None
            assert row.key == ("", "/acme/shop:db", "", "accepted")
            await watch.press("backspace")
            assert watch.app._way.titles == ["/"]

    run(use())


def test_what_was_denied_is_looked_at() -> None:
    async def use() -> None:
        async with watching() as watch:
            await watch.press("tab", "enter")
            assert watch.app._way.here.kind == "records"
            told = watch.network.last("flows")["filter"]
            assert told.startswith('verdict="denied" and src="')
            assert parse(told)

    run(use())


def test_groups_are_opened() -> None:
    async def use() -> None:
        async with watching() as watch:
            await watch.until(lambda: "label:tier" in watch.app._way._groups)
            for group in ("tenant", "scope", "label:tier"):
                await watch.press("g")
                assert watch.network.last("top")["group"] == group
            await watch.press("enter")
            assert watch.network.last("top")["filter"] == 'label.tier="web"'
            denied = watch.network.last("flows")["filter"]
            assert denied == 'verdict="denied" and (label.tier="web" or peer.label.tier="web")'
            await watch.press("g", "g", "enter")
            assert watch.app._way.titles == ["/", "tier=web", "/acme"]
            assert watch.network.last("trends")["of"] == "/acme"
            assert watch.network.last("trends")["filter"] == 'label.tier="web"'
            assert watch.network.last("top")["filter"] == 'scope="/acme" and label.tier="web"'

    run(use())


def test_another_time_is_looked_at() -> None:
    async def use() -> None:
        async with watching(window="1h") as watch:
            await watch.press("t")
            assert "last 1d" in watch.screen()
            await watch.press("t")
            assert "last 1m" in watch.screen()

    run(use())


def test_a_filter_narrows_down_everything() -> None:
    async def use() -> None:
        async with watching(scope="/acme") as watch:
            await watch.press("slash", *"dport=443 or dport=80", "enter")
            await watch.until(lambda: not watch.app.query_one(Entry).is_open)
            await watch.settled()
            assert watch.network.last("top")["filter"] == 'scope="/acme" and (dport=443 or dport=80)'
            assert watch.network.last("trends")["filter"] == "dport=443 or dport=80"
            assert watch.network.last("flows")["filter"].endswith("and (dport=443 or dport=80)")
            assert "filter dport=443 or dport=80" in watch.screen()
            assert watch.app.query_one("#lines", Listing).has_focus

    run(use())


def test_what_is_no_filter_is_shown_where_it_is_wrong() -> None:
    async def use() -> None:
        async with watching() as watch:
            before = watch.network.last("top")
            await watch.press("slash", *"vm=a and dprot=443", "enter")
            await watch.until(lambda: "did you mean" in watch.screen())
            told = watch.screen().splitlines()
            at = next(place for place, text in enumerate(told) if "^ there is no field 'dprot'" in text)
            assert told[at].index("^") == told[at - 1].index("dprot")
            assert watch.app.query_one("#filter", Input).has_focus
            await watch.press("escape")
            assert "did you mean" not in watch.screen()
            assert watch.app._way.narrowed == ""
            assert watch.network.last("top") == before
            await watch.press("slash", "q", "g")  # letters are letters here
            assert watch.app.query_one("#filter", Input).value == "qg"

    run(use())


def test_a_pause_is_a_pause() -> None:
    async def use() -> None:
        async with watching(seconds=0.1) as watch:
            count = len(watch.network.asked)
            await watch.until(lambda: len(watch.network.asked) > count + 4)
            await watch.press("p")
            assert "‖ paused" in watch.screen()
            await watch.pilot.pause(0.3)
            count = len(watch.network.asked)
            await watch.pilot.pause(0.4)
            assert len(watch.network.asked) == count
            await watch.press("p")
            await watch.until(lambda: len(watch.network.asked) > count)

    run(use())


def test_keys_are_explained_while_answers_come() -> None:
    async def use() -> None:
        async with watching(seconds=0.1) as watch:
            await watch.press("question_mark")
            assert isinstance(watch.app.screen, Help)
            count = len(watch.network.asked)
            await watch.until(lambda: len(watch.network.asked) > count + 4)
            assert "go back up" in watch.screen()
            await watch.press("escape")
            assert not isinstance(watch.app.screen, Help)

    run(use())


# When things go wrong


def test_it_goes_on_asking_while_nobody_answers() -> None:
    async def use() -> None:
        async with watching(seconds=0.1) as watch:
            watch.network.away = True
            await watch.until(lambda: "○ no answer" in watch.screen())
            assert "does not answer in time" in watch.screen()
            assert "What is shown is from" in watch.screen()
            assert VMS[0] in watch.screen()
            watch.network.away = False
            await watch.until(lambda: "● live" in watch.screen())
            assert "No answer" not in watch.screen()

    run(use())


def test_it_begins_without_an_answer() -> None:
    async def use() -> None:
        network = FakeNetwork()
        network.away = True
        async with watching(network, seconds=0.1) as watch:
            assert "○ no answer" in watch.screen()
            network.away = False
            await watch.until(lambda: VMS[0] in watch.screen())

    run(use())


def test_who_may_not_is_told() -> None:
    async def use() -> None:
        network = FakeNetwork()
        network.status = 403
        async with watching(network) as watch:
            assert "your roles do not let you see traffic" in watch.screen()
            assert "○ refused" in watch.screen()

    run(use())


def test_the_cursor_stays_on_what_it_is_on() -> None:
    async def use() -> None:
        async with watching() as watch:
            await watch.press("down", "down")
            listing = watch.app.query_one("#lines", Listing)
            kept = listing.row
            listing.show([*listing.rows[2:], *listing.rows[:2]], empty="")
            assert listing.row is kept
            listing.show(listing.rows[1:], empty="")
            assert listing.row is not kept
            await watch.press("end")
            assert listing.row is listing.rows[-1]

    run(use())


def test_without_colours_the_cursor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def use() -> None:
        async with watching() as watch:
            assert watch.app.no_color
            assert watch.line(VMS[0]).lstrip("│ ").startswith("▌")
            colours = {
                tuple(segment.style.color.triplet or ())
                for strip in watch.app.screen._compositor.render_strips()
                for segment in strip.apply_filter(watch.app._filters[0], watch.app.screen.background_colors[1])
                if segment.style and segment.style.color
            }
            assert all(len(set(colour)) <= 1 for colour in colours)

    run(use())


# Parts


def test_places_write_filters() -> None:
    place = Place.at("/")
    assert place.near("") == place.either("") == ""
    assert place.near("a=1 or b=2") == "a=1 or b=2"
    inside = Place.at("/acme").into("label:tier", "(none)")
    assert inside is not None
    assert inside.near("") == 'scope="/acme" and label.tier=""'
    for text in (inside.near("vm=a or vm=b"), inside.either("vm=a"), Condition("label.k", 'a "quoted" value').near):
        assert parse(text)
    assert place.into("tenant", "(none)") is not None
    assert place.into("scope", "(elsewhere)") is None
    assert place.into("vm", "10.0.0.1") is None
    scope = place.into("tenant", "acme")
    assert scope is not None
    assert scope.scope == "/acme"
    for group, name in (("host", "hv-1"), ("host", "(none)"), ("network", "/acme:front")):
        on = Place.at("/acme").into(group, name)
        assert on is not None
        assert parse(on.near("vm=a"))
        assert parse(on.either("", Condition("verdict", "denied")))
    on = place.into("host", "hv-1")
    assert on is not None
    assert (on.title, on.near(""), on.either("")) == ("hv-1", 'host="hv-1"', 'host="hv-1"')
    for service in ("-", "tcp/443", "icmp/8.0", "47", "tcp"):
        assert parse(service_is(service).near)


def test_the_poller_tells_of_bugs() -> None:
    told: list[Answer] = []

    class Bug:
        def ask(self, client: object, now: object) -> object:
            del client, now
            raise KeyError("a bug")

    async def use() -> None:
        poller = Poller(FakeNetwork().client(), told.append, seconds=30)
        poller.start()
        poller.once(Bug())
        poller.watch(Question(place=Place.at("/"), group="vm", window="1m", narrowed="", steps=10))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(told) == 2:
                break
        poller.stop()

    run(use())
    assert [type(answer.error) for answer in told] == [KeyError, type(None)]
    assert isinstance(told[1].found, View)


def test_graphs_show_whatever_there_was() -> None:
    assert chart([0, 1, 1000], 3, 2) == ["  █", " ▁█"]
    assert chart([1, 2], 4, 1) == ["▄▄██"]
    assert chart([], 3, 2) == ["   ", "   "]
    assert chart([1, 9, 2, 2], 2, 1) == ["█▂"]
    assert [thin_bar(share, 4) for share in (0, 0.5, 0.6, 2)] == [
        ("", "━━━━"),
        ("━━", "━━"),
        ("━━╸", "━"),
        ("━━━━", ""),
    ]


def test_it_wants_a_terminal() -> None:
    result = CliRunner().invoke(main, ["watch"])
    assert result.exit_code == 2
    assert "there is no terminal to draw on" in result.output


def test_only_the_screen_itself_loads_what_draws_it() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from serai.cli.main import main\n"
        "assert CliRunner().invoke(main, ['watch', '--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['top', '--help']).exit_code == 0\n"
        "print(sorted(name for name in sys.modules if name.startswith(('textual', 'lark'))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False, timeout=30
    )
    assert result.stdout == "[]\n", result.stderr
