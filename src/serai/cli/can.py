"""``serai can``: may this machine open a connection to that one, and who says so?"""

from __future__ import annotations

import sys
from typing import Any

import click

from serai.cli.answer import tell
from serai.cli.connection import AT, ask_in_force
from serai.cli.show import as_json, console
from serai.inventory.files import load
from serai.policy.questions.form import answer_can
from serai.wire import api


@click.command(short_help="Say whether one machine can open a connection to another.")
@click.argument("directory", type=click.Path())
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.argument("service", metavar="PROTO/PORT")
@click.option("-v", "--explain", is_flag=True, help="List the rules that were passed over, and why.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON, which has them always.")
def can(directory: str, source: str, destination: str, service: str, explain: bool, json_: bool) -> None:  # noqa: FBT001, PLR0917
    """Say whether FROM can open a connection to TO, by the files of DIRECTORY, or by what is in force (@).

    FROM and TO are a VM (/acme/shop:web, or web where that is clear, or web/eth1 for one of several vNICs)
    or an address. PROTO/PORT is tcp/443, udp/53, sctp/3868, icmp or icmpv6 (an echo request), or a protocol
    number. Where both ends have addresses of IPv4 and IPv6, both are judged.

    Exit status: 0 it can (over one version at least), 1 it cannot, 2 the question makes no sense.
    """
    answer = _ask(directory, source, destination, service)
    if json_:
        as_json(console(), answer)
    else:
        tell(console(), answer, explain=explain)
    connections = answer.get("connections", ())
    sys.exit(0 if any(one["allowed"] for one in connections) else 1)


def _ask(directory: str, source: str, destination: str, service: str) -> dict[str, Any]:
    if directory == AT:
        return ask_in_force("can", api.Question(source=source, target=destination, service=service))
    return answer_can(load(directory), source, destination, service)
