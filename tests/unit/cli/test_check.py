"""``serai check``."""

import json
from pathlib import Path

from click.testing import CliRunner

from serai.cli.main import main

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"


def test_the_example_is_sound() -> None:
    result = CliRunner().invoke(main, ["check", str(EXAMPLE)])
    assert result.exit_code == 0
    assert result.stdout == (
        f"{EXAMPLE} is sound: 2 hosts, 2 networks, 6 VMs with 6 vNICs, 10 policies (1 staged) with 22 rules.\n"
    )
    assert result.stderr == ""


def test_counts_for_programs() -> None:
    result = CliRunner().invoke(main, ["check", str(EXAMPLE), "--json"])
    answer = json.loads(result.stdout)
    assert answer["sound"] is True
    assert answer["counts"]["policies"] == 10


def test_errors_come_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: serai.dev/v1\nkind: Host\nmetadata: {name: A}\n---\nkind: Hots\n")
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"{tmp_path}/a.yaml:3: Host: metadata.name: 'A' is not a name: "
        "use 1 to 63 lower-case letters, digits and inner '-'\n"
        f"{tmp_path}/a.yaml:5: kind: unknown kind 'Hots'; did you mean 'Host'?\n"
    )


def test_errors_for_programs(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Hots\n")
    result = CliRunner().invoke(main, ["check", str(tmp_path), "--json"])
    assert result.exit_code == 1
    [error] = json.loads(result.stdout)["errors"]
    assert error == {
        "file": f"{tmp_path}/a.yaml",
        "line": 1,
        "resource": "",
        "field": "kind",
        "message": "unknown kind 'Hots'; did you mean 'Host'?",
    }


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr == f"Error: {tmp_path}/none does not exist: name a directory of YAML files\n"
