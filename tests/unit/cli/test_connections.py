"""``serai reach``, ``serai prove`` and ``serai diff``: what programs read, and what people see on a terminal."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from serai.cli.main import main
from serai.cli.rows import show_changes, show_rows
from serai.inventory.files import load
from serai.policy.questions.form import answer_diff, answer_reach

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/datacenter"
GOLDEN = ROOT / "tests/golden"


def answer(*words: str, status: int = 0) -> Any:
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.output)


def test_reach_tells_programs_everything() -> None:
    found = answer("reach", str(EXAMPLE), "--to", "/acme/shop:web")
    assert found == {
        "reach": [
            {
                "routingDomain": "acme",
                "from": [{"name": "outside 10.0.0.250", "outside": [{"prefix": "10.0.0.250/32", "except": []}]}],
                "to": [{"name": "/acme/shop:web", "vms": ["/acme/shop:web"], "addresses": ["10.0.0.11"]}],
                "ports": ["tcp/80", "tcp/7778"],
                "except": [],
                "versions": [4],
            }
        ],
        "observed": [],
        "isolated": [],
        "versions": {"acme": [4]},
        "meet": True,
    }


def test_what_is_left_out_is_told_to_programs() -> None:
    [row] = answer("reach", str(GOLDEN / "reach-shop/in"), "--from", "/globex", "--to", "outside")["reach"]
    assert (row["ports"], row["except"], row["versions"]) == (["any"], ["tcp/23"], [4])
    modes = answer("reach", str(GOLDEN / "reach-modes/in"))
    assert (modes["observed"], modes["isolated"]) == (
        ["/acme/shop:watched"],
        ["/acme/shop:six", "/acme/shop:web"],
    )


@pytest.mark.parametrize(
    ("selection", "vms"),
    [
        ("web-1", {"web-1"}),
        ("/acme/shop:web-1", {"web-1"}),
        ("web-1/eth0", {"web-1"}),
        ("/acme", {"web-1", "web-2", "bench"}),
        ("/acme/shop", {"web-1", "web-2"}),
        ("role=web", {"web-1", "web-2", "crm"}),
        ("/acme role=web", {"web-1", "web-2"}),
        ("10.0.0.12", {"web-2"}),
        ("10.0.0.8/29", {"web-1", "web-2", "bench"}),
        ("outside", set()),
        ("/", {"web-1", "web-2", "bench", "crm"}),
    ],
)
def test_a_selection_means(selection: str, vms: set[str]) -> None:
    rows = answer("reach", str(GOLDEN / "reach-shop/in"), "--from", selection)["reach"]
    found = {vm.rpartition(":")[2] for row in rows for part in row["from"] for vm in part.get("vms", ())}
    assert found == vms
    outside = any("outside" in part for row in rows for part in row["from"])
    assert outside == (selection in {"outside", "10.0.0.8/29"})


def test_sides_that_never_meet_are_told() -> None:
    result = CliRunner().invoke(main, ["reach", str(EXAMPLE), "--from", "/acme", "--to", "/globex"])
    assert result.exit_code == 1
    assert "no routing domain holds both" in result.output


def refuted(case: Path) -> list[tuple[str, dict[str, Any]]]:
    findings = answer("prove", str(case), status=1)["invariants"]
    return [(one["claim"], one["witness"]) for one in findings if one["outcome"] == "refuted"]


@pytest.mark.parametrize("case", ["prove-all/in", "prove-versions/in"])
def test_can_says_the_same_of_what_refutes_an_invariant(case: str) -> None:
    directory = GOLDEN / case
    found = refuted(directory)
    assert len(found) >= 2
    for claim, witness in found:
        status = 1 if claim == "always" else 0
        told = answer("can", str(directory), *witness["question"], status=status)
        assert told["verdict"] == witness["verdict"] == ("Deny" if claim == "always" else "Accept")
        for side in ("egress", "ingress"):
            assert (told[side]["rule"] if told[side] else None) == witness[side]
        assert told["source"]["address"] == witness["source"]["address"]
        assert told["destination"]["address"] == witness["destination"]["address"]


def test_a_proof_is_told_to_programs() -> None:
    found = answer("prove", str(EXAMPLE))
    assert found["proven"] is True
    [apart] = [one for one in found["invariants"] if one["invariant"] == "/:tenants-apart"]
    assert (apart["outcome"], apart["apart"], apart["witness"], apart["reason"]) == ("proven", True, None, None)
    assert apart["from"] == {
        "vms": ["/acme/shop:app", "/acme/shop:db", "/acme/shop:web"], "routingDomains": ["acme"],
    }  # fmt: skip


def test_what_is_vacuous_is_not_proven(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "invariants.yaml"
    file.write_text(file.read_text().replace("{role: app}", "{role: ap}"))
    found = answer("prove", str(tmp_path), status=1)
    outcomes = {one["invariant"]: one["outcome"] for one in found["invariants"]}
    assert outcomes["/globex/crm:app-finds-its-database"] == "vacuous"
    # Where nobody is left who may, whoever still can refutes it.
    assert outcomes["/acme/shop:database-is-the-apps-own"] == "refuted"
    assert found["proven"] is False


def test_nothing_to_prove_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "invariants.yaml").unlink()
    result = CliRunner().invoke(main, ["prove", str(tmp_path)])
    assert result.exit_code == 2
    assert "has no Invariant: there is nothing to prove" in result.output


def test_a_difference_is_told_to_programs() -> None:
    case = GOLDEN / "diff-shop"
    found = answer("diff", str(case / "old"), str(case / "new"), status=1)
    assert sorted(found) == ["closed", "opened", "versions"]
    states = {
        (side, part["name"], part["state"])
        for side, rows in found.items()
        if side != "versions"
        for row in rows
        for part in (*row["from"], *row["to"])
        if "state" in part
    }
    assert ("opened", "/globex:crm", "new") in states
    assert ("closed", "/globex:crm", "gone") in states
    assert answer("diff", str(case / "old"), str(case / "old")) == {"opened": [], "closed": [], "versions": {}}


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_a_terminal(width: int) -> None:
    stream = io.StringIO()
    to = Console(file=stream, width=width, force_terminal=True, color_system=None)
    found = answer_reach(load(GOLDEN / "reach-versions/in"), None, None)
    for row in found["reach"]:
        show_rows(to, [row], found["versions"][row["routingDomain"]])
    change = answer_diff(*(load(GOLDEN / "diff-shop" / side) for side in ("old", "new")))
    show_changes(to, change["opened"], change["closed"], [4])
    lines = stream.getvalue().splitlines()
    assert 60 < max(map(len, lines)) <= width
    assert all(text == text.rstrip() for text in lines)


def test_long_sides_are_shortened_for_people_only() -> None:
    row = answer_reach(load(GOLDEN / "reach-shop/in"), None, None)["reach"][0]
    many = {**row, "from": row["from"] * 5}
    stream = io.StringIO()
    show_rows(Console(file=stream, width=120), [many], row["versions"])
    assert f"and {len(many['from']) - 6} more" in stream.getvalue()
