"""All moves of one host: whose ticket is good, and which move of a VM is the one that counts."""

from __future__ import annotations

import msgspec
import pytest

from serai.agent.moving.events import (
    Command,
    Joined,
    Listening,
    Reach,
    Release,
    Remember,
    RulesHeld,
    Say,
    Ticked,
    Withhold,
)
from serai.agent.moving.kept import Phase
from serai.agent.moving.moves import MOST, Do, Memory, Moves, Spread
from serai.model.life import Life
from serai.model.migration import Step, Ticket
from serai.wire.handoff import VERSION, Abort, Begin, Taken
from serai.wire.remote import Depart, Expect, Forget, Moving

RULES = RulesHeld(digest="01" * 32, vnics=frozenset({1, 2}))
DIGEST = bytes([1]) * 32
HERE = "10.0.0.2:8745"


def ticket(
    move: int = 1, epoch: int = 1, *, to: str = "b", source: str = "a", vm: str = "/acme:web", vnic: int = 1
) -> Ticket:
    return Ticket(
        move=f"{move:032x}", epoch=epoch, vm=vm, domain=vm.rpartition(":")[2], vnics=[vnic], source=source, to=to, until=1000.0
    )  # fmt: skip


def expect(of: Ticket) -> Expect:
    return Expect(ticket=of, term=1, digest=DIGEST)


def depart(of: Ticket) -> Depart:
    return Depart(ticket=of, term=1, address=HERE)


def host(name: str, memory: Memory | None = None) -> Moves:
    made = Moves(name, memory or Memory())
    made.begin(0.0)
    made.everywhere(RULES)
    made.everywhere(Listening(address=HERE))
    return made


def order(
    moves: Moves, what: Expect | Depart | Forget, *, guarded: bool = True, clock: float = 0.0
) -> list[Do | Spread]:
    return moves.order(what, guarded=guarded, now=10.0, clock=clock)


def words(done: list[Do | Spread]) -> list[Moving]:
    return [each.moving for each in done if isinstance(each, Spread)]


def commands(done: list[Do | Spread]) -> list[Command]:
    return [each.command for each in done if isinstance(each, Do)]


def why(done: list[Do | Spread]) -> str:
    (word,) = words(done)
    assert word.step is Step.ABORTED
    assert commands(done) == []
    return word.why


def forget(of: Ticket) -> Forget:
    return Forget(move=of.move, term=1)


def test_orders_are_carried_out() -> None:
    b, a = host("b"), host("a")
    done = order(b, expect(ticket()))
    assert commands(done) == [Withhold(), Remember()]
    assert [(word.move, word.step, word.address) for word in words(done)] == [(ticket().move, Step.PREPARED, HERE)]
    assert order(a, depart(ticket())) == [
        Do(ticket=ticket(), command=Remember()), Do(ticket=ticket(), command=Reach(address=HERE)),
    ]  # fmt: skip
    assert (b.busy, a.busy) == (False, True)


def test_the_last_word_is_repeated_until_the_move_is_forgotten() -> None:
    b = host("b")
    (word,) = words(order(b, expect(ticket())))
    assert b.words == [word]
    assert words(order(b, expect(ticket()))) == [word], "and when it is asked again"
    assert words(order(b, forget(ticket())))[0].step is Step.ABORTED
    assert [word.step for word in b.words] == [Step.ABORTED]
    order(b, forget(ticket()))
    assert b.words == []
    assert b.phases == {}
    assert order(b, forget(ticket())) == []


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (expect(ticket(to="c")), "this is host b"), (depart(ticket()), "this is host b"),
        (expect(ticket(source="b")), "from host b to host b"),
        (depart(ticket(source="b", to="a")), "does not run here"),
    ],
)  # fmt: skip
def test_tickets_that_are_not_for_this_host(what: Expect | Depart, says: str) -> None:
    assert says in why(order(host("b"), what, guarded=False))


def test_a_ticket_that_has_ended_begins_nothing() -> None:
    assert order(host("b"), expect(ticket()), clock=1000.0)
    for name, what in (("b", expect(ticket())), ("a", depart(ticket()))):
        assert "has ended" in why(order(host(name), what, clock=1000.1))


def test_a_host_that_takes_no_flows_expects_nobody() -> None:
    b = host("b")
    b.everywhere(Listening(address="", why="port 8745 is taken"))
    assert "port 8745 is taken" in why(order(b, expect(ticket())))
    b.everywhere(Listening(address=HERE))
    assert words(order(b, expect(ticket())))[0].step is Step.PREPARED


def test_another_ticket_of_the_same_move() -> None:
    b = host("b")
    order(b, expect(ticket()))
    assert "another ticket" in why(order(b, expect(msgspec.structs.replace(ticket(), epoch=9))))
    assert "the other end" in why(order(b, depart(ticket())))


