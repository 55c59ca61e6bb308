"""Playbooks of a move at its source."""

from __future__ import annotations

import pytest

from serai.agent.moving.departure import ATTEMPTS, CARRY_SECONDS, LIVE_SECONDS, WAIT_SECONDS, Departure
from serai.agent.moving.events import (
    Command,
    Copied,
    Copy,
    Event,
    Forgotten,
    HandedOver,
    HandOver,
    HangUp,
    Heard,
    Joined,
    Lived,
    Migrate,
    MigrationEnded,
    Parted,
    Reach,
    Release,
    Remember,
    Say,
    StopMigration,
    Tell,
    Ticked,
    Told,
    Withhold,
)
from serai.agent.moving.kept import Phase
from serai.agent.moving.line import AGAIN_SECONDS, ANSWER_SECONDS, COPY_SECONDS
from serai.model.life import Life
from serai.model.migration import Facts, Step, Ticket
from serai.wire.handoff import VERSION, Abort, Begin, Closed, FromDestination, Live, Taken, Turn

TICKET = Ticket(move="a" * 32, epoch=4, vm="/acme:web", domain="web", vnics=[1, 2], source="a", to="b", until=1000.0)
THERE = "10.0.0.2:8745"
WITHHOLD, RELEASE, REMEMBER = Withhold(), Release(), Remember()
BEGIN = Say(message=Begin(version=VERSION, move="a" * 32, epoch=4))


def play(one: Departure, *events: Event) -> list[Command]:
    return [command for event in events for command in one.handle(event)]


def heard(message: FromDestination, now: float = 10.0) -> Heard:
    return Heard(message=message, now=now)


def taken(number: int, now: float = 10.0) -> Heard:
    return heard(Taken(number=number), now)


LIVE = heard(Live())


def lived(life: Life, now: float = 10.0) -> Lived:
    return Lived(life=life, now=now)


def tick(now: float = 10.0, clock: float = 0.0) -> Ticked:
    return Ticked(now=now, clock=clock)


def copied(number: int, flows: int = 0, now: float = 10.0) -> Copied:
    return Copied(number=number, flows=flows, now=now)


def parted(now: float = 10.0) -> Parted:
    return Parted(why="the line is gone", now=now)


def ended(why: str = "", now: float = 12.0) -> MigrationEnded:
    return MigrationEnded(why=why, now=now)


def steps(commands: list[Command]) -> list[Step]:
    return [command.step for command in commands if isinstance(command, Tell)]


def departure(*, migrate: bool = True) -> Departure:
    one = Departure(TICKET, THERE, migrate=migrate)
    assert one.begin() == [REMEMBER, Reach(address=THERE)]
    return one


def moving(*, migrate: bool = True) -> Departure:
    """Flows have been copied, and the guest is being moved."""
    one = departure(migrate=migrate)
    play(one, Joined(now=10.0), taken(0), copied(1, 7), taken(1))
    assert one.phase is Phase.COPIED
    return one


def switched(*, migrate: bool = True) -> Departure:
    """The guest is stopped, and the destination has been told that it is its turn."""
    one = moving(migrate=migrate)
    play(one, lived(Life.HELD), copied(2, 3))
    assert one.phase is Phase.SWITCHED
    return one


def test_a_move_that_goes_well() -> None:
    one = departure()
    assert play(one, Joined(now=10.0)) == [BEGIN]
    assert play(one, taken(0)) == [Copy(number=1, whole=True)]
    assert play(one, copied(2, 7)) == []  # it took two messages
    assert play(one, taken(1)) == []
    first = Facts(flows_first=7)
    assert play(one, taken(2)) == [Tell(step=Step.COPIED, facts=first), REMEMBER, Migrate(address=THERE)]
    assert play(one, tick(10.0)) == []
    assert play(one, tick(10.0 + COPY_SECONDS)) == [Copy(number=3, whole=False)]
    assert play(one, copied(3, 2, 10.1), tick(11.0)) == [], "one after the other"
    assert play(one, taken(3, 11.0), tick(11.0)) == [Copy(number=4, whole=False)]
    later = Facts(flows_first=7, flows_later=2)
    assert one.open
    assert play(one, copied(4, 0, 11.0), lived(Life.HELD, 11.01)) == [
        WITHHOLD, Copy(number=5, whole=False), Tell(step=Step.SWITCHED, facts=later), REMEMBER,
    ]  # fmt: skip
    assert not one.open
    assert play(one, copied(5, 1, 11.01)) == [Say(message=Turn(number=6, acknowledged=3))]
    assert play(one, taken(4), taken(5), taken(6)) == []
    assert play(one, heard(Live(), 11.26)) == []
    assert play(one, lived(Life.MOVED, 12.0)) == [HandOver()]
    assert play(one, ended(now=12.1)) == []
    facts = Facts(flows_first=7, flows_later=3, encrypted=True, gap_us=250_000)
    assert play(one, HandedOver(unprotected=0)) == [
        HangUp(why="this move is over"), Tell(step=Step.FENCED, facts=facts), REMEMBER,
    ]  # fmt: skip
    assert play(one, tick(1e6, 1e6)) == []
    assert not one.open
    assert play(one, Forgotten(why="", now=13.0)) == [RELEASE, REMEMBER]
    assert one.over


