"""What is decided about moves: playbooks, events in and commands out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.controller.moves.config import MoveSettings
from serai.controller.moves.core import MovesCore
from serai.controller.moves.events import (
    AbortWanted,
    Asked,
    Command,
    End,
    Entered,
    Event,
    HostCame,
    HostChanged,
    HostLeft,
    Keep,
    Plan,
    PlanRefused,
    PlanTaken,
    Resumed,
    Say,
    Ticked,
    Told,
    Unplan,
)
from serai.migration.states import OVER, State
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.migration import Facts, Receipt, Step
from serai.model.tenancy import Mode, Scope
from serai.store.records import MoveRecord
from serai.wire.remote import Depart, Expect, Forget, Moving

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = MoveSettings(
    wait_seconds=1000, ticket_seconds=60, copy_seconds=600, switch_seconds=20, finish_seconds=30, abort_seconds=10
)
D1, D2 = "11" * 32, "22" * 32
NETWORK = Network(name="front", scope=Scope("/acme"), routing_domain="acme", subnets=())


def vm(name: str, vnics: int = 1) -> VirtualMachine:
    cards = tuple(
        Vnic(id=vnic_id(Scope("/acme"), name, f"eth{n}"), name=f"eth{n}", network=NETWORK, mac=Mac(f"52:54:00:00:00:{n:02x}"), addresses=())
        for n in range(vnics)
    )  # fmt: skip
    return VirtualMachine(
        name=name, scope=Scope("/acme"), labels={}, mode=Mode.ENFORCE, vnics=cards, domain=f"dom-{name}"
    )


class FakeSite:
    """Hosts a, b and c, connected, each holding what it should; VMs run at a."""

    def __init__(self, *vms: str) -> None:
        self.vms = {f"/acme:{name}": vm(name) for name in vms or ("web",)}
        self.here = dict.fromkeys("abc", D1)
        self.should = dict.fromkeys("abc", D1)
        self.there = set("abc")
        self.at: dict[str, set[str]] = {path: {"a"} for path in self.vms}
        self.against: dict[str, Sequence[str]] = {}
        self.guarded: dict[str, set[str]] = {path: {"a"} for path in self.vms}

    def vm(self, path: str) -> VirtualMachine | None:
        return self.vms.get(path)

    def connected(self, host: str) -> bool:
        return host in self.there

    def holds(self, host: str) -> str | None:
        return self.here.get(host)

    def wanted(self, host: str) -> str | None:
        return self.should.get(host)

    def trouble(self, host: str) -> str:
        return "no room" if host == "troubled" else ""

    def places(self, vm: str, vnics: Collection[int]) -> frozenset[str]:
        assert vnics or not self.vms[vm].vnics
        return frozenset(self.at.get(vm, ()))

    def obstacles(self, vm: str, to: str) -> Sequence[str]:
        return self.against.get(to, ()) if vm in self.vms else ()

    def guards(self, host: str, vnics: Collection[int]) -> bool:
        return any(
            host in self.guarded[path] and {vnic.id for vnic in known.vnics} == set(vnics)
            for path, known in self.vms.items()
        )

    def runs(self, path: str, *hosts: str) -> None:
        self.at[path], self.guarded[path] = set(hosts), set(hosts)


def record(number: int = 1, name: str = "web", to: str = "b", **more: object) -> MoveRecord:
    return MoveRecord(
        number=number, id=f"{number:032x}", vm=f"/acme:{name}", to=to, by="ada", asked=NOW, epoch=3, state=State.WAITING, since=NOW,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def with_settings(**more: object) -> MoveSettings:
    return msgspec.structs.replace(SETTINGS, **more)


class Stage:
    """A core, its site and the time."""

    def __init__(self, site: FakeSite | None = None, settings: MoveSettings = SETTINGS) -> None:
        self.site = site or FakeSite()
        self.core = MovesCore(self.site, settings, term=7)
        self.now = NOW

    def does(self, event: Event, *, after: float = 0) -> list[Command]:
        self.now += timedelta(seconds=after)
        return self.core.handle(event, self.now)

    def said(self, host: str, step: Step, *, move: int = 1, **what: object) -> list[Command]:
        return self.does(Told(host=host, moving=Moving(move=f"{move:032x}", step=step, **what)))  # type: ignore[arg-type]

    def prepared(self, digest: str = D1, *, host: str = "b") -> list[Command]:
        return self.said(host, Step.PREPARED, address="10.0.0.2:7", facts=Facts(digest=digest))

    def begin(self, **more: object) -> None:
        """Have the source given its leave."""
        self.does(Asked(move=record(**more)))  # type: ignore[arg-type]
        self.does(PlanTaken(vm="/acme:web"))
        self.prepared()

    def at(self, number: int = 1) -> MoveRecord:
        [found] = [move for move in self.core.open if move.number == number]
        return found


def brief(commands: list[Command]) -> list[tuple[object, ...]]:
    """Tell commands shortly."""
    told: list[tuple[object, ...]] = []
    for command in commands:
        match command:
            case Keep(move=move):
                told.append(("keep", move.state))
            case End(move=move):
                told.append(("end", move.state, move.why))
            case Plan(vm=path, to=to):
                told.append(("plan", path, to))
            case Unplan(vm=path):
                told.append(("unplan", path))
            case Say(host=host, message=message):
                told.append((host, type(message)))
    return told


def end_of(commands: list[Command]) -> End:
    [found] = [command for command in commands if isinstance(command, End)]
    return found


# How it goes


def test_a_move_from_its_asking_to_its_receipt() -> None:
    stage = Stage()
    assert brief(stage.does(Asked(move=record()))) == [("keep", State.PLANNED), ("plan", "/acme:web", "b")]
    ticket = stage.at().ticket
    assert ticket
    assert (ticket.source, ticket.to, ticket.domain, ticket.epoch, ticket.until) == (
        "a", "b", "dom-web", 3, NOW.timestamp() + 60,
    )  # fmt: skip
    # What the destination holds now has not the VM's rules in it yet.
    assert stage.does(HostChanged(host="b")) == []
    stage.site.should["b"] = D2
    assert stage.does(PlanTaken(vm="/acme:web")) == []
    stage.site.here["b"] = D2
    assert stage.does(HostChanged(host="b")) == [
        Say(host="b", message=Expect(ticket=ticket, term=7, digest=bytes.fromhex(D2)))
    ]
    assert stage.does(HostChanged(host="b")) == []  # it was asked
    kept, say = stage.prepared(D2)
    assert isinstance(kept, Keep)
    assert (kept.move.state, kept.move.address, kept.move.digest) == (State.PREPARED, "10.0.0.2:7", D2)
    assert say == Say(host="a", message=Depart(ticket=ticket, term=7, address="10.0.0.2:7"))
    stage.site.should["b"] = D1  # rules change while it moves
    assert brief(stage.said("a", Step.COPIED, facts=Facts(flows_first=10))) == [("keep", State.COPIED)]
    assert brief(stage.said("a", Step.SWITCHED)) == [("keep", State.SWITCHED)]
    assert brief(stage.said("b", Step.LIVE, facts=Facts(flows_first=9, refused=1))) == [("keep", State.LIVE)]
    assert brief(stage.said("b", Step.CARRIED, facts=Facts(flows_later=4))) == [("keep", State.CARRIED)]
    stage.now += timedelta(seconds=5)
    commands = stage.said("a", Step.FENCED, facts=Facts(encrypted=True, gap_us=300_000))
    assert brief(commands) == [("end", State.DONE, ""), ("unplan", "/acme:web"), ("a", Forget), ("b", Forget)]
    assert end_of(commands).receipt == Receipt(
        ticket=ticket, by="ada", began=NOW.timestamp(), ended=NOW.timestamp() + 5, made=True, reached=Step.FENCED,
        facts=Facts(digest=D2, flows_first=9, flows_later=4, refused=1, encrypted=True, gap_us=300_000),
    )  # fmt: skip
    assert list(stage.core.open) == []
    assert end_of(commands).move.version == 8


def test_words_in_another_order_come_to_the_same() -> None:
    stage = Stage()
    stage.begin()
    for host, step in (("a", Step.FENCED), ("b", Step.LIVE), ("a", Step.COPIED), ("b", Step.PREPARED)):
        stage.said(host, step, facts=Facts(digest=D1))
    assert stage.at().state is State.FENCED
    assert end_of(stage.said("b", Step.CARRIED)).move.state is State.DONE


def test_words_that_come_again_write_nothing() -> None:
    stage = Stage()
    stage.begin()
    told = {"facts": Facts(flows_first=3)}
    assert brief(stage.said("a", Step.COPIED, **told)) == [("keep", State.COPIED)]
    assert stage.said("a", Step.COPIED, **told) == []


def test_only_the_two_hosts_are_heard_each_about_its_own_end() -> None:
    stage = Stage()
    stage.begin()
    for host, step in (("c", Step.LIVE), ("c", Step.ABORTED), ("a", Step.LIVE), ("b", Step.COPIED), ("b", Step.FENCED)):
        assert stage.said(host, step) == []
    assert stage.at().state is State.PREPARED


def test_who_speaks_of_what_is_over_is_told_so() -> None:
    stage = Stage()
    assert brief(stage.said("c", Step.CARRIED, move=9)) == [("c", Forget)]


# The destination is attested


@pytest.mark.parametrize("digest", [D2, ""])
def test_a_destination_that_holds_another_ruleset_is_not_ready(digest: str) -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    stage.does(PlanTaken(vm="/acme:web"))
    commands = stage.prepared(digest)
    assert ("a", Depart) not in brief(commands)
    assert stage.at().state is State.PLANNED
    assert ("b", Expect) in brief(stage.does(Ticked()))  # asked again
    assert ("a", Depart) in brief(stage.prepared())
    assert stage.at().digest == D1


def test_rules_that_change_meanwhile_are_held_first() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    assert brief(stage.does(PlanTaken(vm="/acme:web"))) == [("b", Expect)]
    stage.site.should["b"] = D2
    assert ("a", Depart) not in brief(stage.prepared(D1))
    assert stage.does(Ticked()) == []
    stage.site.here["b"] = D2
    [say] = stage.does(HostChanged(host="b"))
    assert isinstance(say, Say)
    assert isinstance(say.message, Expect)
    assert say.message.digest.hex() == D2
    assert ("a", Depart) in brief(stage.prepared(D2))


def test_nothing_is_attested_before_the_rules_are_planned() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    assert ("a", Depart) not in brief(stage.prepared())


def test_a_destination_without_room_ends_it() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    commands = stage.does(PlanRefused(vm="/acme:web", why="host b would need 2 GB"))
    assert end_of(commands).move.why == "host b cannot have its rules: host b would need 2 GB"
    assert end_of(commands).receipt is not None


# Who may go, and when


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda site: site.runs("/acme:web"), "no host tells that /acme:web runs there"),
        (lambda site: site.runs("/acme:web", "a", "c"), "told of by hosts a and c at once"),
        (lambda site: site.runs("/acme:web", "b"), "runs at host b already"),
        (lambda site: site.there.discard("a"), "host a, where /acme:web runs, is not connected"),
        (lambda site: site.there.discard("b"), "host b is not connected"),
        (lambda site: site.against.update(b=["x", "y"]), "/acme:web may not run at host b: x; y"),
        (lambda site: site.vms.update({"/acme:web": vm("web", 65)}), "has 65 vNICs"),
        (lambda site: site.vms.update({"/acme:web": vm("web", 0)}), "has 0 vNICs"),
    ],
)
def test_what_cannot_be_moved_is_refused(change: object, why: str) -> None:
    stage = Stage()
    change(stage.site)  # type: ignore[operator]
    commands = stage.does(Asked(move=record()))
    assert brief(commands)[0][:2] == ("end", State.ABORTED)
    assert why in end_of(commands).move.why
    assert end_of(commands).receipt is None
    assert len(commands) == 1  # no host has heard of it
    assert stage.does(Asked(move=record())) == []  # read once more before it was written down


def test_a_vm_that_is_gone_ends_what_waits() -> None:
    stage = Stage()
    del stage.site.vms["/acme:web"]
    assert stage.does(Asked(move=record())) == []
    assert end_of(stage.does(Ticked())).move.why == "there is no VM /acme:web any more"


def test_of_each_host_so_many_are_on_and_others_follow_in_order() -> None:
    site = FakeSite("web", "app", "db", "far")
    site.runs("/acme:far", "c")
    stage = Stage(site)
    for number, name in enumerate(("web", "app", "db"), 1):
        stage.does(Asked(move=record(number, name)))
    # From c to b: the third is before it on the way to b.
    stage.does(Asked(move=record(4, "far")))
    assert [stage.at(n).state for n in (1, 2, 3, 4)] == [State.PLANNED, State.PLANNED, State.WAITING, State.WAITING]
    assert stage.at(3).why == "others go first: host a takes part in 2 moves at a time"
    site.runs("/acme:far", "c")
    commands = stage.does(AbortWanted(move=f"{2:032x}", by="eve"))
    assert brief(commands)[0] == ("end", State.ABORTED, "eve has aborted it")
    assert ("plan", "/acme:db", "b") in brief(commands)
    assert [stage.at(n).state for n in (1, 3, 4)] == [State.PLANNED, State.PLANNED, State.WAITING]
    assert stage.at(3).why == ""


def test_who_cannot_go_just_now_holds_up_nobody() -> None:
    site = FakeSite("web", "app")
    stage = Stage(site, with_settings(at_once=1))
    site.runs("/acme:web")
    stage.does(Resumed(moves=[record(1, "web"), record(2, "app")]))
    assert [stage.at(n).state for n in (1, 2)] == [State.WAITING, State.PLANNED]
    assert "no host tells" in stage.at(1).why
    site.runs("/acme:web", "c")
    stage.does(Ticked())
    assert stage.at(1).state is State.WAITING  # b takes part in one already
    stage.does(AbortWanted(move=f"{2:032x}", by="eve"))
    assert stage.at(1).source == "c"


# Aborts


def test_an_abort_before_the_leave_ends_it_at_once() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    commands = stage.does(AbortWanted(move=f"{1:032x}", by="eve"))
    assert brief(commands) == [
        ("end", State.ABORTED, "eve has aborted it"), ("unplan", "/acme:web"), ("a", Forget), ("b", Forget),
    ]  # fmt: skip
    receipt = end_of(commands).receipt
    assert receipt
    assert (receipt.reached, receipt.why, receipt.unheard) == (Step.PLANNED, "eve has aborted it", [])


def test_an_abort_after_it_takes_the_sources_word() -> None:
    stage = Stage()
    stage.begin()
    stage.said("a", Step.COPIED)
    commands = stage.does(AbortWanted(move=f"{1:032x}", by="eve"))
    assert brief(commands) == [("keep", State.ABORTING), ("a", Forget), ("b", Forget)]
    assert stage.does(AbortWanted(move=f"{1:032x}", by="eve")) == []
    assert stage.said("b", Step.ABORTED) == []
    ended = end_of(stage.said("a", Step.ABORTED, why="told to"))
    assert (ended.move.state, ended.move.why) == (State.ABORTED, "host a: told to")
    assert ended.move.abort == "eve"
    assert ended.receipt
    assert ended.receipt.reached is Step.COPIED


def test_an_abort_does_not_wait_for_a_source_that_never_had_its_leave() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    stage.does(PlanTaken(vm="/acme:web"))
    stage.site.there.discard("a")
    stage.prepared()
    commands = stage.does(AbortWanted(move=f"{1:032x}", by="eve"))
    assert (end_of(commands).move.state, end_of(commands).move.why) == (State.ABORTED, "eve has aborted it")
    # One that has got it meanwhile is waited for.
    stage = Stage()
    stage.does(Asked(move=record()))
    stage.does(PlanTaken(vm="/acme:web"))
    stage.site.there.discard("a")
    stage.prepared()
    stage.site.there.add("a")
    assert brief(stage.does(HostCame(host="a"))) == [("a", Depart)]
    assert brief(stage.does(AbortWanted(move=f"{1:032x}", by="eve")))[0] == ("keep", State.ABORTING)
    assert stage.at().state is State.ABORTING


def test_an_abort_that_comes_too_late_is_overtaken_by_what_is_so() -> None:
    stage = Stage()
    stage.begin()
    stage.does(AbortWanted(move=f"{1:032x}", by="eve"))
    assert brief(stage.said("b", Step.LIVE)) == [("keep", State.LIVE)]
    stage.said("b", Step.CARRIED)
    ended = end_of(stage.said("a", Step.FENCED))
    assert (ended.move.state, ended.move.why) == (State.DONE, "")


def test_from_the_switch_on_nobody_aborts() -> None:
    stage = Stage()
    stage.begin()
    stage.said("a", Step.SWITCHED)
    assert stage.does(AbortWanted(move=f"{1:032x}", by="eve")) == []
    assert stage.at().abort is None


def test_a_host_that_fails_is_named_with_its_reason() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    assert end_of(stage.said("b", Step.ABORTED, why="no port is free")).move.why == "host b: no port is free"
    stage = Stage()
    stage.begin()
    assert brief(stage.said("b", Step.ABORTED, why="x" * 4096))[0] == ("keep", State.ABORTING)
    assert len(stage.at().why) == 4096
    assert end_of(stage.said("a", Step.ABORTED)).move.why == "host a: it gives no reason"


# Times


def test_a_ticket_that_is_over_ends_what_has_not_begun() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    assert stage.does(Ticked(), after=59) == []
    assert end_of(stage.does(Ticked(), after=1)).move.state is State.ABORTED
    for change, why in (
        (lambda site: site.there.discard("b"), "host b is not connected, and was not ready in time"),
        (lambda site: site.here.update(b=D2), "host b did not hold the VM's rules in time"),
        (lambda _: None, "host b holds the VM's rules, and has not said in time that it is ready"),
    ):
        stage = Stage()
        stage.does(Asked(move=record()))
        change(stage.site)
        assert end_of(stage.does(Ticked(), after=60)).move.why == why


def test_hosts_that_fall_silent_on_the_way_are_told_to_forget_and_then_it_is_over() -> None:
    stage = Stage()
    stage.begin()
    stage.said("a", Step.COPIED)
    for host in "ab":
        stage.does(HostLeft(host=host))
    stage.site.there = {"c"}
    assert brief(stage.does(Ticked(), after=600)) == [("keep", State.ABORTING), ("a", Forget), ("b", Forget)]
    ended = end_of(stage.does(Ticked(), after=10))
    assert ended.move.why == (
        "it has not come further than copied in time; host a and b are not connected (host a has not told in time what became of it)"
    )
    assert ended.receipt
    assert ended.receipt.unheard == ["a"]


def test_what_is_not_told_in_the_end_stays_unknown_and_who_did_not_tell_is_named() -> None:
    stage = Stage()
    stage.begin()
    stage.site.runs("/acme:web", "a", "b")  # the source has not let go of it
    stage.said("b", Step.LIVE, facts=Facts(unprotected=1))
    ended = end_of(stage.does(Ticked(), after=30))
    assert ended.move.state is State.DONE
    assert ended.receipt
    assert ended.receipt.unheard == ["a", "b"]
    assert ended.receipt.facts == Facts(digest=D1, unprotected=1)
    stage = Stage()
    stage.begin()
    stage.site.runs("/acme:web", "b")
    stage.said("b", Step.CARRIED)
    receipt = end_of(stage.does(Ticked(), after=30)).receipt
    assert receipt
    assert (receipt.unheard, receipt.reached) == (["a"], Step.CARRIED)


def test_where_it_is_seen_counts_when_words_are_missing() -> None:
    stage = Stage()
    stage.begin()
    stage.site.at["/acme:web"], stage.site.guarded["/acme:web"] = {"a", "b"}, {"b"}
    assert stage.does(HostChanged(host="b")) == []  # both tell of it: it is on its way
    stage.site.runs("/acme:web", "b")
    assert brief(stage.does(HostChanged(host="a"))) == [("keep", State.LIVE)]
    stage.site.runs("/acme:web", "a")  # whatever was told
    ended = end_of(stage.does(Ticked(), after=30))
    assert (ended.move.state, ended.move.why) == (
        State.ABORTED, "host b said that it runs there, and it runs at host a",
    )  # fmt: skip


def test_an_abort_whose_source_is_dead_is_a_move_where_the_destination_guards_it() -> None:
    stage = Stage()
    stage.begin()
    stage.does(AbortWanted(move=f"{1:032x}", by="eve"))
    stage.does(HostLeft(host="a"))
    stage.site.there.discard("a")
    stage.site.at["/acme:web"], stage.site.guarded["/acme:web"] = {"a", "b"}, {"b"}
    assert brief(stage.does(Ticked(), after=10)) == [("keep", State.LIVE)]
    assert end_of(stage.does(Ticked(), after=30)).move.state is State.DONE


def test_a_source_that_has_forgotten_it_is_not_believed_against_what_is_seen() -> None:
    stage = Stage()
    stage.begin()
    stage.said("a", Step.SWITCHED)
    stage.site.runs("/acme:web", "b")
    assert brief(stage.said("a", Step.ABORTED, why="it does not run here")) == [("keep", State.LIVE)]
    assert stage.at().why == ""


def test_what_could_not_be_done_of_a_move_that_is_made_is_on_its_receipt() -> None:
    stage = Stage()
    stage.begin()
    stage.said("b", Step.LIVE)
    # Nobody waits for the destination to say that it has flows which the source says are lost.
    ended = end_of(stage.said("a", Step.FENCED, why="its last flows could not be carried along"))
    assert (ended.move.state, ended.move.why) == (State.DONE, "")
    assert ended.receipt
    assert (ended.receipt.why, ended.receipt.unheard) == ("host a: its last flows could not be carried along", [])


def test_that_flows_are_lost_ends_nothing_before_the_destination_has_told_of_the_guest() -> None:
    stage = Stage()
    stage.begin()
    assert brief(stage.said("a", Step.FENCED, why="its last flows could not be carried along")) == [
        ("keep", State.FENCED)
    ]
    assert end_of(stage.said("b", Step.LIVE, facts=Facts(refused=2))).move.there.refused == 2


def test_a_vm_that_somebody_else_has_moved_is_not_moved_again() -> None:
    stage = Stage()
    stage.does(Asked(move=record()))
    stage.site.runs("/acme:web", "b")
    assert end_of(stage.does(HostChanged(host="b"))).move.why == (
        "it runs at host b already: somebody else has moved it"
    )


# Moved by a hypervisor, that nobody has asked to


def by_itself(number: int = 1, name: str = "web", to: str = "b") -> MoveRecord:
    return record(number, name, to, migrate=False)


def test_what_goes_on_already_waits_for_no_turn_and_the_source_has_its_leave_for_flows_alone() -> None:
    stage = Stage(FakeSite("web", "app"), with_settings(at_once=1))
    stage.does(Asked(move=record(2, "app")))
    assert brief(stage.does(Asked(move=by_itself()))) == [("keep", State.PLANNED), ("plan", "/acme:web", "b")]
    stage.does(PlanTaken(vm="/acme:web"))
    [leave] = [each.message for each in stage.prepared() if isinstance(each, Say)]
    assert isinstance(leave, Depart)
    assert not leave.migrate
    # A leader that follows says the same.
    second = Stage(stage.site)
    second.does(Resumed(moves=list(stage.core.open)))
    [again] = [
        each.message
        for each in second.does(HostCame(host="a"))
        if isinstance(each, Say)
        if isinstance(each.message, Depart)
    ]
    assert not again.migrate


def test_what_goes_on_already_does_not_wait_for_a_move_to_become_possible() -> None:
    stage = Stage()
    stage.site.there.discard("a")
    stage.does(Resumed(moves=[by_itself(), record(2, "web", "c")]))
    assert [move.number for move in stage.core.open] == [2], "it waits till its host is there"


def test_a_hypervisor_that_does_not_begin_ends_it() -> None:
    stage = Stage()
    stage.begin(migrate=False)
    stage.said("a", Step.COPIED)
    assert stage.does(Ticked(), after=59) == []
    commands = stage.does(Ticked(), after=1)
    assert brief(commands) == [("keep", State.ABORTING), ("a", Forget), ("b", Forget)]
    assert stage.at().why == "the hypervisor has not begun to move it to host b, or has given up"


def test_a_hypervisor_may_take_its_time_as_long_as_the_vm_is_seen_to_come_and_gives_up_when_it_is_not() -> None:
    stage = Stage()
    stage.begin(migrate=False)
    stage.said("a", Step.COPIED)
    stage.site.at["/acme:web"] = {"a", "b"}
    for _ in range(300):
        assert stage.does(Ticked(), after=1) == []
    stage.site.at["/acme:web"] = {"a"}
    assert stage.does(Ticked(), after=2) == [], "an agent that begins anew tells in a moment"
    assert brief(stage.does(Ticked(), after=1))[0] == ("keep", State.ABORTING)
    assert end_of(stage.said("a", Step.ABORTED, why="told to")).receipt is not None


def test_a_hypervisor_that_tries_again_has_its_time_again() -> None:
    stage = Stage()
    stage.begin(migrate=False)
    stage.site.at["/acme:web"] = {"a", "b"}
    stage.does(Ticked())
    stage.site.at["/acme:web"] = {"a"}
    stage.does(Ticked(), after=2)
    assert stage.does(Entered(move=f"{1:032x}")) == []
    assert stage.does(Ticked(), after=59) == []
    assert brief(stage.does(Ticked(), after=1))[0] == ("keep", State.ABORTING)


def test_also_a_hypervisor_has_not_for_ever() -> None:
    stage = Stage()
    stage.begin(migrate=False)
    stage.site.at["/acme:web"] = {"a", "b"}
    for _ in range(5):
        assert stage.does(Ticked(), after=100) == []
    assert brief(stage.does(Ticked(), after=100))[0] == ("keep", State.ABORTING)
    assert stage.at().why == "it has not come further than prepared in time"


# Another controller


def test_whoever_leads_next_goes_on() -> None:
    first = Stage()
    first.begin()
    kept = first.at()
    second = Stage()
    second.now = NOW + timedelta(seconds=5)
    assert brief(second.does(Resumed(moves=[kept]))) == [("plan", "/acme:web", "b")]
    second.site.should = {}  # nobody has told yet what hosts should hold
    assert brief(second.does(HostCame(host="a"))) == [("a", Depart)]
    assert second.does(HostCame(host="b")) == []
    assert second.does(Ticked()) == []
    second.site.should = dict.fromkeys("abc", D1)
    assert brief(second.does(PlanTaken(vm="/acme:web"))) == [("b", Expect)]
    assert second.does(Ticked()) == []
    assert brief(second.does(HostCame(host="b"))) == [("b", Expect)]
    assert brief(second.said("a", Step.SWITCHED)) == [("keep", State.SWITCHED)]
    assert second.at().version == kept.version + 1


def test_hosts_get_time_to_come_back_to_another_controller() -> None:
    first = Stage()
    first.begin()
    first.said("b", Step.LIVE)
    kept = first.at()
    second = Stage()
    second.now = NOW + timedelta(hours=1)
    second.does(Resumed(moves=[kept]))
    second.site.there = set()
    assert second.does(Ticked(), after=29) == []
    assert end_of(second.does(Ticked(), after=1)).move.state is State.DONE


def test_a_ticket_that_ran_out_meanwhile_is_over() -> None:
    first = Stage()
    first.does(Asked(move=record()))
    second = Stage()
    second.does(Resumed(moves=[first.at()]), after=61)
    assert end_of(second.does(Ticked())).move.state is State.ABORTED


def test_an_abort_that_was_asked_for_is_remembered() -> None:
    first = Stage()
    first.begin()
    second = Stage()
    commands = second.does(Resumed(moves=[dataclasses.replace(first.at(), abort="eve")]))
    assert brief(commands) == [
        ("plan", "/acme:web", "b"), ("keep", State.ABORTING), ("a", Forget), ("b", Forget),
    ]  # fmt: skip
    assert ("a", Forget) in brief(second.does(HostCame(host="a")))


# Whatever happens

HOSTS = st.sampled_from(["a", "b", "c"])
MOVES = st.integers(1, 4)
FACTS = st.builds(Facts, digest=st.sampled_from(["", D1, D2]), flows_first=st.integers(0, 3))
WORDS = st.builds(
    lambda host, move, step, facts: Told(host=host, moving=Moving(move=f"{move:032x}", step=step, facts=facts, address="x:1")),
    HOSTS, MOVES, st.sampled_from(Step), FACTS,
)  # fmt: skip
NAMES = ("web", "app", "db", "far")
EVENTS = st.one_of(
    WORDS, WORDS,
    st.builds(HostCame, host=HOSTS), st.builds(HostLeft, host=HOSTS), st.builds(HostChanged, host=HOSTS),
    st.builds(PlanTaken, vm=st.sampled_from([f"/acme:{name}" for name in NAMES])), st.just(Ticked()),
    st.builds(PlanRefused, vm=st.sampled_from([f"/acme:{name}" for name in NAMES]), why=st.just("no room")),
    st.builds(lambda n: AbortWanted(move=f"{n:032x}", by="eve"), MOVES),
    st.builds(lambda n, to, migrate: Asked(move=record(n, NAMES[n - 1], to, migrate=migrate)), MOVES, HOSTS, st.booleans()),
    st.builds(lambda n: Entered(move=f"{n:032x}"), MOVES),
    st.tuples(st.sampled_from(NAMES), st.frozensets(HOSTS)), st.tuples(HOSTS, st.sampled_from([D1, D2])), st.floats(0.1, 700),
    st.just("another"),
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.lists(EVENTS, max_size=50))
def test_every_move_ends_once_and_what_is_done_was_written_down(script: list[object]) -> None:
    stage = Stage(FakeSite(*NAMES))
    written: dict[str, MoveRecord] = {}
    ended: list[str] = []

    def take(commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Keep(move=move):
                    assert move.id not in ended
                    assert move.version > written.get(move.id, record(move.number)).version
                    written[move.id] = move
                case End(move=move, receipt=receipt):
                    assert move.state in OVER
                    assert (receipt is None) == (move.ticket is None)
                    assert receipt is None or receipt.made == (move.state is State.DONE)
                    assert (move.why == "") == (move.state is State.DONE)
                    ended.append(move.id)
                case Say(host=host, message=Depart(ticket=ticket, migrate=migrate)):
                    at = written[ticket.move]
                    assert at.state in {State.PREPARED, State.COPIED}
                    assert (at.source, at.ticket, at.migrate, at.digest != "") == (host, ticket, migrate, True)
                case Say(message=Expect(ticket=ticket)):
                    assert written[ticket.move].ticket == ticket
                    assert ticket.move not in ended
                case Say(host=host):
                    assert host in {"a", "b", "c"}
                case _:
                    pass
        busy = [move for move in stage.core.open if move.state is not State.WAITING and move.migrate]
        for host in "abc":
            assert sum(host in {move.source, move.to} for move in busy) <= SETTINGS.at_once

    for each in script:
        match each:
            case (str(name), frozenset() as hosts) if name in NAMES:
                stage.site.runs(f"/acme:{name}", *hosts)
            case (str(host), str(digest)):
                stage.site.here[host] = stage.site.should[host] = digest
            case float(seconds):
                take(stage.does(Ticked(), after=seconds))
            case "another":  # a controller that is killed, and one that goes on from what is written down
                still = [written.get(move.id, move) for move in stage.core.open]
                stage.core = MovesCore(stage.site, SETTINGS, term=8)
                take(stage.does(Resumed(moves=still)))
            case Asked(move=move):
                if all(move.id != other for other in [*ended, *(known.id for known in stage.core.open)]):
                    take(stage.does(each))
            case HostCame(host=host) | HostLeft(host=host):
                (stage.site.there.add if isinstance(each, HostCame) else stage.site.there.discard)(host)
                take(stage.does(each))
            case _:
                take(stage.does(each))  # type: ignore[arg-type]
    for _ in range(60):
        take(stage.does(Ticked(), after=1000))
    assert list(stage.core.open) == []
    assert len(ended) == len(set(ended))
