"""``serai``: the operator's one command."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from serai.model.definitions import DefinitionErrors

# Verbs bring different libraries along: a question about files need not wait for those that talk to kernels.
_MODULES = {
    "agent": "serai.cli.agent",
    "can": "serai.cli.can",
    "check": "serai.cli.check",
    "compile": "serai.cli.compile",
    "diff": "serai.cli.diff",
    "lab": "serai.cli.lab",
    "prove": "serai.cli.prove",
    "reach": "serai.cli.reach",
    "scale": "serai.cli.scale",
}
_NAMES = {"compile": "compile_"}  # Python has a `compile` of its own


class _Sentence(click.ClickException):
    """An error that the person at the terminal can do something about."""

    exit_code = 2


class _Verbs(click.Group):
    """Loads a verb when it is used; the one place where the project's own exceptions become a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _MODULES:
            return None
        command: click.Command = getattr(importlib.import_module(_MODULES[cmd_name]), _NAMES.get(cmd_name, cmd_name))
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (as click declares it)
        try:
            return super().invoke(ctx)
        except DefinitionErrors as errors:
            first, *others = errors.errors
            more = f" (and {len(others)} more: run `serai check`)" if others else ""
            raise _Sentence(f"{first}{more}") from errors
        except Exception as error:
            # What the project itself raises is written for the person at the terminal; anybody else's is a bug.
            if type(error).__module__.partition(".")[0] != "serai":
                raise
            raise _Sentence(str(error)) from error


def _version() -> str:
    try:
        return version("serai")
    except PackageNotFoundError:
        return "unknown (not installed)"


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="serai")
def main() -> None:
    """Protect virtual machines with policies that travel with them."""


if __name__ == "__main__":
    main()