def test_somebody_else_moves_the_guest() -> None:
    one = moving(migrate=False)
    assert one.kept.began is False
    play(one, lived(Life.HELD), copied(2), taken(2), taken(3), lived(Life.MOVED))
    (_, word, _) = play(one, HandedOver(unprotected=0))
    assert word == Tell(step=Step.FENCED, facts=Facts(flows_first=7), why="")


def test_what_gates_let_pass_after_their_turn_is_told() -> None:
    one = switched()
    play(one, taken(2), taken(3), lived(Life.MOVED))
    (_, word, _) = play(one, HandedOver(unprotected=9))
    assert isinstance(word, Tell)
    assert word.facts.unprotected == 9


def test_the_end_comes_before_the_last_answer() -> None:
    one = switched()
    assert play(one, ended(), LIVE) == []
    assert play(one, taken(2), taken(3)) == [HandOver()]


def test_the_destination_has_a_moment_to_say_that_the_guest_runs() -> None:
    one = switched()
    assert play(one, taken(2), taken(3), lived(Life.MOVED, 20.0)) == []
    assert play(one, tick(20.0 + LIVE_SECONDS - 0.1)) == []
    assert play(one, tick(20.0 + LIVE_SECONDS)) == [HandOver()]
    one = switched()
    assert play(one, taken(2), taken(3), lived(Life.MOVED, 20.0), parted(20.1)) == [HandOver()]
    one = switched()
    assert play(one, taken(2), taken(3), lived(Life.MOVED, 20.0), LIVE) == [HandOver()]


def test_only_the_call_returns_and_no_event_has_come() -> None:
    one = moving()
    assert play(one, ended()) == [
        WITHHOLD, Copy(number=2, whole=False), Tell(step=Step.SWITCHED, facts=Facts(flows_first=7)), REMEMBER,
    ]  # fmt: skip
    assert play(one, copied(2), taken(2), taken(3), LIVE) == [Say(message=Turn(number=3, acknowledged=1)), HandOver()]


def test_the_destination_knows_first_that_the_guest_is_stopped() -> None:
    one = moving()
    assert play(one, heard(Live()))[:2] == [WITHHOLD, Copy(number=2, whole=False)]
    assert play(one, lived(Life.HELD)) == []
    assert one.kept.facts.gap_us is None, "nobody knows when it was stopped"


