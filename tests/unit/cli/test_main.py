"""The list of verbs."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from serai.cli.main import _VERBS, main


def test_verbs_say_of_themselves_what_the_list_says() -> None:
    context = click.Context(main)
    for name, (_, _, said) in _VERBS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(200) == said


def test_help_and_completion_load_no_verb() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from serai.cli.main import main\n"
        "assert 'apply' in CliRunner().invoke(main, ['--help']).output\n"
        "print(sorted(name for name in sys.modules if name.startswith('serai.')))\n"
        "sys.argv = ['serai']\n"
        "main()\n"
    )
    environment = {**os.environ, "_SERAI_COMPLETE": "bash_complete", "COMP_WORDS": "serai re", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code.replace("main()\n", "main(prog_name='serai')\n")],
        env=environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    first, *words = result.stdout.splitlines()
    assert first == "['serai.cli', 'serai.cli.main']", result.stderr
    assert words == ["plain,reach", "plain,rebalance", "plain,reject", "plain,relocations", "plain,restore"]


def test_options_of_verbs_are_completed() -> None:
    environment = {
        **os.environ,
        "_SERAI_COMPLETE": "bash_complete",
        "COMP_WORDS": "serai apply --pr",
        "COMP_CWORD": "2",
    }
    result = subprocess.run(
        [sys.executable, "-c", "from serai.cli.main import main; main(prog_name='serai')"],
        env=environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert result.stdout.splitlines() == ["plain,--prune"]
