"""``serai can``: may this machine open a connection to that one, and who says so?"""

from __future__ import annotations

import sys

import click
from rich.text import Text

from serai.cli.answer import Answer, answer_fields, tell
from serai.cli.question import End, apart, connections, parse_end, parse_service, require_opening
from serai.cli.show import as_json, console, line
from serai.inventory.files import load


@click.command(short_help="Say whether one machine can open a connection to another.")
@click.argument("directory", type=click.Path())
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.argument("service", metavar="PROTO/PORT")
@click.option("-v", "--explain", is_flag=True, help="List the rules that were passed over, and why.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON, which has them always.")
def can(directory: str, source: str, destination: str, service: str, explain: bool, json_: bool) -> None:  # noqa: FBT001, PLR0917
    """Say whether FROM can open a connection to TO, by the files of DIRECTORY.

    FROM and TO are a VM (/acme/shop:web, or web where that is clear, or web/eth1 for one of several vNICs)
    or an address. PROTO/PORT is tcp/443, udp/53, sctp/3868, icmp or icmpv6 (an echo request), or a protocol
    number. Where both ends have addresses of IPv4 and IPv6, both are judged.

    Exit status: 0 it can (over one version at least), 1 it cannot, 2 the question makes no sense.
    """
    world = load(directory)
    ends = parse_end(world, source), parse_end(world, destination)
    asked = parse_service(service)
    require_opening(asked, service)
    answers = [Answer.of(world, connection) for connection in connections(*ends, *asked)]
    if not answers:
        _tell_apart(*ends, json_=json_)
    elif json_:
        as_json(console(), answer_fields(answers, service))
    else:
        tell(console(), world, answers, service, explain=explain)
    sys.exit(0 if any(answer.passes for answer in answers) else 1)


def _tell_apart(source: End, destination: End, *, json_: bool) -> None:
    reason = apart(source, destination)
    if json_:
        as_json(console(), {"allowed": False, "verdict": None, "reason": reason})
        return
    answer = Text.assemble(("No", "bold red"), f": {source} cannot reach {destination} at all: {reason}.")
    line(console(), answer)