class TestLines:
    def test_one_that_breaks_is_made_anew_and_all_is_copied_once_more(self) -> None:
        one = moving()
        assert play(one, parted(now=10.0), tick(10.0)) == []
        again = 10.0 + AGAIN_SECONDS
        assert play(one, tick(again), tick(again)) == [Reach(address=THERE)]
        assert play(one, Joined(now=11.0), taken(0, 11.0)) == [BEGIN, Copy(number=1, whole=True)]
        assert play(one, copied(1, 7, 11.0), taken(1, 11.0)) == []
        assert play(one, tick(11.0 + COPY_SECONDS)) == [Copy(number=2, whole=False)]

    def test_many_attempts_in_vain_end_it(self) -> None:
        one = departure()
        now, said = 10.0, list[Command]()
        for _ in range(ATTEMPTS):
            said += play(one, parted(now), tick(now + AGAIN_SECONDS))
            now += 1
        why = "the VM's flows cannot be handed to the destination: the line is gone"
        assert said == [Reach(address=THERE)] * (ATTEMPTS - 1) + [Tell(step=Step.ABORTED, why=why), REMEMBER]

    def test_and_have_the_hypervisor_stop(self) -> None:
        one = moving()
        said = [c for number in range(ATTEMPTS) for c in play(one, parted(float(number)), tick(number + 0.5))]
        assert said.count(StopMigration()) == 1
        assert steps(play(one, ended("stopped"))) == [Step.ABORTED]
        assert one.open

    def test_where_somebody_else_moves_the_guest_there_is_no_end_of_trying(self) -> None:
        one = moving(migrate=False)
        for number in range(3 * ATTEMPTS):
            assert play(one, parted(float(number)), tick(number + 0.5)) == [Reach(address=THERE)]

    def test_a_destination_that_does_not_answer_is_hung_up_on(self) -> None:
        one = departure()
        play(one, Joined(now=10.0))
        assert play(one, tick(10.0 + ANSWER_SECONDS - 0.1)) == []
        assert play(one, tick(10.0 + ANSWER_SECONDS)) == [HangUp(why="it does not answer")]
        assert play(one, tick(10.0 + ANSWER_SECONDS + AGAIN_SECONDS)) == [Reach(address=THERE)]

    def test_one_that_answers_what_was_not_said_too(self) -> None:
        for number in (0, 2, 3):
            one = departure()
            play(one, Joined(now=10.0), taken(0), copied(1))
            assert play(one, taken(number)) == [HangUp(why="it answers what was not said")]

    def test_while_the_guest_is_stopped(self) -> None:
        one = moving()
        assert play(one, parted(), lived(Life.HELD)) == [
            WITHHOLD, Tell(step=Step.SWITCHED, facts=Facts(flows_first=7)), REMEMBER,
        ]  # fmt: skip
        assert play(one, tick()) == [Reach(address=THERE)], "at once"
        assert play(one, Joined(now=10.1), taken(0)) == [BEGIN, Copy(number=1, whole=True)]
        assert play(one, copied(1)) == [Say(message=Turn(number=2, acknowledged=0))]

    def test_when_the_turn_was_said_it_is_said_again(self) -> None:
        one = switched()
        assert play(one, parted(), tick(11.0)) == [Reach(address=THERE)]
        assert play(one, Joined(now=11.0), taken(0), copied(1), taken(1), taken(2))[-1:] == [
            Say(message=Turn(number=2, acknowledged=0))
        ]
        assert play(one, LIVE, lived(Life.MOVED)) == [HandOver()]

    def test_flows_that_cannot_be_carried_are_told(self) -> None:
        one = switched()
        play(one, parted(), lived(Life.MOVED, 20.0), tick(20.0), parted(20.5))
        assert play(one, tick(20.0 + CARRY_SECONDS - 0.1)) == [Reach(address=THERE)]
        assert play(one, tick(20.0 + CARRY_SECONDS)) == [HandOver()]
        word, _ = play(one, HandedOver(unprotected=0))
        assert isinstance(word, Tell)
        assert word.why == "its last flows could not be carried along: the line is gone"

    def test_the_destination_listens_somewhere_else_by_now(self) -> None:
        one = moving()
        play(one, parted())
        assert steps(play(one, Told(address="b:1"))) == [Step.COPIED]
        assert play(one, tick(11.0)) == [Reach(address="b:1")]


