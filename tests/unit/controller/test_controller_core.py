"""Playbooks of the controller's core: which host must hold which VM's rules, and who is sent a ruleset."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.controller.core import (
    Controller,
    Event,
    HostLeft,
    HostReported,
    MoveEnded,
    MovePlanned,
    Refusal,
    SendRuleset,
    WorldChanged,
)
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.placement import Exclusive, KeepApart, Needs, PlacementTerms, Pool, Profile
from serai.model.policy import Action, Direction, Group, Policy, Tier
from serai.model.ruleset import HostRuleset
from serai.model.tenancy import Mode, Scope
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compile import compile_host
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
    assert hosts(controller.handle(CHANGED)) == ["a", "b"], "what is on its way is not what they should hold any more"


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


class Hosts:
    """What hosts hold when all that they are sent arrives; and that nothing is sent in vain."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.holds: dict[str, str | None] = {}
        self.parts: dict[str, HostRuleset] = {}
        self.refused: list[Event] = []

    def handle(self, *events: Event) -> None:
        answers = self.controller.handle(*events)
        self.refused = [answer.event for answer in answers if isinstance(answer, Refusal)]
        for event in events:
            match event:
                case HostReported() if event not in self.refused:
                    self.holds[event.host] = event.digest
                case HostLeft():
                    self.holds.pop(event.host, None)
        for answer in answers:
            if isinstance(answer, SendRuleset):
                host, ruleset = answer.ruleset.host, answer.ruleset
                assert self.holds[host] != ruleset.digest, "what is there, or on its way, is not sent"
                if answer.change:
                    assert answer.change.before == self.holds[host]
                    held = self.parts.get(host)
                    if held and held.digest == answer.change.before:
                        ruleset = answer.change.apply(held)
                    assert (answer.change.after, ruleset.digest) == (answer.ruleset.digest, answer.ruleset.digest)
                self.holds[host], self.parts[host] = ruleset.digest, ruleset
        assert set(self.controller.hosts) == self.holds.keys()

    def check(self, world: World) -> dict[str, str]:
        """Everybody holds what a compiler that knows nothing but the present would give; return it."""
        assert self.controller.world is world
        placed = self.controller.placement(world)
        wanted = {host: compile_host(world, host, vms).digest for host, vms in placed.items()}
        assert wanted == self.holds == {host: self.controller.wanted(host) for host in self.controller.hosts}
        return wanted


reports = st.builds(
    HostReported,
    host=st.sampled_from("abc"),
    macs=st.frozensets(st.sampled_from([mac(n) for n in range(1, 6)])),
    vnics=st.frozensets(st.sampled_from([vnic.id for one in (WEB, DB) for vnic in one.vnics]), max_size=1),
    digest=st.sampled_from([None, "old", ruleset("a", WEB.path), ruleset("b", DB.path), ruleset("c")]),
)
plans = st.builds(MovePlanned, vm=st.sampled_from(sorted(PATHS.values())), to=st.sampled_from("abc"))


@settings(max_examples=60, deadline=None)
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
        hosts = Hosts(Controller())
        for event in order:
            hosts.handle(event)
        ends.append(hosts.check(WORLD))
    together = Hosts(Controller())
    together.handle(*events)
    assert ends[0] == ends[1] == ends[2] == together.check(WORLD)
    assert ends[0].keys() == {event.host for event in told}


POLICY = Policy(
    name="p", scope=SCOPE, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=SCOPE),
    rules={Direction.INGRESS: ()},
)  # fmt: skip
MANY_VMS = [
    WEB, DB, LOST, vm("web", 2, 1, host="b"), vm("web", 3), vm("db", 3, host="a"), vm("db", 1), vm("new", 5, host="c"),
    dataclasses.replace(WEB, labels={"role": "web"}), dataclasses.replace(DB, mode=Mode.ISOLATE),
]  # fmt: skip
some_worlds = st.builds(
    lambda vms, policies, word: dataclasses.replace(world(*vms, last_word=word), policies=policies),
    st.lists(st.sampled_from(MANY_VMS), unique_by=lambda vm: vm.name, max_size=4).filter(
        lambda vms: len({vnic.mac for vm in vms for vnic in vm.vnics}) == sum(len(vm.vnics) for vm in vms)
    ),
    st.sampled_from(((), (POLICY,), (dataclasses.replace(POLICY, staged=True),))),
    st.sampled_from((Action.DENY, Action.DENY, Action.DENY, Action.ACCEPT)),
)
happenings = st.lists(
    st.one_of(
        reports,
        reports,
        st.tuples(some_worlds, st.booleans()),
        st.builds(HostLeft, host=st.sampled_from("abc")),
        plans,
        st.builds(MoveEnded, vm=st.sampled_from(sorted(PATHS.values()))),
    ),
    max_size=12,
)


