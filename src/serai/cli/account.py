"""How ``serai can`` shows what was passed over on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from serai.cli.show import line
from serai.model.ports import format_ports
from serai.policy.questions.account import Account, PassedOver, Why

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


def tell_accounts(to: Console, accounts: Sequence[tuple[int, Account]]) -> None:
    """Show accounts of one side by version of IP; once where they are alike."""
    several = len({tuple(_rows(account)) for _, account in accounts}) > 1
    for version, account in accounts if several else accounts[:1]:
        if several:
            line(to, f"    Over IPv{version}:", style="dim")
        rows = list(_rows(account))
        widest = max((len(name) for name, _ in rows), default=0) + 1
        for name, why in rows:
            line(to, f"    {name + ':':<{widest}} {why}", style="dim")


def account_fields(account: Account) -> dict[str, object]:
    """Give a program the same."""
    return {
        "passedOver": list(map(_passed_over, account.passed_over)),
        "notAsked": [{"tier": each.tier.value, "why": each.why.value} for each in account.unasked],
    }


def _rows(account: Account) -> Iterator[tuple[str, str]]:
    for each in account.passed_over:
        ports = f" ({', '.join(map(format_ports, each.ports))})" if each.ports else ""
        yield each.ref.text, _SAID[each.why] + ports
    for tier in account.unasked:
        yield f"{tier.tier} tier", _SAID[tier.why]


def _passed_over(each: PassedOver) -> dict[str, object]:
    ports = {"ports": list(map(format_ports, each.ports))} if each.ports else {}
    by = {"by": each.by.text} if each.by else {}
    return {"rule": each.ref.text, "why": each.why.value, **ports, **by}