class TestFailures:
    def test_the_hypervisor_fails_while_the_guest_runs(self) -> None:
        one = moving()
        assert play(one, ended("no room")) == [
            Say(message=Abort(why="no room")), HangUp(why="no room"),
            Tell(step=Step.ABORTED, facts=Facts(flows_first=7), why="no room"), REMEMBER,
        ]  # fmt: skip
        assert one.open

    @pytest.mark.parametrize("first", ["event", "call"])
    def test_it_fails_when_the_guest_is_stopped(self, first: str) -> None:
        """Gates open again when those of the destination are closed."""
        one = switched()
        back, failed = lived(Life.RUNS), ended("no room")
        said = play(one, *((back, failed) if first == "event" else (failed, back)))
        assert len(said) == 2
        assert isinstance(said[0], Say)
        assert isinstance(said[0].message, Abort)
        assert said[1] == REMEMBER
        assert not one.open
        closed = play(one, heard(Closed()))
        assert closed[0] == RELEASE
        assert steps(closed) == [Step.ABORTED]
        assert one.open

    @pytest.mark.parametrize("closed", ["said", "in time", "before its turn"])
    @pytest.mark.parametrize("then", [Life.RUNS, Life.GONE])
    def test_a_guest_that_is_held_is_nowhere_yet(self, closed: str, then: Life) -> None:
        """The call has failed, and libvirt does not let it run: not before it does, or is no more, has nothing moved."""
        one = switched()
        if closed == "before its turn":
            one = moving()
            play(one, parted(), lived(Life.HELD))
        said = play(one, ended("connection lost"))
        said += play(one, heard(Closed()) if closed == "said" else tick(1e3), lived(Life.HELD), tick(1e6))
        assert RELEASE not in said
        assert steps(said) == []
        end = play(one, Lived(life=then, now=1e6))
        assert end[0] == RELEASE
        assert steps(end) == [Step.ABORTED]

    def test_a_guest_that_is_held_may_run_there_after_all(self) -> None:
        one = switched()
        play(one, ended("connection lost"), tick(1e3))
        assert play(one, Lived(life=Life.MOVED, now=1e3), tick(1e6)) == [HandOver()]

    def test_and_the_destination_cannot_be_told(self) -> None:
        one = switched()  # at 10.0
        assert play(one, parted(), lived(Life.RUNS)) == [REMEMBER]
        assert play(one, tick(10.0 + WAIT_SECONDS - 0.01)) == [], "its gates may be open still"
        assert play(one, tick(10.0 + WAIT_SECONDS))[0] == RELEASE

    def test_nor_has_it_been_told_that_it_is_its_turn(self) -> None:
        one = moving()
        play(one, parted(), lived(Life.HELD))
        assert play(one, lived(Life.RUNS))[0] == RELEASE

    def test_the_destination_says_that_the_guest_runs_there(self) -> None:
        """The call has failed, perhaps for it did not hear the end: where the guest is is not certain."""
        one = switched()
        play(one, ended("connection lost"))
        assert one.phase is Phase.RETURNING
        play(one, heard(Live()), taken(2), taken(3))
        assert one.phase is Phase.SWITCHED
        assert play(one, tick(1e3)) == []
        assert play(one, lived(Life.GONE)) == [HandOver()]

    def test_the_destination_takes_no_flows(self) -> None:
        one = departure()
        play(one, Joined(now=10.0))
        why = "the destination does not take the VM's flows: too old"
        assert play(one, heard(Abort(why="too old"))) == [
            HangUp(why="too old"), Tell(step=Step.ABORTED, why=why), REMEMBER,
        ]  # fmt: skip
        one = moving()
        assert play(one, heard(Abort(why="too old"))) == [HangUp(why="too old"), StopMigration()]
        assert play(one, heard(Abort(why="too old"))) == [], "it is hung up"

    @pytest.mark.parametrize("first", ["abort", "guest"])
    def test_the_destination_gives_up_when_the_guest_is_stopped(self, first: str) -> None:
        """It has been called off: its gates are closed, and those here need not wait for that."""
        one = switched()
        events = [heard(Abort(why="called off", closed=True)), lived(Life.RUNS)]
        said = play(one, *(events if first == "abort" else events[::-1]))
        assert RELEASE in said
        assert steps(said) == [Step.ABORTED]
        assert one.open

    def test_one_that_understands_nothing_may_have_opened_its_gates(self) -> None:
        one = switched()
        assert play(one, heard(Abort(why="message 3 has come")), lived(Life.RUNS)) == [
            HangUp(why="message 3 has come"), REMEMBER,
        ]  # fmt: skip
        assert not one.open

    def test_the_vm_ends(self) -> None:
        assert steps(play(moving(migrate=False), lived(Life.GONE))) == [Step.ABORTED]
        one = moving()
        assert play(one, lived(Life.GONE)) == []
        assert steps(play(one, ended("domain is gone"))) == [Step.ABORTED]

    def test_the_ticket_ends_before_it_begins(self) -> None:
        one = departure()
        assert play(one, tick(11.0, 1000.0)) == []
        assert steps(play(one, tick(11.0, 1000.1))) == [Step.ABORTED]
        assert play(moving(), tick(10.0, 2000.0)) == [], "it has begun"


class TestForgotten:
    def test_while_flows_are_copied(self) -> None:
        one = departure()
        play(one, Joined(now=10.0), taken(0), copied(1))
        assert play(one, Forgotten(why="called off", now=11.0)) == [
            Say(message=Abort(why="called off")), HangUp(why="called off"),
            Tell(step=Step.ABORTED, why="called off", facts=Facts()), REMEMBER,
        ]  # fmt: skip

    def test_while_the_guest_is_moved(self) -> None:
        one = moving()
        assert play(one, Forgotten(why="called off", now=11.0), Forgotten(why="", now=11.0)) == [StopMigration()]
        word = play(one, ended("operation aborted"))[-2]
        assert word == Tell(step=Step.ABORTED, facts=Facts(flows_first=7), why="called off")

    def test_too_late(self) -> None:
        one = moving()
        play(one, Forgotten(why="called off", now=11.0), lived(Life.HELD), copied(2), taken(2), taken(3), LIVE)
        assert play(one, ended()) == [HandOver()]
        (_, word, _) = play(one, HandedOver(unprotected=0))
        assert isinstance(word, Tell)
        assert (word.step, word.why) == (Step.FENCED, "")

    def test_while_the_guest_is_stopped_the_hypervisor_decides(self) -> None:
        assert play(switched(), Forgotten(why="x", now=11.0)) == [StopMigration()]
        assert play(switched(migrate=False), Forgotten(why="x", now=11.0)) == []

    def test_a_guest_that_is_known_to_run_there(self) -> None:
        one = switched(migrate=False)
        play(one, heard(Live()))
        assert play(one, Forgotten(why="", now=11.0)) == [HandOver()]


