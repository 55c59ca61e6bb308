"""Playbooks of the controller's core: which host must hold which VM's rules, and who is sent a ruleset."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.controller.core import (
    Controller,
    Event,
    HostReported,
    MoveEnded,
    MovePlanned,
    SendRuleset,
    WorldChanged,
)
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Direction
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.fit import ROOM, FitError

SCOPE = Scope("/acme/shop")
NETWORK = Network(
    name="front", scope=Scope("/acme"), routing_domain="acme", subnets=(IPv4Network("10.0.0.0/24"),)
)  # fmt: skip


def vm(name: str, *numbers: int, host: str | None = None) -> VirtualMachine:
    vnics = tuple(
        Vnic(
            id=vnic_id(SCOPE, name, f"eth{at}"), name=f"eth{at}", network=NETWORK, mac=mac(number),
            addresses=(IPv4Address("10.0.0.0") + number,),
        )
        for at, number in enumerate(numbers)
    )  # fmt: skip
    return VirtualMachine(name=name, scope=SCOPE, labels={}, mode=Mode.ENFORCE, vnics=vnics, host=host)


def mac(number: int) -> Mac:
    return Mac(f"52:54:00:00:00:{number:02x}")


def world(*vms: VirtualMachine, last_word: Action = Action.DENY) -> World:
    return World(
        networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms},
        last_word=dict.fromkeys(Direction, last_word),
    )  # fmt: skip


WEB, DB, LOST = vm("web", 1, 2, host="a"), vm("db", 3, host="b"), vm("lost", 4)
WORLD = world(WEB, DB, LOST)
PATHS = {"web": WEB.path, "db": DB.path, "lost": LOST.path}


def report(host: str, *macs: int, holds: str | None = None) -> HostReported:
    return HostReported(host=host, macs=frozenset(map(mac, macs)), vnics=frozenset(), digest=holds)


def planned(name: str, to: str) -> MovePlanned:
    return MovePlanned(vm=PATHS[name], to=to)


def ended(name: str) -> MoveEnded:
    return MoveEnded(vm=PATHS[name])


CHANGED = WorldChanged(world=WORLD)
SMALL = {**ROOM, "vnics": 2}
A, B = report("a"), report("b")


@dataclasses.dataclass(frozen=True)
class Playbook:
    """Events, and where VMs are placed after them."""

    says: str
    events: tuple[Event, ...]
    placed: Mapping[str, set[str]]


def play(says: str, *events: Event, **placed: str) -> Playbook:
    return Playbook(says, events, {host: set(names.split()) for host, names in placed.items()})


PLAYBOOKS = [
    play("nobody has reported: nobody is told anything"),
    play("a VM belongs where it is declared", A, B, a="web", b="db"),
    play("only hosts that have reported are placed on", A, a="web"),
    play("a VM without a host goes nowhere until one runs it", A, B, report("b", 4), a="web", b="db lost"),
    play("where a VM runs wins over where it is declared", report("a"), report("b", 1), a="", b="web db"),
    play("one of its vNICs is enough", report("a"), report("b", 2), a="", b="web db"),
    play("amid a move it runs on both", report("a", 1, 2), report("b", 1, 2), a="web", b="web db"),
    play("the last report of a host counts", report("b", 1), report("b"), report("a", 1), a="web", b="db"),
    play("a VM that stopped belongs where it is declared again", A, report("b", 1), report("b"), a="web", b="db"),
    play("a declared host that never reports", report("b", 3), b="db"),
    play("a planned move brings the rules along", A, B, planned("web", "b"), a="web", b="web db"),
    play("and the source keeps them while it runs there", report("a", 1), B, planned("web", "b"), a="web", b="web db"),
    play("a move to where it is", A, B, planned("web", "a"), a="web", b="db"),
    play("a move to a host that does not answer", A, B, planned("web", "c"), a="web", b="db"),
    play("the last plan counts", A, B, report("c"), planned("web", "b"), planned("web", "c"), a="web", b="db", c="web"),
    play("a move that came to nothing", report("a", 1), B, planned("web", "b"), ended("web"), a="web", b="db"),
    play("a move that succeeded", A, report("b", 1), planned("web", "b"), ended("web"), a="", b="web db"),
    play("the end of a move that nobody planned", A, B, ended("db"), a="web", b="db"),
    play("moves do not disturb one another", A, B, planned("web", "b"), planned("db", "a"), ended("web"), a="web db", b="db"),
    play("a MAC that nobody has", report("a", 9), B, a="web", b="db"),
]  # fmt: skip


@pytest.mark.parametrize("book", PLAYBOOKS, ids=lambda book: book.says)
def test_placement(book: Playbook) -> None:
    controller = Controller()
    for event in book.events:
        assert controller.handle(event) == [], "without a world nothing is known"
    expected = {host: frozenset(PATHS[name] for name in names) for host, names in book.placed.items()}
    assert controller.placement(WORLD) == expected
    sent = controller.handle(CHANGED)
    assert {command.ruleset.host for command in sent} == expected.keys()
    for command in sent:
        assert command.ruleset.digest == ruleset(command.ruleset.host, *expected[command.ruleset.host])


def ruleset(host: str, *paths: str) -> str:
    """The digest of what ``host`` should hold for the VMs at ``paths``."""
    return compile_host(WORLD, host, paths).digest


def hosts(commands: list[SendRuleset]) -> list[str]:
    return [command.ruleset.host for command in commands]


def test_only_who_holds_another_ruleset_is_sent_one() -> None:
    controller = Controller()
    assert controller.handle(CHANGED) == []
    (first,) = controller.handle(A)
    assert first.ruleset.digest == ruleset("a", WEB.path)
    assert hosts(controller.handle(report("a", 1, holds="something else"))) == ["a"]
    assert controller.handle(report("a", 1, holds=first.ruleset.digest)) == []
    assert hosts(controller.handle(B)) == ["b"]
    assert hosts(controller.handle(report("b", holds=ruleset("b", DB.path)))) == []
    assert hosts(controller.handle(CHANGED)) == []
    assert hosts(controller.handle(planned("web", "b"))) == ["b"], "the source has its rules already"
    assert hosts(controller.handle(report("b", holds=ruleset("b", DB.path, WEB.path)))) == []
    assert hosts(controller.handle(ended("web"))) == ["b"], "it did not move, so they go again"
    assert hosts(controller.handle(WorldChanged(world=world(WEB, DB, last_word=Action.ACCEPT)))) == ["a", "b"]
    assert hosts(controller.handle(CHANGED)) == ["b"]


def test_a_host_without_vms_is_sent_an_empty_ruleset() -> None:
    """It may hold one of the past."""
    controller = Controller()
    controller.handle(CHANGED)
    (command,) = controller.handle(report("c", holds="old"))
    assert (command.ruleset.host, command.ruleset.vnics) == ("c", ())
    assert controller.handle(report("c", holds=command.ruleset.digest)) == []


def test_asking_is_not_telling() -> None:
    """What was sent counts as held only once the host says so: a lost message is sent again."""
    controller = Controller()
    controller.handle(CHANGED)
    assert hosts(controller.handle(A)) == ["a"]
    assert hosts(controller.handle(A)) == ["a"]


reports = st.builds(
    HostReported,
    host=st.sampled_from("abc"),
    macs=st.frozensets(st.sampled_from([mac(n) for n in range(1, 6)])),
    digest=st.sampled_from([None, "old", ruleset("a", WEB.path), ruleset("b", DB.path), ruleset("c")]),
)
plans = st.builds(MovePlanned, vm=st.sampled_from(sorted(PATHS.values())), to=st.sampled_from("abc"))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(reports, unique_by=lambda event: event.host, min_size=1),
    st.lists(plans, unique_by=lambda event: event.vm),
    st.randoms(use_true_random=False),
)
def test_the_order_of_events_is_nothing(
    told: list[HostReported], moves: list[MovePlanned], choice: random.Random
) -> None:
    events: list[Event] = [*told, *moves, CHANGED]
    ends = []
    for order in (events, choice.sample(events, len(events)), [*choice.sample(events, len(events)), *events]):
        controller = Controller()
        for event in order:
            controller.handle(event)
        # What the last event made necessary is what all of them together do.
        commands = controller.handle(order[-1])
        ends.append((controller.placement(WORLD), {c.ruleset.host: c.ruleset.digest for c in commands}))
    assert ends[0] == ends[1] == ends[2]
    placed, sent = ends[0]
    held = {event.host: event.digest for event in told}
    assert placed.keys() == held.keys()
    assert sent == {h: digest for h, vms in placed.items() if (digest := ruleset(h, *vms)) != held[h]}


@pytest.mark.parametrize("event", [report("b", 1, 3), planned("web", "b")], ids=["a VM that runs there", "a plan"])
def test_what_does_not_fit_one_host_holds_up_no_other(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.controller.core.Compiler.of", functools.partial(Compiler.of, room=SMALL))
    controller = Controller()
    for before in (A, B, CHANGED):
        controller.handle(before)
    with pytest.raises(FitError, match="host b would have to hold up to 3 vnics"):
        controller.handle(event)
    assert controller.placement(WORLD) == {"a": {WEB.path}, "b": {DB.path}}
    assert hosts(controller.handle(WorldChanged(world=world(WEB, DB, LOST, last_word=Action.ACCEPT)))) == ["a", "b"]