class TestOverlaps:
    def test_a_later_move_takes_the_place_of_an_earlier_one(self) -> None:
        b = host("b")
        order(b, expect(ticket(1, 4)))
        b.about(ticket(1).move, Joined(now=1.0))
        done = order(b, expect(ticket(2, 5, source="c")))
        first, second = words(done)
        assert (first.move, first.step) == (ticket(1).move, Step.ABORTED)
        assert "epoch 5" in first.why
        assert (second.move, second.step) == (ticket(2).move, Step.PREPARED)
        assert any(isinstance(c, Say) and isinstance(c.message, Abort) for c in commands(done))
        assert Release() not in commands(done)
        assert list(b.phases) == [ticket(2).move]
        assert [word.move for word in b.words] == [ticket(1).move, ticket(2).move]

    @pytest.mark.parametrize("epoch", [3, 4])
    def test_an_earlier_one_is_refused(self, epoch: int) -> None:
        b = host("b")
        order(b, expect(ticket(1, 4)))
        assert "knows a later move of this VM (epoch 4" in why(order(b, expect(ticket(2, epoch))))
        assert list(b.phases) == [ticket(1).move]

    def test_vnics_are_one_vms(self) -> None:
        b = host("b")
        order(b, expect(ticket(1, 4)))
        assert "later move" in why(order(b, expect(ticket(2, 4, vm="/acme:other"))))
        assert words(order(b, expect(ticket(2, 1, vm="/acme:other", vnic=2))))[0].step is Step.PREPARED

    def test_there_and_back(self) -> None:
        """The first move is over, and the controller has not said so yet."""
        b = host("b")
        order(b, expect(ticket(1, 1)))
        b.lived("web", Life.RUNS, 11.0)
        assert b.phases == {ticket(1).move: Phase.LIVE}
        back = ticket(2, 2, source="b", to="a")
        assert commands(order(b, depart(back))) == [Remember(), Reach(address=HERE)]
        assert [word.step for word in b.words] == [Step.LIVE]
        order(b, forget(ticket(1)))
        assert b.phases == {back.move: Phase.COPYING}

    def test_one_that_leaves_is_let_leave(self) -> None:
        a = host("a")
        order(a, depart(ticket(1, 1)))
        assert "just leaving" in why(order(a, expect(ticket(2, 2, source="b", to="a"))))
        assert a.phases == {ticket(1).move: Phase.COPYING}


class TestConversations:
    BEGIN = Begin(version=VERSION, move=ticket().move, epoch=1)

    def test_the_source_may_begin(self) -> None:
        b = host("b")
        order(b, expect(ticket()))
        assert b.begins(self.BEGIN, "a", 0.0) == ""
        assert commands(b.about(ticket().move, Joined(now=1.0))) == [Say(message=Taken(number=0))]

    @pytest.mark.parametrize(
        ("begin", "source", "says"),
        [
            (BEGIN, "c", "expects nothing of the kind from host c"),
            (msgspec.structs.replace(BEGIN, move="f" * 32), "a", "expects nothing"),
            (msgspec.structs.replace(BEGIN, epoch=2), "a", "is of epoch 1, and not 2"),
            (msgspec.structs.replace(BEGIN, version=2), "a", "upgrade the older"),
        ],
    )
    def test_nobody_else_and_nothing_else(self, begin: Begin, source: str, says: str) -> None:
        b = host("b")
        order(b, expect(ticket()))
        assert says in b.begins(begin, source, 0.0)

    def test_not_where_it_departs_nor_when_it_is_over(self) -> None:
        a, b = host("a"), host("b")
        order(a, depart(ticket()))
        assert "expects nothing" in a.begins(self.BEGIN, "a", 0.0)
        order(b, expect(ticket()))
        assert "has ended" in b.begins(self.BEGIN, "a", 1000.1)
        order(b, forget(ticket()))
        assert "is over" in b.begins(self.BEGIN, "a", 0.0)


def test_the_hypervisors_word_is_about_its_domain() -> None:
    b = host("b")
    order(b, expect(ticket(1)))
    order(b, expect(ticket(2, vm="/acme:db", vnic=2)))
    assert b.lived("other", Life.RUNS, 1.0) == []
    assert [word.move for word in words(b.lived("db", Life.RUNS, 1.0))] == [ticket(2).move]
    a = host("a")
    order(a, depart(ticket(1)))
    order(a, depart(ticket(2, vm="/acme:db", vnic=2)))
    assert [word.move for word in words(a.listed({"web"}, 1.0))] == [ticket(2).move]


def test_who_is_being_made_ready_waits_though_the_hypervisor_is_stuck() -> None:
    b = host("b")
    order(b, expect(ticket(1)))
    b.entered("web", Life.HELD, 1.0)
    order(b, forget(ticket(1)))
    assert commands(order(b, forget(ticket(1)))) == [Remember()], "the controller wants to hear no more; its gates wait"
    assert commands(b.entered("web", Life.GONE, 2.0)) == [Release(amid=False), Remember()]
    assert not b.phases


def test_who_leaves_is_not_stopped_by_what_comes_in() -> None:
    a = host("a")
    order(a, depart(ticket(1)))
    assert a.entered("web", Life.HELD, 1.0) == []
    assert a.entered("other", Life.HELD, 1.0) == []


def test_everything_is_remembered() -> None:
    b = host("b")
    order(b, expect(ticket(1)))
    order(b, expect(ticket(2, vm="/acme:db", vnic=2)))
    b.lived("db", Life.RUNS, 1.0)
    raw = msgspec.json.encode(b.memory)
    again = Moves("b", msgspec.json.decode(raw, type=Memory))
    assert commands(again.begin(2.0)) == [Withhold()]
    assert again.memory == b.memory
    assert again.words == b.words
    a = host("a")
    order(a, depart(ticket(1)))
    again = Moves("a", msgspec.json.decode(msgspec.json.encode(a.memory), type=Memory))
    assert again.begin(2.0) == []
    assert again.memory == a.memory


def test_words_that_nobody_wants_to_hear_do_not_pile_up() -> None:
    b = host("b")
    for number in range(1, MOST + 10):
        order(b, expect(ticket(number, to="c")))
    assert len(b.words) == MOST
    assert b.words[-1].move == ticket(MOST + 9).move


def test_a_clock_is_looked_at_by_all() -> None:
    b = host("b")
    order(b, expect(ticket(1)))
    order(b, expect(ticket(2, vm="/acme:db", vnic=2)))
    assert len(words(b.everywhere(Ticked(now=1.0, clock=1000.1)))) == 2
