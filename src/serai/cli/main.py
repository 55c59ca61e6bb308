"""``serai``: the operator's one command."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from click.shell_completion import CompletionItem

# Verbs bring different libraries along: a question about files need not wait for those that talk to kernels. That is why their
# short helps stand here, too: neither `serai --help` nor completion loads any of them (tests/unit/cli/test_main.py compares).
_VERBS = {
    "agent": ("agent", "agent", "Guard the virtual machines of this host."),
    "apply": ("apply", "apply", "Put the files of a directory into force."),
    "approve": ("proposals", "approve", "Stand behind a proposal."),
    "audit": ("audit", "audit", "Look at who did what, and whether the log of it is whole."),
    "backup": ("backup", "backup", "Take all that a controller keeps away in a file."),
    "can": ("can", "can", "Say whether one machine can open a connection to another."),
    "check": ("check", "check", "Check a directory of YAML files."),
    "compile": ("compile", "compile_", "Write the rulesets of hosts to a file."),
    "completion": ("completion", "completion", "Print what completes serai in a shell."),
    "confirm": ("history", "confirm", "Let a change stand."),
    "controller": ("controller", "controller", "Compile policies for hosts, and answer people."),
    "delete": ("get", "delete", "Delete a resource."),
    "diff": ("diff", "diff", "List the connections that a change opens and closes."),
    "doctor": ("doctor", "doctor", "Say what is wrong with this machine, and what to do."),
    "drops": ("traffic.drops", "drops", "List what was dropped, and why."),
    "evacuate": ("relocations", "evacuate", "Move all VMs away from hosts."),
    "flows": ("traffic.flows", "flows", "List records of traffic."),
    "get": ("get", "get", "Show resources in force."),
    "history": ("history", "history", "List the changes that were made."),
    "host": ("hosts", "host", "Let hosts join, and part with them."),
    "lab": ("lab", "lab", "Run a virtual data center in a box: two hypervisor hosts and real guests."),
    "login": ("login", "login", "Log in to a controller."),
    "map": ("traffic.servicemap", "map_", "Draw which groups talk to which."),
    "migrate": ("moves", "migrate", "Move a VM to another host."),
    "moves": ("moves", "moves", "List moves of VMs, and what was proven about them."),
    "people": ("people", "people", "Say who may do what."),
    "placement": ("placement", "placement", "Say where VMs may run."),
    "plan": ("apply", "plan", "Say what applying files would do."),
    "pool": ("pool", "pool", "Say which hosts VMs may move between."),
    "proposals": ("proposals", "proposals", "List changes that wait for a second person."),
    "prove": ("prove", "prove", "Prove that policies keep the invariants."),
    "reach": ("reach", "reach", "List who can open connections to whom."),
    "rebalance": ("relocations", "rebalance", "Fill the hosts of a pool equally."),
    "reject": ("proposals", "reject", "Close a proposal."),
    "relocations": ("relocations", "relocations", "List plans of moves that are, or were, carried out."),
    "restore": ("backup", "restore", "Bring back what a backup has taken away."),
    "rollback": ("history", "rollback", "Make everything as it was at a revision."),
    "scale": ("scale", "scale", "Compile a data center on paper, of any size."),
    "show": ("history", "show", "Show one change that was made."),
    "sightings": ("traffic.sightings", "sightings", "List what the links of a VM needed to work."),
    "status": ("hosts", "status", "Show which hosts hold what is in force."),
    "suggest": ("traffic.learning", "suggest", "Write the least policy that admits what was seen."),
    "token": ("people", "token", "Make tokens for programs, which may do less than you and not more."),
    "top": ("traffic.top", "top", "List who and what has the most traffic."),
    "trends": ("traffic.trends", "trends", "Draw how traffic went."),
    "up": ("up", "up", "Run all of Serai on this host."),
    "whatif": ("traffic.learning", "whatif", "Replay what was seen against other policies."),
    "watch": ("traffic.watch", "watch", "Watch traffic as it goes, on the whole screen."),
    "who": ("traffic.servicemap", "who", "List with whom a VM spoke."),
    "whoami": ("login", "whoami", "Say who you are, and what you may do."),
}


class _Sentence(click.ClickException):
    """An error that the person at the terminal can do something about."""

    exit_code = 2


class _Verbs(click.Group):
    """Loads a verb when it is used; the one place where the project's own exceptions become a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        module, name, _ = _VERBS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"serai.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in sorted(_VERBS.items())])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        verbs = [
            CompletionItem(name, help=help_)
            for name, (_, _, help_) in sorted(_VERBS.items())
            if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (as click declares it)
        try:
            return super().invoke(ctx)
        except Exception as error:
            # What the project itself raises is written for the person at the terminal; anybody else's is a bug.
            if type(error).__module__.partition(".")[0] != "serai":
                raise
            raise _Sentence(_told(error)) from error


def _told(error: Exception) -> str:
    from serai.model.definitions import DefinitionErrors  # noqa: PLC0415  # slow to load, and a shell that completes waits

    if not isinstance(error, DefinitionErrors):
        return str(error)
    first, *others = error.errors
    return f"{first}{f' (and {len(others)} more: run `serai check`)' if others else ''}"


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
