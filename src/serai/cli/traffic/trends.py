"""``serai trends``: how traffic went."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal, get_args

import click
from rich.text import Text

from serai.cli.show import console, line
from serai.cli.traffic.asking import FILTER, JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count, rate, sparkline
from serai.wire import flowapi

_STEPS: Final = 60
_COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "red")
What = Literal["bytes", "packets", "connections"]


@click.command(short_help="Draw how traffic went.")
@click.argument("of", default="/", metavar="[VM|SCOPE]")
@during("1h")
@click.option(
    "--by",
    type=click.Choice(get_args(flowapi.TrendBy)),
    default="protocol",
    show_default=True,
    help="One line for each.",
)
@click.option("--what", type=click.Choice(get_args(What)), default="bytes", show_default=True, help="What is drawn.")
@FILTER
@JSON
def trends(of: str, since: str, until: str, by: str, what: What, narrowed: str, *, json_: bool) -> None:  # noqa: PLR0917
    """Draw how the traffic of a VM, or of all that is in a scope, went: a line for each protocol, service, peer or verdict."""
    asked = {"of": of, "by": by, "filter": narrowed, "steps": _STEPS} | window(since, until)
    found = ask("/v1/trends", flowapi.Trend, asked)
    if told_as_json(found, json_=json_):
        return
    to = console()
    lines = {each.name: list(getattr(each, what)) for each in found.series}
    most = max((max(values, default=0) for values in lines.values()), default=0)
    width = max((len(name) for name in lines), default=0)
    line(to, f"{found.of}: {what} by {found.by}, a step is {_span(found.step_seconds)}", style="bold")
    if not lines:
        line(to, "No traffic is on record.", style="dim")
    for number, (name, values) in enumerate(lines.items()):
        text = Text(f"{name.ljust(width)}  ")
        text.append(f"▕{sparkline(values, most)}▏", _COLOURS[number % len(_COLOURS)])
        text.append(
            f"  mean {_written(sum(values) / len(values), found.step_seconds, what)}, most {_written(max(values), found.step_seconds, what)}"
        )
        line(to, text)
    steps = max((len(values) for values in lines.values()), default=0)
    if steps:
        begin, end = (
            found.since.astimezone(),
            (found.since + timedelta(seconds=steps * found.step_seconds)).astimezone(),
        )
        form = "%H:%M" if end - begin <= timedelta(days=1) else "%m-%d %H:%M"
        ends = f"{begin:{form}}", f"{end:{form}}"
        line(to, " " * (width + 3) + ends[0] + ends[1].rjust(max(steps - len(ends[0]), len(ends[1]) + 1)), style="dim")
    tell_complete(found.completeness)


def _written(value: float, seconds: int, what: What) -> str:
    return rate(value, seconds) if what == "bytes" else f"{count(value / seconds)}/s"


def _span(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
