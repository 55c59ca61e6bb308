"""The verbs about traffic, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fake_service import FakeService
from fake_traffic import AT, a_record
from serai.cli.traffic.columns import Columns
from serai.cli.traffic.figures import bar, count, per_second, rate, size, sparkline
from serai.controller.api.doorkeeper import Limits
from serai.model.reasons import Reason
from serai.wire import flowapi
from served import served
from typed import data, serai, sign_in

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
INCOMPLETE = "97.2 % of 1000 records; host-7 silent 14:00:00-14:01:30 UTC"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeService, str]]:
    service = FakeService()
    with served(service, limits=Limits(burst=10_000, strangers_burst=10_000)) as at:
        yield service, at


@pytest.fixture(autouse=True)
def service(running: tuple[FakeService, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    sign_in(monkeypatch, tmp_path, running[1])
    running[0].spans = []
    return running[0]


VERBS = [
    ("flows",), ("top",), ("trends", "/acme"), ("map",), ("who", "web-1"), ("drops", "/acme"), ("sightings", "web-1"), ("suggest", "/acme"), ("whatif", str(EXAMPLE)),
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_every_answer_ends_with_how_complete_it_is(words: tuple[str, ...]) -> None:
    status = 1 if words[0] == "whatif" else 0
    assert serai(*words, status=status).stderr.splitlines()[-1] == INCOMPLETE
    found = data(*words, status=status)
    assert found["completeness"]["percent"] == 97.2


@pytest.mark.parametrize("words", [verb for verb in VERBS if verb[0] not in {"suggest", "whatif"}], ids=lambda w: w[0])
def test_times_are_those_that_were_typed(words: tuple[str, ...], service: FakeService) -> None:
    serai(*words, "--since", "2h", "--until", "1h ago")
    [span] = service.spans
    assert span.until - span.since == timedelta(hours=1)
    assert abs(datetime.now(UTC) - timedelta(hours=1) - span.until) < timedelta(minutes=1)
    assert "'soon' is no time" in serai(*words, "--since", "soon", status=2).output
    assert "is not before" in serai(*words, "--since", "1h", "--until", "2h", status=2).output


def test_records_are_lines_the_latest_last() -> None:
    result = serai("flows", "vm=web-1", "and", "dport=5432")
    heading, denied, accepted = result.stdout.splitlines()
    assert heading.split("  ")[0] == "TIME"
    assert (
        heading.index("RULE OR REASON")
        == denied.index("/acme:shop/egress/db")
        == accepted.index("/acme:shop/egress/db")
    )
    assert denied.split()[2:5] == ["/acme/shop:web-1", "/acme/shop:db", "tcp/5432"]
    assert denied.endswith("; no answer")
    assert "accepted       22    100 kB" in accepted
    assert "Only the latest 1: say -n" in serai("flows", "-n", "1").stderr


def test_the_words_of_a_filter_are_one_filter(service: FakeService) -> None:
    serai("flows", "vm=web-1", "and", "dport=443")
    serai("top", "--filter", "vm=web-1 and dport=443")
    assert [span.narrowed for span in service.spans] == ["vm=web-1 and dport=443"] * 2


@pytest.mark.parametrize("words", [("flows", "vm=a and dprot=443"), ("map", "--filter", "vm=a and dprot=443")])
def test_what_is_wrong_with_a_filter_is_shown_where_it_is(words: tuple[str, ...]) -> None:
    told = serai(*words, status=2).output
    assert "vm=a and dprot=443\n         ^ there is no field 'dprot': did you mean 'dport'?\n" in told


def test_lists_have_shares_of_everything() -> None:
    told = serai("top", "talkers").stdout
    [row] = [text for text in told.splitlines() if "web-1" in text]
    assert row.split()[1:] == ["3.0", "MB", "75.0%", bar(0.75, 12).strip(), "2.0", "k", "10"]
    assert "In all 4.0 MB, 4.0 k packets, 12 connections." in told
    denied = serai("top", "denied").stdout
    assert "/acme:shop/egress/db" in denied
    assert "50.0%" in denied  # of the packets: what is denied has few bytes


def test_trends_are_drawn_with_an_axis() -> None:
    head, drawn, axis = serai("trends", "/acme").stdout.splitlines()
    assert head == "/acme: bytes by protocol, a step is 1 min"
    assert drawn == "tcp  ▕ ▅█▏  mean 67 bit/s, most 133 bit/s"
    begin, end = AT.astimezone(), (AT + timedelta(minutes=3)).astimezone()
    assert axis.split() == [f"{begin:%H:%M}", f"{end:%H:%M}"]
    assert "mean 0.1/s, most 0.2/s" in serai("trends", "/acme", "--what", "packets").stdout
    assert "no traffic of a VM 'nobody'" in serai("trends", "nobody", status=2).output


def test_a_map_is_drawn_for_people_and_for_graphviz() -> None:
    result = serai("map", "/acme", "--group", "label:tier")
    assert result.stdout.splitlines() == [
        "web",
        "  → db  accepted    1.0 MB       3 connections  tcp/5432 1.0 MB",
        "  → db  denied        60 B       0 connections  tcp/22 60 B",
    ]
    assert "And 3 smaller edges" in result.stderr
    first, *_, last = serai("map", "--dot").stdout.splitlines()
    assert (first, last) == ("digraph traffic {", "}")
    assert '  "web" -> "db" [label="tcp/22 60 B", color="red", style=dashed];' in serai("map", "--dot").stdout


def test_peers_are_told_both_ways_apart() -> None:
    lines = serai("who", "web-1").stdout.splitlines()
    assert lines[0] == "/acme/shop:web-1 opened"
    assert "/acme/shop:db" in lines[2]
    assert f"{AT.astimezone():%m-%d %H:%M}" in lines[2]
    assert lines[3:] == ["Opened to /acme/shop:web-1", "  nothing"]


def test_drops_are_told_by_reason_and_by_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    result = serai("drops", "/acme")
    lines = result.stdout.splitlines()
    assert lines[0] == "/acme: 1.2 k packets were dropped"
    assert lines[2].split("  ")[0] == "foreign_ip"
    assert Reason.FOREIGN_IP.description in lines[2]
    assert lines[5].split()[:6] == ["/acme/shop:web-1/nic0", "host-1", "egress", "foreign_ip", "1.2", "k"]
    assert "And 2 more: say -n" in result.stderr
    monkeypatch.setenv("SERAI_TOKEN", "viewer-token")
    assert "HOST" not in serai("drops", "/acme").stdout
    assert data("drops", "web-1")["reasons"][0]["description"] == Reason.FOREIGN_IP.description


def test_what_a_link_needed_is_told_by_kind() -> None:
    lines = serai("sightings", "web-1").stdout.splitlines()
    at = f"{AT.astimezone():%m-%d %H:%M:%S}"
    assert lines[0] == "/acme/shop:web-1/nic0"
    assert lines[2].split() == ["DHCP", "discover", "egress", "3", "10.0.0.1", *at.split(), *at.split()]
    assert lines[3].split()[:5] == ["neighbor", "solicitation", "ingress", "3", "-"]
    assert "Nothing of the kind was seen of /acme/shop:quiet" in serai("sightings", "quiet").stdout
    assert "no traffic of a VM 'nobody'" in serai("sightings", "nobody", status=2).output


def test_suggestions_are_yaml_and_nothing_else(tmp_path: Path) -> None:
    result = serai("suggest", "/acme")
    assert result.stdout == "# for /acme\napiVersion: serai.dev/v1\n"
    assert "one thing is left out" in result.stderr
    file = tmp_path / "suggested.yaml"
    assert serai("suggest", "/acme", "-o", str(file)).stdout == ""
    assert file.read_text() == result.stdout
    assert data("suggest", "/acme")["ungoverned"] == {"ingress": ["/acme/shop:quiet"]}
    assert "cannot be written" in serai("suggest", "/acme", "-o", str(tmp_path / "none/x.yaml"), status=2).output


def test_what_would_be_denied_is_an_exit_status() -> None:
    told = serai("whatif", str(EXAMPLE), status=1).stdout
    assert "Newly denied: 1" in told
    assert "Newly allowed: 0" in told
    [row] = data("whatif", str(EXAMPLE), status=1)["rows"]
    assert row["change"] == "denied"


def test_following_has_no_end() -> None:
    assert "leave --until and --limit out" in serai("flows", "--follow", "--until", "now", status=2).output


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_records_fit_a_terminal(width: int) -> None:
    long = flowapi.Record(**{
        **{name: getattr(a_record(), name) for name in flowapi.Record.__struct_fields__},
        "vm": "/a-tenant/with-a-long-name/and-an-application:and-its-web-server-1", "peer": "", "remote": "2001:db8:1234:5678:9abc:def0:1234:5678",
    })  # fmt: skip
    columns = Columns([a_record(), long, a_record(verdict="denied")], width)
    lines = [columns.heading(), *(columns.row(record).plain for record in (a_record(), long))]
    assert max(map(len, lines)) <= width
    assert "server-1" in lines[2]
    assert ":web-1" in lines[1]
    if width >= 120:
        assert "/acme/shop:web-1" in lines[1]
        assert "/acme:shop/egress/db" in lines[1]


def test_nothing_is_shortened_where_there_is_no_edge() -> None:
    record = a_record()
    assert Columns([record], None, dated=True).row(record).plain.startswith(f"{AT.astimezone():%Y-%m-%d %H:%M:%S}  ")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.6, "1.0 k"), (12345, "12.3 k"), (999_999, "1.0 M"), (10**20, "100 E")],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert count(number) == text


def test_figures_have_units() -> None:
    assert (size(60), size(1500), rate(125, 1), rate(10**6, 8), rate(5, 0)) == (
        "60 B",
        "1.5 kB",
        "1.0 kbit/s",
        "1.0 Mbit/s",
        "0 bit/s",
    )
    assert (per_second(1, 60), per_second(6000, 60), per_second(5, 0)) == ("0.0/s", "100/s", "0.0/s")
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([0, 4], top=8) == " ▅"
    assert sparkline([]) == ""
    assert [bar(share, 2) for share in (0, 0.5, 0.75, 1, 7)] == ["  ", "█ ", "█▌", "██", "██"]
