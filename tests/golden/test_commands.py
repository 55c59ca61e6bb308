"""Folders named after a verb: files go in, and what is typed, what is answered and the exit status stand in one text."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from serai.cli.main import main

CASES = sorted(case for verb in ("reach", "prove", "diff") for case in Path(__file__).parent.glob(f"{verb}-*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_command_gets_the_written_answer(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    expected = (case / "expected.txt").read_text()
    commands = re.findall(r"^\$ serai (.*)$", expected, re.MULTILINE)
    assert commands
    assert "".join(f"$ serai {command}\n{run(command)}" for command in commands) == expected


def run(command: str) -> str:
    """Run a command, and write its output and exit status."""
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return f"{result.output}({result.exit_code})\n"
