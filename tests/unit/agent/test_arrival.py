"""Playbooks of a move at its destination."""

from __future__ import annotations

import pytest

from serai.agent.moving.arrival import SILENT_SECONDS, Arrival
from serai.agent.moving.events import (
    Asked,
    Command,
    Event,
    FlowsRefused,
    FlowsTaken,
    Forgotten,
    HangUp,
    Heard,
    Joined,
    Listening,
    Lived,
    Parted,
    Release,
    Remember,
    RulesHeld,
    Say,
    Take,
    Tell,
    Ticked,
    Withhold,
)
from serai.agent.moving.kept import Phase
from serai.model.life import Life
from serai.model.migration import Facts, Step, Ticket
from serai.wire.handoff import LEASE_SECONDS, Abort, Begin, Closed, Flows, FromSource, Live, Taken, Turn

TICKET = Ticket(move="a" * 32, epoch=1, vm="/acme:web", domain="web", vnics=[1, 2], source="a", to="b", until=1000.0)
OLD, NEW, NEWER = "0" * 64, "1" * 64, "2" * 64
WITHOUT, WITH = RulesHeld(digest=OLD, vnics=frozenset({3})), RulesHeld(digest=NEW, vnics=frozenset({1, 2, 3}))
HERE = "10.0.0.2:8745"
WITHHOLD, RELEASE, REMEMBER = Withhold(), Release(), Remember()


def arrival(held: RulesHeld = WITHOUT, wanted: str = NEW, address: str = HERE) -> Arrival:
    return Arrival(TICKET, wanted, held, address)


def play(one: Arrival, *events: Event) -> list[Command]:
    return [command for event in events for command in one.handle(event)]


def heard(message: FromSource, now: float = 10.0) -> Heard:
    return Heard(message=message, now=now)


def lived(life: Life, now: float = 10.0) -> Lived:
    return Lived(life=life, now=now)


def tick(now: float = 10.0, clock: float = 0.0) -> Ticked:
    return Ticked(now=now, clock=clock)


def taken(flows: int = 1, refused: int = 0, unprotected: int = 0, now: float = 10.0) -> FlowsTaken:
    return FlowsTaken(flows=flows, refused=refused, unprotected=unprotected, now=now)


def answer(number: int, flows: int = 0, refused: int = 0) -> Say:
    return Say(message=Taken(number=number, flows=flows, refused=refused))


def prepared(digest: str = NEW, address: str = HERE) -> Tell:
    return Tell(step=Step.PREPARED, address=address, facts=Facts(digest=digest))


def tells(commands: list[Command]) -> list[Step]:
    return [command.step for command in commands if isinstance(command, Tell)]


def ready() -> Arrival:
    one = arrival()
    one.begin()
    play(one, WITH, lived(Life.HELD))
    assert one.phase is Phase.READY
    return one


def joined(now: float = 10.0) -> Arrival:
    one = ready()
    assert play(one, Joined(now=now)) == [answer(0)]
    return one


def turned(now: float = 10.0) -> Arrival:
    one = joined(now)
    assert play(one, heard(Turn(number=1, acknowledged=0), now)) == [RELEASE, answer(1), REMEMBER]
    return one


def test_a_move_that_goes_well() -> None:
    one = arrival()
    assert one.begin() == [WITHHOLD]
    assert play(one, WITH) == [prepared(), REMEMBER]
    assert play(one, lived(Life.HELD)) == []
    assert play(one, Joined(now=10.0)) == [answer(0)]
    assert play(one, heard(Flows(number=1, parts=[b"x", b"y"]))) == [Take(parts=[b"x", b"y"])]
    assert play(one, taken(5, 2)) == [answer(1, 5, 2)]
    assert play(one, heard(Flows(number=2)), taken(0)) == [Take(parts=[]), answer(2)]
    assert not one.open
    assert play(one, heard(Turn(number=3, acknowledged=2))) == [RELEASE, answer(3), REMEMBER]
    assert one.open
    live = Tell(step=Step.CARRIED, facts=Facts(digest=NEW, refused=2))
    assert play(one, lived(Life.RUNS)) == [Say(message=Live()), live, REMEMBER]
    assert play(one, Parted(why="over", now=11.0)) == []
    assert play(one, Forgotten(why="", now=12.0)) == [REMEMBER]
    assert one.over