def told_worlds(found: list[Event | tuple[World, bool]]) -> list[Event]:
    """The events, each world with what is otherwise in it than in the one before, or without."""
    before, events = World(), []
    for each in found:
        if isinstance(each, tuple):
            after, with_update = each
            events.append(WorldChanged(world=after, update=Update.between(before, after) if with_update else None))
            before = after
        else:
            events.append(each)
    return events


@settings(max_examples=80, deadline=None)
@given(happenings, st.randoms(use_true_random=False))
def test_events_at_once_come_to_the_same_as_one_by_one(
    found: list[Event | tuple[World, bool]], choice: random.Random
) -> None:
    events: list[Event] = [*told_worlds(found), *told_worlds([(WORLD, False)])]
    one_by_one, in_batches = Hosts(Controller()), Hosts(Controller())
    for event in events:
        one_by_one.handle(event)
    at = 0
    while at < len(events):
        size = choice.randint(1, 5)
        in_batches.handle(*events[at : at + size])
        at += size
    assert one_by_one.check(WORLD) == in_batches.check(WORLD)


@settings(max_examples=80, deadline=None)
@given(happenings, st.randoms(use_true_random=False))
def test_what_is_refused_has_not_happened(found: list[Event | tuple[World, bool]], choice: random.Random) -> None:
    """With room for little: whatever does not fit is left out, and all else is as it should be, now and later."""
    hosts, seen = Hosts(Controller(room={**ROOM, "vnics": 3})), World()
    events: list[Event] = [WorldChanged(world=WORLD), *told_worlds([(WORLD, False), *found])[1:]]
    at, seen = 0, WORLD
    while at < len(events):
        batch = events[at : at + choice.randint(1, 5)]
        hosts.handle(*batch)
        at += len(batch)
        taken = [e for e in batch if isinstance(e, WorldChanged) and not any(e is refused for refused in hosts.refused)]
        seen = taken[-1].world if taken else seen
        hosts.check(seen)


@settings(max_examples=40, deadline=None)
@given(happenings, some_worlds, st.booleans())
def test_what_is_foreseen_is_what_happens(
    found: list[Event | tuple[World, bool]], later: World, with_update: object
) -> None:
    controller = Controller()
    controller.handle(*told_worlds(found))
    known = controller.world
    update = Update.between(known, later) if with_update else None
    foreseen = controller.foresee(later, update)
    assert controller.world == known
    wanted = {host: controller.wanted(host) for host in controller.hosts} if foreseen else {}
    sent = [command.ruleset.host for command in controller.handle(WorldChanged(world=later, update=update))]
    if any(isinstance(each, tuple) for each in found):
        assert foreseen == sent
        assert all(controller.wanted(host) != wanted[host] for host in sent)
    else:
        assert foreseen == [], "nobody has been told anything yet"


def test_what_does_not_fit_is_foreseen() -> None:
    controller = Controller(room={**ROOM, "vnics": 3})
    controller.handle(CHANGED, A, B)
    with pytest.raises(FitError, match="host b would have to hold up to 5 vnics"):
        controller.foresee(world(WEB, vm("db", 3, 5, 6, 7, host="b")))
    assert controller.world is WORLD
    assert controller.placement(WORLD) == {"a": {WEB.path}, "b": {DB.path}}


def test_a_host_that_left_is_told_nothing() -> None:
    controller = Controller()
    controller.handle(CHANGED, A, report("b", 1))
    assert controller.handle(HostLeft(host="b"))[0].ruleset.vnics, "its VM belongs where it is declared again"
    assert set(controller.hosts) == {"a"}
    assert hosts(controller.handle(WorldChanged(world=world(WEB, DB, last_word=Action.ACCEPT)))) == ["a"]
    assert controller.handle(HostLeft(host="nobody")) == []


def test_nobody_can_say_what_is_wanted_before_resources_are_known() -> None:
    controller = Controller()
    controller.handle(A)
    with pytest.raises(LookupError, match="what host a should hold follows from the resources, and none are known yet"):
        controller.wanted("a")


def test_what_is_on_its_way_is_not_sent_again() -> None:
    """And what is sent next changes what will be there, not what was."""
    controller = Controller()
    controller.handle(CHANGED)
    (first,) = controller.handle(A)
    assert controller.handle(CHANGED) == []
    (second,) = controller.handle(WorldChanged(world=world(WEB, last_word=Action.ACCEPT)))
    assert second.change
    assert second.change.before == first.ruleset.digest
    (third,) = controller.handle(CHANGED)
    assert (third.ruleset.digest, third.change.before) == (first.ruleset.digest, second.ruleset.digest)
    (again,) = controller.handle(report("a", holds=second.ruleset.digest))
    assert (again.ruleset.digest, again.change.before) == (first.ruleset.digest, second.ruleset.digest)
    assert controller.handle(report("a", holds=first.ruleset.digest)) == []


