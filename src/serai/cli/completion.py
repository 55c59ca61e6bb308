"""``serai completion``: what a shell needs to complete verbs and options."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print what completes serai in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print what a SHELL has to read to complete verbs and options.

    \b
    bash: serai completion bash > /etc/bash_completion.d/serai
    zsh:  serai completion zsh > "${fpath[1]}/_serai"
    fish: serai completion fish > ~/.config/fish/completions/serai.fish
    """
    found = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    assert found is not None  # noqa: S101 (click has these three)
    sys.stdout.write(found(root, {}, "serai", "_SERAI_COMPLETE").source())
