"""Who asks the doorman is always answered: what the resources say, what becomes of who comes by itself, and why nobody can say."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import pytest

from serai.controller.moves.escorts import Escorted
from serai.controller.placing.doorman import Doorman
from serai.controller.placing.entering import EntrySettings
from serai.controller.whereabouts import Sign
from serai.migration.entry import Demand
from serai.model.decode import decode
from serai.model.inventory import Mac
from serai.model.migration import Ticket
from serai.model.world import World
from serai.store.errors import UnavailableError
from serai.wire.remote import Card, Entering, Entry, FromController

WORLD = decode(
    {
        "site.yaml": """
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: b}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: front, scope: /acme}
spec: {subnets: [10.0.0.0/24]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: web, scope: /acme}
spec: {vnics: [{network: front, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: vault, scope: /acme}
spec: {tags: [pci], vnics: [{network: front, mac: "52:54:00:00:00:02", addresses: [10.0.0.2]}]}
"""
    }
)
WEB = Entering(
    number=7, domain="web", cards=[Card(mac="52:54:00:00:00:01")], incoming=True, encrypted=True
)  # fmt: skip
VAULT = Entering(number=8, domain="vault", cards=[Card(mac="52:54:00:00:00:02")], incoming=True, encrypted=True)
STRANGER = Entering(number=9, domain="x", cards=[Card(mac="52:54:00:00:00:03")], incoming=True, encrypted=True)
STARTED = Entering(number=10, domain="web", cards=WEB.cards, incoming=False)
TICKET = Ticket(move="0" * 32, epoch=1, vm="/acme:web", domain="web", vnics=[1], source="a", to="b", until=0.0)


@dataclasses.dataclass
class _Catalog:
    world: World


@dataclasses.dataclass
class _Edition:
    catalog: _Catalog


class Place:
    """What a doorman asks, and what it says."""

    def __init__(self, tickets: Demand = Demand.WARN) -> None:
        self.trouble: Exception | None = None
        self.hosts: dict[Sign, str] = {Mac("52:54:00:00:00:01"): "a", Mac("52:54:00:00:00:02"): "a"}
        self.leave: Ticket | None = None
        self.escorted = Escorted()
        self.trouble_on_the_way: Exception | None = None
        self.escorts: list[tuple[str, str, bool | None]] = []
        settings = EntrySettings(tickets=tickets)
        self.doorman = Doorman(cast("Any", self), cast("Any", self), self, self.escort, settings)

    async def catch_up(self) -> _Edition:
        if self.trouble is not None:
            raise self.trouble
        return _Edition(_Catalog(WORLD))

    def places(self, signs: Iterable[Sign]) -> Collection[str]:
        return {self.hosts[sign] for sign in signs if sign in self.hosts}

    def ticket(self, vm: str) -> Ticket | None:
        return self.leave if vm == "/acme:web" else None

    def going(self) -> Mapping[str, str]:
        return {}

    async def escort(self, vm: str, to: str, *, encrypted: bool | None) -> Escorted:
        self.escorts.append((vm, to, encrypted))
        if self.trouble_on_the_way is not None:
            raise self.trouble_on_the_way
        return self.escorted

    def asked(self, *questions: Entering, host: str = "b") -> Sequence[Entry]:
        """Ask, and return the answers."""

        async def asking() -> list[tuple[str, FromController]]:
            said = asyncio.Queue[tuple[str, FromController]]()
            self.doorman.serve(lambda host, message: said.put_nowait((host, message)))
            for question in questions:
                self.doorman.asked(host, question)
            async with asyncio.timeout(5):
                return [await said.get() for _ in questions]

        said = asyncio.run(asking())
        assert {to for to, _ in said} == {host}
        return sorted((each for _, each in said if isinstance(each, Entry)), key=lambda entry: entry.answers)


def test_who_comes_by_itself_is_taken_along() -> None:
    place = Place()
    assert place.asked(WEB) == [Entry(answers=7, vm="/acme:web", objections=[], warnings=[])]
    assert place.escorts == [("/acme:web", "b", True)]


@pytest.mark.parametrize("tickets", [Demand.WARN, Demand.OFF])
def test_who_cannot_be_taken_along_comes_and_it_is_told_where_that_is_wanted(tickets: Demand) -> None:
    place = Place(tickets)
    place.escorted = Escorted(warning="its open connections stay behind")
    [entry] = place.asked(WEB)
    assert entry.objections == []
    assert entry.warnings == (["its open connections stay behind"] if tickets is Demand.WARN else [])


def test_a_host_that_is_not_ready_must_not_take_it_in() -> None:
    place = Place()
    place.escorted = Escorted(objection="host b was not ready")
    assert place.asked(WEB)[0].objections == ["host b was not ready"]


def test_where_tickets_are_asked_for_they_must_be_there_already() -> None:
    place = Place(Demand.REQUIRE)
    assert "without a ticket" in place.asked(WEB)[0].objections[0]
    place = Place(Demand.REQUIRE)
    place.leave = TICKET
    assert place.asked(WEB)[0].objections == []
    assert place.escorts == []


def test_nobody_is_taken_along_who_may_not_come_or_is_started_or_whom_nobody_knows() -> None:
    place = Place()
    may_not, stranger, begun = place.asked(VAULT, STRANGER, STARTED)
    assert may_not.objections[0] == "host b does not carry the tag pci"
    assert (stranger.vm, stranger.objections, len(stranger.warnings)) == ("", [], 1)
    assert begun.objections == ["/acme:web runs on host a"]
    assert place.escorts == []


@pytest.mark.parametrize("on_the_way", [False, True])
def test_a_database_that_does_not_answer_is_what_the_answer_says(*, on_the_way: bool) -> None:
    place = Place()
    trouble = UnavailableError("the database does not answer")
    if on_the_way:
        place.trouble_on_the_way = trouble
    else:
        place.trouble = trouble
    assert place.asked(WEB) == [
        Entry(answers=7, vm="", objections=[], warnings=[], unable="the database does not answer")
    ]


def test_a_fault_of_the_controllers_own_is_told_as_such_and_others_are_answered() -> None:
    place = Place()
    place.trouble_on_the_way = KeyError("x")
    faulty, stranger = place.asked(WEB, STRANGER)
    assert faulty.unable == "a fault of its own, which its log tells"
    assert stranger.unable == ""