def test_the_hypervisor_is_quicker_than_the_source() -> None:
    """Its word is enough; flows that come later are taken still."""
    one = joined()
    assert play(one, lived(Life.RUNS)) == [
        Release(amid=True), Say(message=Live()), Tell(step=Step.LIVE, facts=Facts(digest=NEW)), REMEMBER,
    ]  # fmt: skip
    assert play(one, heard(Flows(number=1, parts=[b"x"])), taken(1))[1:] == [answer(1, 1)]
    assert play(one, heard(Turn(number=2, acknowledged=0))) == [
        answer(2), Tell(step=Step.CARRIED, facts=Facts(digest=NEW)), REMEMBER,
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", [NEW, NEWER])
def test_rules_that_come_later_are_the_right_ones_or_later_ones(wanted: str) -> None:
    one = arrival(wanted=wanted)
    one.begin()
    assert play(one, RulesHeld(digest=OLD, vnics=frozenset({3}))) == []
    assert play(one, WITH) == [prepared(), REMEMBER]
    assert play(one, RulesHeld(digest=NEWER, vnics=frozenset({1, 2}))) == [], "it has been told"


def test_rules_of_before_are_not_the_right_ones() -> None:
    """The VM may have been here before, by other rules."""
    one = arrival(held=WITH, wanted=NEWER)
    assert one.begin() == [WITHHOLD]
    assert play(one, WITH) == []
    newer = RulesHeld(digest=NEWER, vnics=WITH.vnics)
    assert play(one, newer) == [prepared(NEWER), REMEMBER]


def test_rules_that_are_there_already() -> None:
    assert arrival(held=WITH).begin() == [WITHHOLD, prepared(), REMEMBER]


def test_it_is_told_where_flows_are_taken_when_that_is_known_and_when_it_changes() -> None:
    one = arrival(address="")
    one.begin()
    assert play(one, WITH) == []
    assert play(one, Listening(address=HERE)) == [prepared(), REMEMBER]
    assert play(one, Listening(address=HERE)) == []
    assert play(one, Listening(address="")) == []
    assert play(one, Listening(address="[::1]:9")) == [prepared(address="[::1]:9"), REMEMBER]


def test_it_is_asked_again() -> None:
    one = ready()
    assert play(one, Asked(digest=NEW)) == [prepared(), REMEMBER]
    assert play(one, Asked(digest=NEWER)) == [], "it does not hold them yet"
    assert play(one, RulesHeld(digest=NEWER, vnics=WITH.vnics)) == [prepared(NEWER), REMEMBER]
    one = turned()
    play(one, lived(Life.RUNS))
    assert play(one, Asked(digest=NEW)) == [Tell(step=Step.CARRIED, facts=Facts(digest=NEW))]


def test_rules_without_the_vm_end_it() -> None:
    one = joined()
    said = play(one, WITHOUT)
    why = "the rules of this host do not have the VM any more"
    assert said == [
        Say(message=Abort(why=why, closed=True)), HangUp(why=why), Tell(step=Step.ABORTED, why=why), REMEMBER,
    ]  # fmt: skip
    one = turned()
    assert play(one, WITHOUT)[0] == WITHHOLD


@pytest.mark.parametrize(
    "message",
    [
        Flows(number=1), Flows(number=3), Flows(number=7), Turn(number=1, acknowledged=0), Turn(number=9, acknowledged=1),
        Begin(version=1, move="a" * 32, epoch=1),
    ],
)  # fmt: skip
def test_what_comes_out_of_turn_ends_the_conversation(message: FromSource) -> None:
    one = joined()
    play(one, heard(Flows(number=1)), taken())
    abort, hang_up = play(one, heard(message))
    assert isinstance(abort, Say)
    assert isinstance(abort.message, Abort)
    assert isinstance(hang_up, HangUp)
    assert play(one, heard(Flows(number=2))) == [], "nothing of it is heard any more"
    assert one.phase is Phase.READY
    assert play(one, Joined(now=11.0), heard(Flows(number=1, parts=[b"x"]))) == [answer(0), Take(parts=[b"x"])]


def test_flows_that_are_none_end_the_conversation_and_not_the_move() -> None:
    one = joined()
    play(one, heard(Flows(number=1, parts=[b"nonsense"])))
    assert play(one, FlowsRefused(why="no handoff")) == [Say(message=Abort(why="no handoff")), HangUp(why="no handoff")]
    assert one.phase is Phase.READY
    assert not one.open


@pytest.mark.parametrize(("late", "opens"), [(LEASE_SECONDS - 0.01, True), (LEASE_SECONDS, False), (60.0, False)])
def test_a_turn_is_good_for_a_moment_after_what_it_acknowledges(late: float, opens: bool) -> None:  # noqa: FBT001
    one = joined(now=10.0)
    play(one, heard(Flows(number=1), 10.5), taken(now=10.5))
    commands = play(one, heard(Turn(number=2, acknowledged=1), 10.5 + late))
    assert (commands == [RELEASE, answer(2), REMEMBER]) == opens
    assert one.open == opens
    assert play(one, lived(Life.RUNS))[-2:] == [Tell(step=Step.CARRIED, facts=Facts(digest=NEW)), REMEMBER]


@pytest.mark.parametrize("acknowledged", [5, 1])
def test_a_turn_that_acknowledges_what_was_not_said_opens_nothing(acknowledged: int) -> None:
    one = joined()
    assert play(one, heard(Turn(number=1, acknowledged=acknowledged))) == [answer(1), REMEMBER]
    assert not one.open


def test_an_earlier_conversation_acknowledges_nothing_in_a_later_one() -> None:
    one = joined(now=10.0)
    play(one, heard(Flows(number=1), 10.0), taken(now=10.0), Joined(now=11.0))
    assert play(one, heard(Turn(number=1, acknowledged=1), 11.0)) == [answer(1), REMEMBER]


def test_a_guest_that_does_not_come_closes_the_gates_again() -> None:
    one = turned(now=10.0)
    assert play(one, tick(10.0 + LEASE_SECONDS - 0.01)) == []
    assert play(one, tick(10.0 + LEASE_SECONDS)) == [WITHHOLD, REMEMBER]
    assert not one.open
    assert play(one, lived(Life.RUNS))[0] == Release(amid=False), "and its coming opens them"
    one = turned()
    assert play(one, lived(Life.GONE)) == [WITHHOLD, REMEMBER]
    one = turned()
    play(one, lived(Life.RUNS))
    assert play(one, tick(1e9)) == [], "no longer than the guest is here"


@pytest.mark.parametrize("complete", [False, True])
def test_the_source_says_that_nothing_has_moved(complete: bool) -> None:  # noqa: FBT001
    one = turned() if complete else joined()
    closed: list[Command] = [WITHHOLD] if complete else []
    assert play(one, heard(Abort(why="no room"))) == [
        *closed, Say(message=Closed()), HangUp(why="no room"), Tell(step=Step.ABORTED, why="no room"), REMEMBER,
    ]  # fmt: skip
    assert not one.open


def test_it_is_not_believed_where_the_guest_runs() -> None:
    one = turned()
    play(one, lived(Life.RUNS))
    assert play(one, heard(Abort(why="no room"))) == [
        Say(message=Abort(why="the guest runs here")), HangUp(why="no room"),
    ]  # fmt: skip
    assert one.open


class TestForgotten:
    def test_before_anything_has_come(self) -> None:
        one = arrival()
        one.begin()
        assert play(one, Forgotten(why="called off", now=1.0)) == [Tell(step=Step.ABORTED, why="called off"), REMEMBER]
        assert not one.open, "until the controller knows that it is over at the source, too"
        assert play(one, Forgotten(why="", now=2.0)) == [RELEASE, REMEMBER]
        assert one.over

    def test_amid_the_copy(self) -> None:
        one = joined()
        assert play(one, Forgotten(why="", now=1.0))[:2] == [
            Say(message=Abort(why="the controller has forgotten this move", closed=True)),
            HangUp(why="the controller has forgotten this move"),
        ]

    def test_a_gate_waits_for_the_guest_that_comes_all_the_same(self) -> None:
        one = joined()
        play(one, Forgotten(why="x", now=1.0))
        assert play(one, Forgotten(why="", now=2.0)) == [REMEMBER]
        assert not one.open
        assert not one.over
        assert play(one, lived(Life.RUNS)) == [Release(amid=True), REMEMBER]
        assert one.over

    def test_or_until_it_is_gone(self) -> None:
        one = joined()
        play(one, Forgotten(why="x", now=1.0), Forgotten(why="", now=2.0))
        assert play(one, lived(Life.GONE)) == [RELEASE, REMEMBER]
        assert one.over

    def test_too_late(self) -> None:
        one = joined()
        play(one, Forgotten(why="x", now=1.0))
        assert tells(play(one, lived(Life.RUNS))) == [Step.LIVE]


def test_a_silent_source_is_hung_up_on() -> None:
    one = joined(now=10.0)
    play(one, heard(Flows(number=1), 12.0), taken(now=12.0))
    assert play(one, tick(12.0 + SILENT_SECONDS - 0.01)) == []
    assert play(one, tick(12.0 + SILENT_SECONDS)) == [HangUp(why="the source is silent")]
    one = turned()
    play(one, lived(Life.RUNS))
    assert play(one, tick(1e9)) == [], "it has said all"


def test_a_ticket_ends() -> None:
    for one in (arrival(), arrival(held=WITH)):
        one.begin()
        assert play(one, tick(clock=999.0)) == []
        assert one.refuses(1000.0) in {"", "the VM's rules are not here yet"}
        assert tells(play(one, tick(clock=1000.1))) == [Step.ABORTED]
        assert one.refuses(0.0) == "this move is over"
    one = ready()
    assert play(one, tick(clock=2000.0)) == [], "it has begun: the domain is here"
    assert one.refuses(2000.0) == ""
    play(one, lived(Life.GONE))
    assert "has ended" in one.refuses(2000.0)


@pytest.mark.parametrize("phase", list(Phase)[:4])
def test_an_agent_is_restarted(phase: Phase) -> None:
    one = {
        Phase.WAITING: arrival, Phase.READY: joined, Phase.TURNED: turned, Phase.LIVE: turned,
    }[phase]()  # fmt: skip
    if phase is Phase.LIVE:
        play(one, lived(Life.RUNS))
    assert one.phase is phase
    nothing = RulesHeld(digest="", vnics=frozenset())
    again = Arrival.restored(one.kept, nothing, "")
    assert again.kept == one.kept
    assert again.begin() == ([] if phase in {Phase.TURNED, Phase.LIVE} else [WITHHOLD])
    told = play(again, WITH, Listening(address=HERE))
    assert tells(told) == ([Step.PREPARED] if phase in {Phase.WAITING, Phase.READY} else [])
    if phase is Phase.TURNED:
        assert play(again, tick(10.0 + LEASE_SECONDS)) == [WITHHOLD, REMEMBER]
    if phase is not Phase.LIVE:
        assert tells(play(again, lived(Life.RUNS))) == [Step.CARRIED if phase is Phase.TURNED else Step.LIVE]
    assert again.open