class TestAfterwards:
    """What is over is over; but a gate must not forward for a guest that is held, nor be closed to one that runs."""

    def test_a_guest_that_comes_back_without_leave(self) -> None:
        one = switched()
        play(one, taken(2), taken(3), ended(), HandedOver(unprotected=0))
        assert play(one, lived(Life.HELD)) == []
        assert play(one, lived(Life.RUNS)) == [RELEASE]
        assert one.phase is Phase.FENCED

    def test_a_guest_that_somebody_else_moves_then(self) -> None:
        one = moving()
        play(one, ended("no room"))
        assert play(one, lived(Life.HELD)) == [WITHHOLD]
        assert play(one, Forgotten(why="", now=12.0)) == [REMEMBER]
        assert not one.open
        assert play(one, lived(Life.RUNS)) == [RELEASE, REMEMBER]
        assert one.over
        one = moving()
        play(one, ended("no room"), lived(Life.HELD), Forgotten(why="", now=12.0))
        assert play(one, lived(Life.MOVED)) == [RELEASE, REMEMBER]


class TestRestart:
    """Another agent goes on: what the hypervisor does it learns first."""

    @staticmethod
    def again(one: Departure, now: float = 20.0) -> Departure:
        made = Departure.restored(one.kept, now)
        assert made.kept == one.kept
        assert made.begin() == ([] if one.open else [WITHHOLD])
        assert play(made, tick(now)) == ([] if one.open else [Reach(address=THERE)])
        return made

    def test_the_guest_runs_on(self) -> None:
        one = self.again(moving())
        assert play(one, lived(Life.RUNS), lived(Life.RUNS)) == [StopMigration()]
        word = play(one, ended("it was stopped"))[0]
        assert word == Tell(step=Step.ABORTED, facts=Facts(flows_first=7), why="the source's agent was restarted")
        one = self.again(departure())
        assert steps(play(one, lived(Life.RUNS))) == [Step.ABORTED]

    def test_somebody_else_moves_it_and_flows_can_still_be_carried(self) -> None:
        one = self.again(moving(migrate=False))
        assert play(one, lived(Life.RUNS), tick(21.0)) == [Reach(address=THERE)]

    def test_the_guest_is_stopped(self) -> None:
        one = self.again(moving())
        assert play(one, lived(Life.HELD)) == [
            WITHHOLD, Tell(step=Step.SWITCHED, facts=Facts(flows_first=7)), REMEMBER,
        ]  # fmt: skip
        assert play(one, tick(21.0)) == [Reach(address=THERE)]

    def test_it_was_stopped_before(self) -> None:
        one = self.again(switched())
        assert play(one, lived(Life.HELD)) == []
        assert play(one, Joined(now=21.0), taken(0), copied(1), taken(1), taken(2), LIVE, lived(Life.MOVED))[-1:] == [
            HandOver()
        ]

    def test_it_was_stopped_before_and_has_come_back(self) -> None:
        one = self.again(switched(), 20.0)
        assert play(one, lived(Life.RUNS)) == [REMEMBER]
        assert play(one, tick(20.0 + WAIT_SECONDS - 0.1)) == []
        assert play(one, tick(20.0 + WAIT_SECONDS))[0] == RELEASE

    @pytest.mark.parametrize("before", [moving, switched])
    def test_it_is_gone(self, before: object) -> None:
        one = self.again(before())  # type: ignore[operator]
        commands = play(one, lived(Life.GONE, 21.0), Parted(why="nobody there", now=21.0), tick(21.0 + CARRY_SECONDS))
        assert commands[-1] == HandOver()
        assert steps(play(one, HandedOver(unprotected=0))) == [Step.FENCED]

    def test_it_was_over(self) -> None:
        one = moving()
        play(one, ended("no room"))
        assert play(Departure.restored(one.kept, 20.0), tick(1e6, 1e6), lived(Life.RUNS)) == []
        one = switched()
        play(one, taken(2), taken(3), ended(), HandedOver(unprotected=0))
        again = Departure.restored(one.kept, 20.0)
        assert again.begin() == [WITHHOLD]
        assert play(again, Forgotten(why="", now=21.0)) == [RELEASE, REMEMBER]
