"""How ``serai can`` shows what was passed over on one side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from serai.cli.show import line
from serai.policy.questions.account import Why

_SAID = {
    Why.OTHER_PEERS: "other peers",
    Why.OTHER_PORTS: "other ports",
    Why.OTHER_TRAFFIC: "other peers and ports",
    Why.STAGED: "staged",
    Why.PASS: "Pass: went on at the next level",
    Why.LEFT: "not asked: the Pass before it left their level",
    Why.DECIDED: "not asked: a tier before it decided",
    Why.GOVERNED: "not asked: Tenant policies govern this direction",
    Why.ISOLATED: "not asked: the VM is isolated",
}

Form = Mapping[str, Any]


def tell_accounts(to: Console, sides: Sequence[tuple[int, Form]]) -> None:
    """Show what was passed over on one side by version of IP; once where it is alike."""
    several = len({tuple(_rows(side)) for _, side in sides}) > 1
    for version, side in sides if several else sides[:1]:
        if several:
            line(to, f"    Over IPv{version}:", style="dim")
        rows = list(_rows(side))
        widest = max((len(name) for name, _ in rows), default=0) + 1
        for name, why in rows:
            line(to, f"    {name + ':':<{widest}} {why}", style="dim")


def _rows(side: Form) -> Iterator[tuple[str, str]]:
    for each in side["passedOver"]:
        ports = f" ({', '.join(each['ports'])})" if "ports" in each else ""
        yield each["rule"], _SAID[Why(each["why"])] + ports
    for tier in side["notAsked"]:
        yield f"{tier['tier']} tier", _SAID[Why(tier["why"])]
