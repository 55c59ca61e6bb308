"""Playbooks of the agent's core: what is told, in which order, and what must then be done."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.agent.core import (
    Agent,
    AttachGate,
    BindVnics,
    CloseGate,
    Command,
    CommandFailed,
    DiscardOthers,
    DomainSeen,
    DomainsListed,
    Event,
    ForgetGate,
    GateAdopted,
    GateLost,
    PrepareTables,
    RulesetArrived,
    StoreRuleset,
    TablesPrepared,
    TapAppeared,
    TapVanished,
    Ticked,
    VnicsElsewhere,
    VnicsHere,
)
from serai.model.inventory import Mac, PortSecurity, VnicId
from serai.model.ruleset import TABLES, GuardedVnic, HostRuleset
from serai.model.tenancy import Mode

WEB, DB, GUEST = (Mac(f"52:54:00:00:00:0{n}") for n in (1, 2, 3))


def vnic(number: int, mac: Mac, *, egress: int = 7, mode: Mode = Mode.ENFORCE) -> GuardedVnic:
    return GuardedVnic(
        id=VnicId(number), path=f"/acme/shop:vm{number}/eth0", mac=mac, addresses=(IPv4Address(number),),
        security=PortSecurity(), mode=mode,
        view=1, members=2, egress=egress, ingress=8,
    )  # fmt: skip


def rules(*vnics: GuardedVnic) -> HostRuleset:
    return HostRuleset.whole(host="a", vnics=vnics, rules=(), tables={n: np.empty(0, d) for n, d in TABLES.items()})


WEB_VNIC, DB_VNIC = vnic(1, WEB), vnic(2, DB)
WEB_CHANGED = vnic(1, WEB, egress=9)
WEB_WATCHED = vnic(1, WEB, mode=Mode.OBSERVE)
WATCHED = rules(WEB_WATCHED)
BOTH, CHANGED, ONLY_DB, NOBODY = rules(WEB_VNIC, DB_VNIC), rules(WEB_CHANGED, DB_VNIC), rules(DB_VNIC), rules()


def tap(ifindex: int, name: str = "", *, bridged: bool = True) -> TapAppeared:
    return TapAppeared(ifindex=ifindex, name=name or f"vnet{ifindex}", bridged=bridged)


def loose(ifindex: int) -> TapAppeared:
    """A tap that is no port of a bridge."""
    return tap(ifindex, bridged=False)


def gone(ifindex: int) -> TapVanished:
    return TapVanished(ifindex=ifindex)


def domain(name: str, **taps: Mac) -> DomainSeen:
    return DomainSeen(domain=name, taps=taps)


def attach(ifindex: int, name: str = "") -> AttachGate:
    return AttachGate(ifindex=ifindex, name=name or f"vnet{ifindex}")


def bind(bindings: dict[int, GuardedVnic]) -> BindVnics:
    return BindVnics(bindings=bindings)


def close(ifindex: int) -> CloseGate:
    return CloseGate(ifindex=ifindex)


def forget(ifindex: int) -> ForgetGate:
    return ForgetGate(ifindex=ifindex)


def prepared(ruleset: HostRuleset) -> TablesPrepared:
    return TablesPrepared(ruleset=ruleset)


def kept(ruleset: HostRuleset) -> list[Command]:
    return [StoreRuleset(ruleset=ruleset), DiscardOthers(ruleset=ruleset)]


def elsewhere(*vnics: GuardedVnic) -> VnicsElsewhere:
    return VnicsElsewhere(vnics=frozenset(vnic.id for vnic in vnics))


def here(*vnics: GuardedVnic) -> VnicsHere:
    return VnicsHere(vnics=frozenset(vnic.id for vnic in vnics))


LISTED, TICKED = DomainsListed(), Ticked()


def adopted(ifindex: int, vnic: GuardedVnic | None = None) -> GateAdopted:
    return GateAdopted(ifindex=ifindex, vnic=vnic.id if vnic else None)


def failed(command: Command) -> CommandFailed:
    return CommandFailed(command=command)


@dataclasses.dataclass(frozen=True)
class Playbook:
    """Events, each with the commands that must follow it."""

    says: str
    lines: tuple[tuple[Event, list[Command]], ...]
    open: dict[int, GuardedVnic] = dataclasses.field(default_factory=dict)
    """The gates that are not closed at the end."""


def play(says: str, *lines: tuple[Event, list[Command]], **gates: GuardedVnic) -> Playbook:
    return Playbook(says, lines, {int(name.removeprefix("vnet")): found for name, found in gates.items()})


IN_FORCE = (prepared(BOTH), kept(BOTH))
WEB_RUNS = ((domain("web", vnet1=WEB), []), (tap(1), [attach(1), bind({1: WEB_VNIC})]))

PLAYBOOKS = [
    play(
        "a gate that something else took off is put back, and told whom it guards",
        IN_FORCE,
        *WEB_RUNS,
        (GateLost(ifindex=1), [attach(1), bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play(
        "a closed gate that something else took off is put back closed",
        (tap(1), [attach(1)]),
        (GateLost(ifindex=1), [attach(1)]),
    ),
    play("a gate lost with its tap is not put back", IN_FORCE, *WEB_RUNS, (gone(1), [forget(1)]), (GateLost(ifindex=1), [])),
    play(
        "a ruleset is prepared before anything switches to it",
        (RulesetArrived(ruleset=BOTH), [PrepareTables(ruleset=BOTH)]),
        IN_FORCE,
    ),
    play(
        "the tap before its domain: closed first",
        IN_FORCE,
        (tap(1), [attach(1)]),
        (domain("web", vnet1=WEB), [bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play("the domain before its tap", IN_FORCE, *WEB_RUNS, vnet1=WEB_VNIC),
    play(
        "a tap that is claimed before it is bridged: no frame may slip in between",
        IN_FORCE,
        (domain("web", vnet1=WEB), []),
        (loose(1), [attach(1), bind({1: WEB_VNIC})]),
        (tap(1), []),
        vnet1=WEB_VNIC,
    ),
    play(
        "the ruleset last",
        (tap(1), [attach(1)]),
        (domain("web", vnet1=WEB), []),
        (LISTED, []),
        (RulesetArrived(ruleset=BOTH), [PrepareTables(ruleset=BOTH)]),
        (prepared(BOTH), [bind({1: WEB_VNIC}), *kept(BOTH)]),
        vnet1=WEB_VNIC,
    ),
    play(
        "two domains in one go",
        (tap(1), [attach(1)]),
        (tap(2), [attach(2)]),
        (domain("web", vnet1=WEB), []),
        (domain("db", vnet2=DB), []),
        (prepared(BOTH), [bind({1: WEB_VNIC, 2: DB_VNIC}), *kept(BOTH)]),
        vnet1=WEB_VNIC,
        vnet2=DB_VNIC,
    ),
    play(
        "the VM stops: the gate is closed while the tap still stands",
        IN_FORCE,
        *WEB_RUNS,
        (domain("web"), [close(1)]),
        (gone(1), [forget(1)]),
    ),
    play(
        "the tap goes before libvirt says so",
        IN_FORCE,
        *WEB_RUNS,
        (gone(1), [forget(1)]),
        (domain("web"), []),
    ),
    play("a tap that was never guarded goes", IN_FORCE, (loose(5), []), (gone(5), [forget(5)]), (gone(6), [])),
    play(
        "a tap's name comes back with another VM behind it",
        IN_FORCE,
        *WEB_RUNS,
        (gone(1), [forget(1)]),
        (domain("web"), []),
        (tap(9, "vnet1"), [attach(9, "vnet1")]),
        (domain("db", vnet1=DB), [bind({9: DB_VNIC})]),
        vnet9=DB_VNIC,
    ),
    play(
        "a tap's name comes back before libvirt has said that the first VM stopped",
        IN_FORCE,
        *WEB_RUNS,
        (gone(1), [forget(1)]),
        (domain("web"), []),
        (domain("db", vnet1=DB), []),
        (tap(9, "vnet1"), [attach(9, "vnet1"), bind({9: DB_VNIC})]),
        vnet9=DB_VNIC,
    ),
    play(
        "two taps claim one MAC: neither is trusted",
        IN_FORCE,
        *WEB_RUNS,
        (tap(2), [attach(2)]),
        (domain("thief", vnet2=WEB), [close(1)]),
        (domain("thief"), [bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play(
        "a MAC claimed twice in one domain",
        IN_FORCE,
        (tap(1), [attach(1)]),
        (tap(2), [attach(2)]),
        (domain("web", vnet1=WEB, vnet2=WEB), []),
        (domain("web", vnet2=WEB), [bind({2: WEB_VNIC})]),
        vnet2=WEB_VNIC,
    ),
    play(
        "a MAC that no ruleset knows stays closed",
        IN_FORCE,
        (tap(3), [attach(3)]),
        (domain("guest", vnet3=GUEST), []),
        (LISTED, []),
    ),
    play("an unknown tap on a bridge is closed", IN_FORCE, (LISTED, []), (tap(4), [attach(4)]), (tap(4), [])),
    play("a tap of nobody's that no bridge carries is left alone", IN_FORCE, (LISTED, []), (loose(5), []), (TICKED, [])),
    play("such a tap is put on a bridge", IN_FORCE, (loose(5), []), (tap(5), [attach(5)])),
    play(
        "a tap leaves its bridge: its gate stays",
        IN_FORCE,
        *WEB_RUNS,
        (loose(1), []),
        (domain("web"), [close(1)]),
        (TICKED, []),
    ),
    play(
        "a change of rules rebinds only whom it concerns",
        IN_FORCE,
        *WEB_RUNS,
        (tap(2), [attach(2)]),
        (domain("db", vnet2=DB), [bind({2: DB_VNIC})]),
        (RulesetArrived(ruleset=CHANGED), [PrepareTables(ruleset=CHANGED)]),
        (prepared(CHANGED), [bind({1: WEB_CHANGED}), *kept(CHANGED)]),
        (prepared(CHANGED), kept(CHANGED)),
        vnet1=WEB_CHANGED,
        vnet2=DB_VNIC,
    ),
    play(
        "a vNIC that the rules no longer know is closed before its rules are discarded",
        IN_FORCE,
        *WEB_RUNS,
        (prepared(ONLY_DB), [close(1), *kept(ONLY_DB)]),
        (prepared(NOBODY), kept(NOBODY)),
    ),
    play(
        "the mode changes",
        IN_FORCE,
        *WEB_RUNS,
        (prepared(WATCHED), [bind({1: WEB_WATCHED}), *kept(WATCHED)]),
        vnet1=WEB_WATCHED,
    ),
    play(
        "a domain gets another MAC behind its tap",
        IN_FORCE,
        *WEB_RUNS,
        (domain("web", vnet1=DB), [bind({1: DB_VNIC})]),
        (domain("web", vnet1=GUEST), [close(1)]),
    ),
    play(
        "adopted: bound as soon as its domain and the rules are known, closed at no time",
        (adopted(1), []),
        (tap(1), [attach(1)]),
        IN_FORCE,
        (domain("web", vnet1=WEB), [bind({1: WEB_VNIC})]),
        (LISTED, []),
        vnet1=WEB_VNIC,
    ),
    play(
        "adopted, and libvirt does not answer: it goes on",
        (adopted(1), []),
        IN_FORCE,
        (tap(1), [attach(1)]),
        (TICKED, []),
        (domain("db", vnet2=DB), []),
    ),
    play(
        "adopted, and no ruleset on disk: it goes on",
        (adopted(1), []),
        (tap(1), [attach(1)]),
        (domain("web", vnet1=WEB), []),
        (LISTED, []),
        (TICKED, []),
        (prepared(BOTH), [bind({1: WEB_VNIC}), *kept(BOTH)]),
        vnet1=WEB_VNIC,
    ),
    play(
        "adopted, and nobody's: closed once libvirt has told all and rules are known",
        (adopted(1), []),
        (tap(1), [attach(1)]),
        (LISTED, []),
        (prepared(BOTH), [close(1), *kept(BOTH)]),
        (TICKED, []),
    ),
    play(
        "adopted, and nobody's: the other way round",
        (adopted(1), []),
        (tap(1), [attach(1)]),
        IN_FORCE,
        (LISTED, [close(1)]),
        (LISTED, []),
    ),
    play(
        "adopted, but libvirt says that another is behind it now",
        (adopted(1), []),
        (tap(1), [attach(1)]),
        IN_FORCE,
        (domain("guest", vnet1=GUEST), [close(1)]),
    ),
    play(
        "adopted, off its bridge and nobody's: closed all the same",
        (adopted(5), []),
        (loose(5), []),
        IN_FORCE,
        (LISTED, [close(5)]),
    ),
    play(
        "adopted with its vNIC: a new ruleset reaches it before libvirt speaks",
        (adopted(1, WEB_VNIC), []),
        (tap(1), [attach(1)]),
        (prepared(BOTH), [bind({1: WEB_VNIC}), *kept(BOTH)]),
        (LISTED, [close(1)]),
    ),
    play(
        "adopted with its vNIC, and libvirt knows it",
        (adopted(1, WEB_VNIC), []),
        (tap(1), [attach(1)]),
        (prepared(BOTH), [bind({1: WEB_VNIC}), *kept(BOTH)]),
        (domain("web", vnet1=WEB), []),
        (LISTED, []),
        vnet1=WEB_VNIC,
    ),
    play("adopted, and its tap goes", (adopted(1), []), (tap(1), [attach(1)]), (gone(1), [forget(1)]), IN_FORCE, (LISTED, [])),
    play(
        "a gate that failed is tried again at a tick, and bound",
        IN_FORCE,
        *WEB_RUNS,
        (failed(attach(1)), []),
        (TICKED, [attach(1), bind({1: WEB_VNIC})]),
        (TICKED, []),
        vnet1=WEB_VNIC,
    ),
    play(
        "a binding that failed is tried again at a tick",
        IN_FORCE,
        *WEB_RUNS,
        (failed(bind({1: WEB_VNIC})), []),
        (TICKED, [bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play(
        "a gate that could not be closed is closed at a tick",
        IN_FORCE,
        *WEB_RUNS,
        (domain("web"), [close(1)]),
        (failed(close(1)), []),
        (TICKED, [close(1)]),
        (TICKED, []),
    ),
    play(
        "a tap goes whose gate never came",
        IN_FORCE,
        *WEB_RUNS,
        (failed(attach(1)), []),
        (gone(1), [forget(1)]),
        (TICKED, []),
    ),
    play(
        "a renamed tap is closed, and asked about anew",
        IN_FORCE,
        *WEB_RUNS,
        (tap(1, "other"), [close(1)]),
        (domain("web", other=WEB), [bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play(
        "a VM comes: its gate is there and closed until it is its turn",
        (elsewhere(WEB_VNIC), []),
        IN_FORCE,
        (domain("web", vnet1=WEB), []),
        (tap(1), [attach(1)]),
        (TICKED, []),
        (prepared(CHANGED), kept(CHANGED)),
        (here(WEB_VNIC), [bind({1: WEB_CHANGED})]),
        (here(WEB_VNIC), []),
        vnet1=WEB_CHANGED,
    ),
    play(
        "a VM comes, and its tap after its turn",
        IN_FORCE,
        (elsewhere(WEB_VNIC), []),
        (here(WEB_VNIC), []),
        *WEB_RUNS,
        vnet1=WEB_VNIC,
    ),
    play(
        "a VM leaves: its gate is closed before its tap goes, and nobody else's",
        IN_FORCE,
        *WEB_RUNS,
        (tap(2), [attach(2)]),
        (domain("db", vnet2=DB), [bind({2: DB_VNIC})]),
        (elsewhere(WEB_VNIC), [close(1)]),
        (elsewhere(WEB_VNIC), []),
        (gone(1), [forget(1)]),
        vnet2=DB_VNIC,
    ),
    play(
        "a VM was about to leave, and stays",
        IN_FORCE,
        *WEB_RUNS,
        (elsewhere(WEB_VNIC), [close(1)]),
        (here(WEB_VNIC), [bind({1: WEB_VNIC})]),
        vnet1=WEB_VNIC,
    ),
    play(
        "a gate that an earlier agent left open for who has left",
        (elsewhere(WEB_VNIC), []),
        (adopted(1, WEB_VNIC), [close(1)]),
        (tap(1), [attach(1)]),
        IN_FORCE,
        (LISTED, [close(1)]),
    ),
    play(
        "the same, learned later",
        (adopted(1, WEB_VNIC), []),
        (adopted(2, DB_VNIC), []),
        (tap(1), [attach(1)]),
        (tap(2), [attach(2)]),
        (prepared(BOTH), [bind({1: WEB_VNIC, 2: DB_VNIC}), *kept(BOTH)]),
        (elsewhere(WEB_VNIC), [close(1)]),
        vnet2=DB_VNIC,
    ),
    play(
        "a gate that could not be closed for who has left is closed at a tick",
        IN_FORCE,
        *WEB_RUNS,
        (elsewhere(WEB_VNIC), [close(1)]),
        (failed(close(1)), []),
        (TICKED, [close(1)]),
    ),
    play(
        "a tap takes the name of another's",
        IN_FORCE,
        (domain("web", vnet1=WEB), []),
        (domain("db", vnet2=DB), []),
        (tap(1), [attach(1), bind({1: WEB_VNIC})]),
        (tap(1, "vnet2"), [close(1), bind({1: DB_VNIC})]),
        vnet1=DB_VNIC,
    ),
]  # fmt: skip


@pytest.mark.parametrize("book", PLAYBOOKS, ids=lambda book: book.says)
def test_playbook(book: Playbook) -> None:
    agent = Agent()
    for number, (event, expected) in enumerate(book.lines):
        assert agent.handle(event) == expected, f"at line {number}: {event}"
    assert {gate.ifindex: gate.vnic for gate in agent.gates() if gate.vnic is not None} == book.open


def test_gates_tell_what_is_known_of_each() -> None:
    agent = Agent()
    for event in (prepared(BOTH), domain("web", vnet1=WEB), domain("guest", vnet3=GUEST), tap(4), tap(3), tap(1)):
        agent.handle(event)
    assert agent.ruleset is BOTH
    assert [(g.ifindex, g.tap, g.domain, g.mac, g.vnic) for g in agent.gates()] == [
        (1, "vnet1", "web", WEB, WEB_VNIC),
        (3, "vnet3", "guest", GUEST, None),
        (4, "vnet4", None, None, None),
    ]
    assert not any(gate.waits for gate in agent.gates())
    agent.handle(elsewhere(WEB_VNIC, DB_VNIC))
    assert [(gate.ifindex, gate.vnic) for gate in agent.gates() if gate.waits] == [(1, None)]


class Kernel:
    """What the commands make of the gates, if they are carried out."""

    def __init__(self) -> None:
        self.attached: set[int] = set()
        self.bound: dict[int, GuardedVnic] = {}

    def lose(self, ifindex: int) -> None:
        self.attached.discard(ifindex)
        self.bound.pop(ifindex, None)

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case AttachGate():
                    assert command.ifindex not in self.attached, "attached twice"
                    self.attached.add(command.ifindex)
                case ForgetGate():
                    self.attached.discard(command.ifindex)
                    self.bound.pop(command.ifindex, None)
                case BindVnics():
                    assert command.bindings.keys() <= self.attached, "told to a tap without a gate"
                    self.bound.update(command.bindings)
                case CloseGate():
                    self.bound.pop(command.ifindex, None)
                case DiscardOthers():
                    assert set(self.bound.values()) <= set(command.ruleset.vnics), "a gate still needs what goes"


MACS = (WEB, DB, GUEST)
RULESETS = (BOTH, CHANGED, ONLY_DB)

taps = st.dictionaries(st.integers(1, 5), st.booleans()).map(
    lambda found: [tap(ifindex, bridged=bridged) for ifindex, bridged in found.items()]
)


@st.composite
def facts(draw: st.DrawFn) -> list[Event]:
    """Things that are all true at once: some taps, some domains on some of them, a ruleset."""
    found: list[Event] = list(draw(taps))
    owners = draw(st.dictionaries(st.integers(1, 6), st.tuples(st.sampled_from("xyz"), st.sampled_from(MACS))))
    names = sorted({owner for owner, _ in owners.values()})
    found += [
        domain(name, **{f"vnet{i}": mac for i, (owner, mac) in owners.items() if owner == name}) for name in names
    ]
    found += [prepared(ruleset) for ruleset in draw(st.lists(st.sampled_from(RULESETS), max_size=1))]
    found += draw(st.lists(st.sampled_from((elsewhere(WEB_VNIC), elsewhere(DB_VNIC), elsewhere())), max_size=2))
    return found + draw(st.sampled_from(([], [LISTED])))


@settings(max_examples=300)
@given(facts(), st.randoms(use_true_random=False))
def test_the_order_in_which_facts_are_learned_is_nothing(known: list[Event], choice: random.Random) -> None:
    agents = []
    for events in (known, choice.sample(known, len(known)), [*choice.sample(known, len(known)), TICKED, *known]):
        agent, kernel = Agent(), Kernel()
        for event in events:
            kernel.obey(agent.handle(event))
        gates = list(agent.gates())
        assert {g.ifindex for g in gates} == kernel.attached
        assert {g.ifindex: g.vnic for g in gates if g.vnic} == kernel.bound
        agents.append(gates)
    assert agents[0] == agents[1] == agents[2]


changes = st.one_of(
    st.builds(tap, st.integers(1, 4), st.sampled_from(("vnet1", "vnet2", "vnet3")), bridged=st.booleans()),
    st.builds(gone, st.integers(1, 4)),
    st.builds(
        DomainSeen,
        domain=st.sampled_from("xyz"),
        taps=st.dictionaries(st.sampled_from(("vnet1", "vnet2", "vnet3")), st.sampled_from(MACS), max_size=2),
    ),
    st.builds(prepared, st.sampled_from(RULESETS)),
    st.builds(GateLost, ifindex=st.integers(1, 4)),
    st.builds(adopted, st.integers(1, 4), st.sampled_from((None, WEB_VNIC, DB_VNIC))),
    st.sampled_from((LISTED, TICKED, elsewhere(WEB_VNIC), here(WEB_VNIC), elsewhere(DB_VNIC, WEB_VNIC), here(DB_VNIC))),
)


@settings(max_examples=500)
@given(st.lists(changes, max_size=25))
def test_whatever_happens_the_kernel_is_as_the_core_believes(events: list[Event]) -> None:
    """No gate is open that is not accounted for, and none guards a vNIC that is not its tap's."""
    agent, kernel, away = Agent(), Kernel(), set[VnicId]()
    for event in events:
        if isinstance(event, GateLost):
            kernel.lose(event.ifindex)
        if isinstance(event, VnicsElsewhere):
            away |= event.vnics
        if isinstance(event, VnicsHere):
            away -= event.vnics
        kernel.obey(agent.handle(event))
        gates = list(agent.gates())
        assert {g.ifindex for g in gates} == kernel.attached
        assert {g.ifindex: g.vnic for g in gates if g.vnic} == kernel.bound
        for gate in gates:
            assert gate.vnic is None or (
                agent.ruleset
                and gate.vnic in agent.ruleset.vnics
                and gate.vnic.id not in away
                and (gate.vnic.mac == gate.mac or gate.vnic.id == gate.adopted)
            )
        assert agent.handle(TICKED) == [], "nothing is left undone"
