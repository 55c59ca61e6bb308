"""``serai check``."""

import json
import re
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from serai.cli.findings import tell
from serai.cli.main import main
from serai.inventory.files import load_with_places
from serai.policy.questions.hygiene import examine

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"


def test_the_example_is_sound() -> None:
    result = CliRunner().invoke(main, ["check", str(EXAMPLE)])
    assert result.exit_code == 0
    assert result.stdout.startswith(
        f"{EXAMPLE} is sound: 2 hosts, 2 networks, 6 VMs with 6 vNICs, 10 policies (1 staged) with 22 rules.\n"
    )
    assert result.stderr == ""


BASE = """
{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: t}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: n, scope: /t}
spec: {subnets: [10.0.0.0/24]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: a, scope: /t}
spec:
  vnics: [{network: n, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}]
"""
POLICIES = """
apiVersion: serai.dev/v1
kind: Policy
metadata: {name: p, scope: /t}
spec:
  tier: Tenant
  ingress:
    - {name: one, action: Accept, ports: [tcp/1]}
    - {name: two, action: Accept, from: [{scope: /t}], ports: [tcp/1]}
    - {name: three, action: Accept, ports: [tcp/2]}
"""
MORE = """
apiVersion: serai.dev/v1
kind: Policy
metadata: {name: q, scope: /t}
spec:
  tier: Tenant
  ingress:
    - {name: again, action: Deny, ports: [tcp/2]}
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in {"base": BASE, **files}.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory


def test_findings_stand_below_their_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(write(tmp_path, p=POLICIES, q=MORE))])
    assert result.exit_code == 0
    assert result.stdout == (
        f"{tmp_path} is sound: 0 hosts, 1 network, 1 VM with 1 vNIC, 2 policies (0 staged) with 4 rules.\n"
        "2 findings: 1 contradictory, 1 shadowed.\n"
        "\n"
        f"{tmp_path}/p.yaml\n"
        "  9  shadowed       /t:p/ingress/two\n"
        "                    Never decides: /t:p/ingress/one decides first. Take it away, or move it up.\n"
        "                    See line 8.\n"
        "\n"
        f"{tmp_path}/q.yaml\n"
        "  8  contradictory  /t:q/ingress/again\n"
        "                    Says Deny where /t:p/ingress/three says Accept before it, of the same traffic: it never "
        "counts. Take one of the two away.\n"
        f"                    See {tmp_path}/p.yaml:10.\n"
    )


def test_findings_for_programs(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(write(tmp_path, p=POLICIES)), "--json"])
    answer = json.loads(result.stdout)
    assert answer["sound"] is True
    assert answer["findings"] == [
        {
            "kind": "shadowed",
            "file": f"{tmp_path}/p.yaml",
            "line": 9,
            "rule": "/t:p/ingress/two",
            "message": "Never decides: /t:p/ingress/one decides first. Take it away, or move it up.",
            "others": [{"file": f"{tmp_path}/p.yaml", "line": 8, "rule": "/t:p/ingress/one"}],
        }
    ]


def test_findings_are_errors_to_the_strict_only(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["check", str(write(tmp_path)), "--strict"]).exit_code == 0
    write(tmp_path, p=POLICIES)
    for options, status in (([], 0), (["--strict"], 1), (["--strict", "--json"], 1)):
        result = CliRunner().invoke(main, ["check", str(tmp_path), *options])
        assert result.exit_code == status
        assert "shadowed" in result.stdout


def test_on_a_terminal_paragraphs_are_folded_and_coloured(tmp_path: Path) -> None:
    write(tmp_path, p=POLICIES, q=MORE)
    terminal = Console(force_terminal=True, width=60, highlight=False, markup=False, color_system="standard")
    with terminal.capture() as captured:
        tell(terminal, examine(*load_with_places(tmp_path)))
    shown = captured.get()
    assert "\x1b[33mshadowed     \x1b[0m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    at = plain.index("  9  shadowed       /t:p/ingress/two")
    assert plain[at + 1 : at + 4] == [
        "                    Never decides: /t:p/ingress/one decides",
        "                    first. Take it away, or move it up.",
        "                    See line 8.",
    ]


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
