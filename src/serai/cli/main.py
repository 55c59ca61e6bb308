"""``serai``: the operator's one command."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from serai.cli.can import can
from serai.cli.check import check
from serai.model.definitions import DefinitionErrors


class _Sentence(click.ClickException):
    """An error that the person at the terminal can do something about."""

    exit_code = 2


class _Verbs(click.Group):
    """The one place where the project's own exceptions become a sentence and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (as click declares it)
        try:
            return super().invoke(ctx)
        except DefinitionErrors as errors:
            first, *others = errors.errors
            more = f" (and {len(others)} more: run `serai check`)" if others else ""
            message = f"{first}{more}"
            raise _Sentence(message) from errors
        except Exception as error:
            # Anybody else's exception is a bug, and keeps its traceback.
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


main.add_command(check)
main.add_command(can)

for _verb in ("lab", "agent"):
    try:
        main.add_command(getattr(importlib.import_module(f"serai.cli.{_verb}"), _verb))
    except ImportError:  # these verbs need libraries that not every machine has
        continue

if __name__ == "__main__":
    main()
