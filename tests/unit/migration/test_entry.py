"""Who may run where, case by case: what a hypervisor is about to do, and the sentence that stops it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from serai.migration.entry import Demand, Entering, Entry, Terms, judge
from serai.migration.placement import Placement
from serai.model.decode import decode
from serai.model.inventory import Mac
from serai.model.migration import Ticket

WORLD = decode(
    {
        "site.yaml": """
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
spec: {tags: [pci]}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: b}
spec: {tags: [pci]}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: plain}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: cards, scope: /acme}
spec: {subnets: [10.0.0.0/24], bridge: br-cards, tags: [pci]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: vault, scope: /acme}
spec: {tags: [pci], vnics: [{network: cards, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: web, scope: /acme}
spec: {domain: acme-web, vnics: [{network: cards, mac: "52:54:00:00:00:02", addresses: [10.0.0.2]}]}
---
apiVersion: serai.dev/v1
kind: PlacementRule
metadata: {name: alone}
spec: {exclusive: pci}
"""
    }
)
VAULT, WEB, STRANGE = Mac("52:54:00:00:00:01"), Mac("52:54:00:00:00:02"), Mac("52:54:00:00:00:03")
OWNERS = {VAULT: "/acme:vault", WEB: "/acme:web"}
START = Entering(host="a", domain="vault", cards={VAULT: "br-cards"}, incoming=False)
MOVE = dataclasses.replace(START, host="b", incoming=True, encrypted=True)
TICKET = Ticket(
    move="0" * 32, epoch=1, vm="/acme:vault", domain="vault", vnics=[1], source="a", to="b", until=0.0
)  # fmt: skip
STRICT = Terms(tickets=Demand.REQUIRE, tls=Demand.REQUIRE)


def asked(
    entering: Entering,
    *,
    running: Mapping[str, str] | None = None,
    ticket: Ticket | None = TICKET,
    terms: Terms = STRICT,
) -> Entry:
    at = ({"/acme:vault": "a"} if entering.incoming else {}) if running is None else running
    return judge(
        entering,
        WORLD,
        Placement.of(WORLD),
        owner=OWNERS.get,
        running=at,
        going={},
        ticket=lambda _: ticket,
        terms=terms,
    )


def test_who_fits_may() -> None:
    assert asked(START) == Entry(vm="/acme:vault")
    assert asked(MOVE) == Entry(vm="/acme:vault")


def test_a_stranger_may_and_is_told_that_nothing_passes() -> None:
    found = asked(dataclasses.replace(START, cards={STRANGE: "br-cards"}))
    assert found.allowed
    assert found.vm is None
    assert "gates stay closed" in found.warnings[0]
    assert asked(dataclasses.replace(START, cards={})) == Entry(vm=None)


@pytest.mark.parametrize(
    ("entering", "why"),
    [
        (dataclasses.replace(START, host="plain"), "host plain does not carry the tag pci"),
        (dataclasses.replace(MOVE, host="plain"), "host plain does not carry the tag pci"),
        (
            dataclasses.replace(START, domain="acme-web", cards={WEB: "br-cards"}),
            "takes only VMs with the tag pci",
        ),
        (dataclasses.replace(START, cards={VAULT: "br-other"}), "bridge br-other: its network /acme:cards is br-cards"),
        (dataclasses.replace(START, domain="twin"), "whose domain is called vault"),
        (
            dataclasses.replace(START, cards={VAULT: "", STRANGE: ""}),
            "/acme:vault has no network card 52:54:00:00:00:03",
        ),
        (dataclasses.replace(START, cards={VAULT: "", WEB: ""}), "of several VMs: /acme:vault, /acme:web"),
        (dataclasses.replace(MOVE, encrypted=False), "in clear: migrate over TLS"),
        (dataclasses.replace(MOVE, encrypted=None), "migrate_tls_force"),
    ],
)
def test_who_does_not_fit_is_told_why(entering: Entering, why: str) -> None:
    [objection] = [each for each in asked(entering).objections if "ticket" not in each]
    assert why in objection


def test_nobody_runs_twice() -> None:
    assert "runs on host b" in asked(START, running={"/acme:vault": "b"}).objections[0]
    assert asked(START, running={"/acme:vault": "a"}).allowed, "a host may have told of it already"


def test_tickets_and_encryption_are_asked_for_as_the_site_wants() -> None:
    plain = dataclasses.replace(MOVE, encrypted=False)
    strict = asked(plain, ticket=None)
    assert len(strict.objections) == 2
    assert "serai migrate /acme:vault b" in strict.objections[0]
    warned = asked(plain, ticket=None, terms=Terms())
    assert warned.allowed
    assert warned.warnings == strict.objections
    assert asked(plain, ticket=None, terms=Terms(tickets=Demand.OFF, tls=Demand.OFF)) == Entry(vm="/acme:vault")
    elsewhere = dataclasses.replace(MOVE, host="a")
    assert asked(elsewhere, running={"/acme:vault": "b"}).objections == ("its ticket is for host b",)