def test_a_controller_that_begins_anew_sends_only_the_parts_that_a_host_lacks() -> None:
    before = compile_host(world(WEB, DB, LOST, last_word=Action.ACCEPT), "a", [WEB.path])
    said = dataclasses.replace(report("a", 1, holds=before.digest), parts=frozenset(before.parts))
    controller = Controller()
    controller.handle(CHANGED)
    (command,) = controller.handle(said)
    assert command.change
    assert command.change.apply(before).digest == ruleset("a", WEB.path)
    assert 0 < len(command.change.add) < len(command.ruleset.parts)
    (whole,) = Controller().handle(CHANGED, dataclasses.replace(said, parts=frozenset([b"x" * 32])))
    assert whole.change is None, "those are not the parts of what it says that it holds"


@pytest.mark.parametrize("event", [report("b", 1, 3), planned("web", "b")], ids=["a VM that runs there", "a plan"])
def test_what_does_not_fit_one_host_holds_up_no_other(event: Event) -> None:
    controller = Controller(room=SMALL)
    for before in (A, B, CHANGED):
        controller.handle(before)
    (refusal,) = controller.handle(event)
    assert isinstance(refusal, Refusal)
    assert refusal.event is event
    assert "host b would have to hold up to 3 vnics" in str(refusal.why)
    assert controller.placement(WORLD) == {"a": {WEB.path}, "b": {DB.path}}
    assert hosts(controller.handle(WorldChanged(world=world(WEB, DB, LOST, last_word=Action.ACCEPT)))) == ["a", "b"]


def test_of_many_events_only_the_bad_one_is_refused() -> None:
    controller = Controller(room=SMALL)
    bad = planned("web", "b")
    refusal, *commands = controller.handle(CHANGED, A, B, bad, report("c", 4))
    assert isinstance(refusal, Refusal)
    assert refusal.event is bad
    assert [(c.ruleset.host, c.ruleset.digest) for c in commands] == [
        ("a", ruleset("a", WEB.path)), ("b", ruleset("b", DB.path)), ("c", ruleset("c", LOST.path)),
    ]  # fmt: skip


def test_after_a_refused_world_the_next_one_is_looked_at_as_a_whole() -> None:
    """Its update says only what is otherwise than in the one that was refused."""
    controller = Controller(room=SMALL)
    controller.handle(CHANGED, A, B)
    large = world(WEB, vm("db", 3, 5, 6, host="b"), LOST, last_word=Action.ACCEPT)
    assert isinstance(controller.handle(WorldChanged(world=large, update=Update.between(WORLD, large)))[0], Refusal)
    small = world(WEB, DB, LOST, last_word=Action.ACCEPT)
    sent = controller.handle(WorldChanged(world=small, update=Update.between(large, small)))
    assert hosts(sent) == ["a", "b"]
    assert sent[0].ruleset.digest == compile_host(small, "a", [WEB.path]).digest


# Where VMs may run


@pytest.mark.parametrize("told", [True, False])
def test_tags_pools_and_placement_rules_change_no_ruleset(told: bool) -> None:  # noqa: FBT001
    controller = Controller()
    before = sent(controller.handle(CHANGED, report("a", 1), report("b", 3)))
    terms = PlacementTerms(
        vms={WEB.path: Needs(tags=frozenset({"pci"}), memory=512)},
        hosts={"a": frozenset({"pci"})},
        networks={NETWORK.path: frozenset({"pci"})},
        pools={"west": Pool(name="west", hosts=frozenset({"a", "b"}), profile=Profile.STRICT)},
        rules={"apart": KeepApart(name="apart", group=Group(scope=SCOPE)), "pci": Exclusive(name="pci", tag="pci")},
    )
    placed = dataclasses.replace(WORLD, placement=terms)
    assert controller.foresee(placed, Update() if told else None) == []
    assert controller.handle(WorldChanged(world=placed, update=Update() if told else None)) == []
    assert controller.world is placed
    anew = sent(Controller().handle(WorldChanged(world=placed), report("a", 1), report("b", 3)))
    assert {host: ruleset.encode() for host, ruleset in anew.items()} == {h: r.encode() for h, r in before.items()}
    assert set(before) == {"a", "b"}


def sent(answers: list[SendRuleset | Refusal]) -> dict[str, HostRuleset]:
    return {each.ruleset.host: each.ruleset for each in answers if isinstance(each, SendRuleset)}
