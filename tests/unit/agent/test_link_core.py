"""Playbooks of the link's core: what happens, and what must then be done."""

from __future__ import annotations

import dataclasses
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.agent.link.core import LONGEST_SECONDS, LinkCore, Phase
from serai.agent.link.events import (
    BatchesReady,
    BatchRead,
    CertificateHeld,
    Change,
    Command,
    Connected,
    Dial,
    Enforce,
    Enforced,
    EntryWanted,
    Event,
    ForgetBatches,
    HangUp,
    Holding,
    HostChanged,
    Install,
    Lost,
    MakeRequest,
    Memory,
    Move,
    MoveTold,
    ReadBatch,
    Received,
    Refused,
    Remember,
    RenewalFailed,
    RenewApart,
    RequestMade,
    Send,
    TellEntry,
    Ticked,
    Wake,
)
from serai.agent.link.witness import newer
from serai.agent.link.words import MOST
from serai.model.host_facts import Cpu, HostFacts
from serai.model.migration import Step, Ticket
from serai.wire.remote import (
    PARTS_LIMIT,
    VERSION,
    Depart,
    Described,
    Difference,
    Elsewhere,
    Entering,
    Entry,
    Expect,
    Fenced,
    Forget,
    FromController,
    Held,
    Hello,
    Moving,
    Records,
    Renew,
    Renewed,
    Seen,
    Sight,
    Taken,
    Welcome,
    Whole,
    Witness,
)

FACTS = HostFacts(cpu=Cpu(arch="x86_64"), memory=1, nics=[], kernel="6", features=[], agent="1")
C1, C2, C3 = "wss://c1:8744", "wss://c2:8744", "wss://c3:8744"
D1, D2 = bytes(32), bytes(31) + b"\1"
SIGHT, OTHER = Sight(macs=[], vnics=[1]), Sight(macs=[], vnics=[2])
HOLDING = Holding(digest=None, parts=(), sight=SIGHT)
NOTE_3, NOTE_5 = "log\n3\nabc=\n\nsig", "log\n5\ndef=\n\nsig"
DAY = 86400.0


def core(urls: tuple[str, ...] = (C1, C2), memory: Memory = Memory(), jitter: float = 0.0) -> LinkCore:  # noqa: B008
    made = LinkCore(urls, memory, agent="t", jitter=lambda: jitter)
    made.handle(CertificateHeld(since=0.0, until=DAY))
    return made


def tick(now: float = 0.0, clock: float = 100.0) -> Ticked:
    return Ticked(now=now, clock=clock)


def said(message: FromController, now: float = 0.0, clock: float = 100.0) -> Received:
    return Received(message=message, now=now, clock=clock)


def welcome(
    *, epoch: int = 4, term: int = 7, time: float = 100.0, checkpoint: str = "", version: int = VERSION
) -> Welcome:
    return Welcome(version=version, epoch=epoch, term=term, time=time, checkpoint=checkpoint)


def whole(number: int = 1, term: int = 7) -> Whole:
    return Whole(number=number, term=term, revision=1, ruleset=b"r")


CONNECTED = Connected(holding=HOLDING, now=0.0)


def hello(**otherwise: object) -> Hello:
    plain = Hello(version=VERSION, agent="t", epoch=0, term=0, digest=None, parts=[], sight=SIGHT)
    return Hello(**{**{f: getattr(plain, f) for f in plain.__struct_fields__}, **otherwise})  # type: ignore[arg-type]


def talking(**memory: object) -> LinkCore:
    made = core(memory=Memory(**memory))  # type: ignore[arg-type]
    play(made, tick(), CONNECTED, said(welcome()))
    assert made.phase is Phase.TALKING
    return made


def play(link: LinkCore, *events: Event) -> list[Command]:
    return [command for event in events for command in link.handle(event)]


def test_a_conversation_from_the_beginning() -> None:
    link = core()
    assert play(link, tick()) == [Dial(url=C1)]
    assert play(link, CONNECTED) == [Send(message=hello())]
    memory = Memory(term=7, epoch=4, checkpoint=NOTE_3)
    assert play(link, said(welcome(checkpoint=NOTE_3))) == [Remember(memory=memory)]
    assert play(link, said(whole())) == [Enforce(number=1, ruleset=b"r")]
    assert play(link, Enforced(number=1, digest=D1)) == [Send(message=Held(digest=D1, answers=1))]
    assert play(link, HostChanged(holding=Holding(digest=D1, sight=SIGHT))) == []  # it was said already
    assert play(link, said(Difference(number=2, term=7, revision=2, delta=b"d"))) == [Change(number=2, delta=b"d")]
    assert play(link, Refused(number=2, why="no room", digest=D1)) == [
        Send(message=Held(digest=D1, refused="no room", answers=2))
    ]
    assert "no room" in link.trouble
    assert play(link, said(whole(3)), Enforced(number=3, digest=D2))[1:] == [Send(message=Held(digest=D2, answers=3))]
    assert link.trouble == ""


def test_what_changes_about_the_host_is_told_once() -> None:
    link = talking()
    assert play(link, HostChanged(holding=Holding(digest=None, sight=OTHER))) == [Send(message=Seen(sight=OTHER))]
    assert play(link, HostChanged(holding=Holding(digest=None, sight=OTHER))) == []
    assert play(link, HostChanged(holding=Holding(digest=D2, sight=OTHER))) == [Send(message=Held(digest=D2))]


def test_what_the_host_is_made_of_is_told_to_every_controller_and_again_when_it_is_otherwise() -> None:
    link = core()
    described = Holding(digest=None, sight=SIGHT, facts=FACTS)
    play(link, tick(), Connected(holding=described, now=0.0))
    assert play(link, said(welcome()))[1:] == [Send(message=Described(facts=FACTS))]
    assert play(link, HostChanged(holding=described)) == []
    more = msgspec.structs.replace(FACTS, memory=2)
    assert play(link, HostChanged(holding=Holding(digest=None, sight=OTHER, facts=more))) == [
        Send(message=Seen(sight=OTHER)), Send(message=Described(facts=more)),
    ]  # fmt: skip
    assert play(link, HostChanged(holding=Holding(digest=None, sight=OTHER, facts=None))) == []
    play(link, Lost(why="gone", now=1.0), tick(99.0), Connected(holding=described, now=99.0))
    assert play(link, said(welcome(), now=99.0)) == [Send(message=Described(facts=FACTS))]


def test_what_the_host_is_made_of_may_be_found_out_later() -> None:
    link = talking()
    later = HostChanged(holding=Holding(digest=None, sight=SIGHT, facts=FACTS))
    assert play(link, later) == [Send(message=Described(facts=FACTS))]


def test_what_changes_before_the_welcome_is_told_after_it() -> None:
    link = core()
    play(link, tick(), CONNECTED)
    assert play(link, HostChanged(holding=Holding(digest=D1, sight=OTHER))) == []
    assert play(link, said(welcome()))[1:] == [Send(message=Seen(sight=OTHER)), Send(message=Held(digest=D1))]


def test_controllers_are_tried_in_turn_and_less_and_less_often() -> None:
    link = core((C1, C2), jitter=0.99)
    now, tried, waits = 0.0, [], []
    for _ in range(12):
        (dial,) = play(link, tick(now))
        assert isinstance(dial, Dial)
        tried.append(dial.url)
        (wake,) = play(link, Lost(why="refused", now=now))
        assert isinstance(wake, Wake)
        waits.append(wake.seconds)
        assert play(link, tick(now + wake.seconds * 0.9)) == []
        now += wake.seconds
    assert tried == [C2, C1] * 6  # where one begins is left to chance, lest all begin at the same
    assert waits == sorted(waits)
    assert waits[0] < 0.5
    assert 9 < waits[-1] <= LONGEST_SECONDS
    assert link.trouble == "refused"


def test_the_leader_is_followed_but_not_round_in_circles() -> None:
    link = core((C1,))
    urls = []
    waited = False
    now = 0.0
    for at in range(8):
        commands = play(link, tick(now))
        urls += [command.url for command in commands if isinstance(command, Dial)]
        play(link, Connected(holding=HOLDING, now=now))
        assert play(link, said(Elsewhere(url=(C2, C3)[at % 2]), now)) == [HangUp(why="another controller leads")]
        (wake,) = play(link, Lost(why="bye", now=now))
        assert isinstance(wake, Wake)
        waited = waited or wake.seconds > 0
        now += wake.seconds
    assert urls[:5] == [C1, C2, C3, C2, C3]
    assert waited
    link = core((C1,))
    play(link, tick(), CONNECTED, said(Elsewhere(url="")), Lost(why="bye", now=0.0))
    assert link.trouble == "no controller leads just now"
    assert play(link, tick(11.0)) == [Dial(url=C1)]


@pytest.mark.parametrize(
    "url", ["ws://c2:1", "https://c2:1", "wss://c2", "wss://u@c2:1", "wss://c2:1/x", "c2:1", "wss://c2:1\n", " "]
)
def test_where_one_is_sent_must_be_a_place(url: str) -> None:
    link = core((C1,))
    (hang_up,) = play(link, tick(), CONNECTED, said(Elsewhere(url=url)))[2:]
    assert isinstance(hang_up, HangUp)
    assert "no address" in hang_up.why
    assert play(link, Lost(why="", now=0.0), tick(11.0))[1:] == [Dial(url=C1)]


def test_a_leader_that_leads_no_more_is_not_obeyed() -> None:
    link = core(memory=Memory(term=8))
    (hang_up,) = play(link, tick(), CONNECTED, said(welcome(term=7)))[2:]
    assert isinstance(hang_up, HangUp)
    assert "term 7" in hang_up.why
    assert "8" in hang_up.why
    assert play(link, said(whole())) == []
    assert link.memory.term == 8
    assert play(link, Lost(why="bye", now=0.0), tick(11.0))[1:] == [Dial(url=C2)]


def test_the_term_is_remembered_before_anything_is_obeyed() -> None:
    link = core(memory=Memory(term=6))
    assert play(link, tick(), CONNECTED, said(welcome(term=7)))[2:] == [Remember(memory=Memory(term=7, epoch=4))]
    assert play(link, Lost(why="", now=0.0), tick(5.0), CONNECTED)[-1] == Send(message=hello(epoch=4, term=7))


@pytest.mark.parametrize("phase", ["greeting", "talking"])
def test_who_is_fenced_is_silent_for_good(phase: str) -> None:
    link = core()
    play(link, tick(), CONNECTED, *([said(welcome())] if phase == "talking" else []))
    assert play(link, said(Fenced(epoch=9))) == [HangUp(why="fenced")]
    assert link.phase is Phase.FENCED
    assert "epoch 9" in link.trouble
    rest: list[Event] = [
        Lost(why="", now=0.0), tick(1e6), CONNECTED, said(welcome()), said(whole()), HostChanged(holding=HOLDING),
        Enforced(number=1, digest=D1), RequestMade(csr=""), RenewalFailed(why="", now=0.0), CertificateHeld(since=0, until=1),
    ]  # fmt: skip
    assert play(link, *rest) == []


@pytest.mark.parametrize(
    "message",
    [
        whole(), Difference(number=1, term=7, revision=1, delta=b""), Witness(checkpoint=NOTE_3), Renewed(certificate=""),
        welcome(version=VERSION + 1),
    ],
)  # fmt: skip
def test_what_may_not_be_said_before_welcome(message: FromController) -> None:
    link = core()
    (hang_up,) = play(link, tick(), CONNECTED, said(message))[2:]
    assert isinstance(hang_up, HangUp)
    assert play(link, said(welcome()), said(whole())) == []


@pytest.mark.parametrize(
    "message", [welcome(), whole(0), whole(1), whole(2, term=6), whole(2, term=8), Renewed(certificate="")]
)
def test_what_may_not_be_said_in_a_conversation(message: FromController) -> None:
    link = talking()
    play(link, said(whole(1)), Enforced(number=1, digest=D1))
    (hang_up,) = play(link, said(message))
    assert isinstance(hang_up, HangUp)
    assert "out of turn" in hang_up.why
    assert play(link, said(whole(5))) == []


def test_a_controller_that_does_not_answer_is_not_waited_for() -> None:
    link = core()
    play(link, tick(), CONNECTED)
    assert play(link, tick(9.9)) == []
    assert play(link, tick(10.0)) == [HangUp(why="the controller does not answer")]


def test_an_answer_to_an_earlier_conversation_is_not_given_in_another() -> None:
    link = talking()
    play(link, said(whole(1)), Lost(why="", now=0.0), tick(11.0), CONNECTED, said(welcome()))
    assert play(link, Enforced(number=1, digest=D1)) == []


class TestCertificate:
    def test_it_is_renewed_at_half_life_over_the_link(self) -> None:
        link = talking()
        assert play(link, tick(1.0, DAY / 2 - 1)) == []
        assert play(link, tick(2.0, DAY / 2)) == [MakeRequest()]
        assert play(link, RequestMade(csr="c")) == [Send(message=Renew(csr="c"))]
        assert play(link, tick(3.0, DAY / 2 + 1)) == []
        assert play(link, said(Renewed(certificate="new"))) == [Install(certificate="new")]
        play(link, CertificateHeld(since=DAY / 2, until=DAY * 1.5))
        assert play(link, tick(200.0, DAY / 2 + 200)) == []
        assert link.until == DAY * 1.5

    def test_it_is_asked_for_again_where_no_answer_comes(self) -> None:
        link = talking()
        play(link, tick(1.0, DAY / 2), RequestMade(csr="c"))
        assert play(link, tick(60.0, DAY / 2)) == []
        assert play(link, tick(61.0, DAY / 2)) == [MakeRequest()]

    def test_by_the_controllers_clock(self) -> None:
        link = core()
        play(link, tick(), CONNECTED, said(welcome(time=DAY / 2), clock=100.0))
        assert "behind the controller's" in link.trouble
        assert play(link, tick(1.0, 101.0)) == [MakeRequest()]

    def test_one_that_is_over_is_renewed_apart_first(self) -> None:
        link = core()
        assert play(link, tick(0.0, DAY)) == [RenewApart()]
        (wake,) = play(link, RenewalFailed(why="nobody there", now=0.0))
        assert isinstance(wake, Wake)
        assert wake.seconds < 1
        assert "nobody there" in link.trouble
        assert play(link, tick(1.0, DAY)) == [RenewApart()]
        assert play(link, CertificateHeld(since=DAY, until=2 * DAY), tick(1.0, DAY)) == [
            Wake(seconds=0.0),
            Dial(url=C1),
        ]
        assert link.trouble == ""

    def test_one_that_opens_no_connection_is_too(self) -> None:
        link = core()
        play(link, tick(), Lost(why="not let in", refused=True, now=0.0))
        assert play(link, tick(11.0)) == [RenewApart()]
        (wake,) = play(link, RenewalFailed(why="revoked", refused=True, now=11.0))
        assert wake == Wake(seconds=60.0)
        assert play(link, tick(71.0)) == [Dial(url=C2)]  # perhaps it was something else


class TestWitness:
    def test_the_newest_is_kept_and_told(self) -> None:
        link = talking(checkpoint=NOTE_3)
        assert play(link, said(Witness(checkpoint=NOTE_5))) == [
            Remember(memory=Memory(term=7, epoch=4, checkpoint=NOTE_5))
        ]
        assert play(link, said(Witness(checkpoint=NOTE_5))) == []
        assert play(link, Lost(why="", now=0.0), tick(5.0), CONNECTED)[-1] == Send(
            message=hello(epoch=4, term=7, checkpoint=NOTE_5)
        )

    @pytest.mark.parametrize(
        "shown", [NOTE_3, "log\n5\nother=\n", "another\n9\nx=\n", "", "nonsense", "log\n-1\nx=\n", "log\n٣\nx=\n"]
    )
    def test_what_was_witnessed_is_not_taken_back(self, shown: str) -> None:
        link = talking(checkpoint=NOTE_5)
        assert play(link, said(Witness(checkpoint=shown))) == []
        assert "audit log" in link.trouble
        assert link.memory.checkpoint == NOTE_5
        assert play(link, said(whole())) == [Enforce(number=1, ruleset=b"r")]  # it is told, and goes on
        play(link, said(Witness(checkpoint=NOTE_5)))
        assert link.trouble == ""

    def test_a_first_checkpoint_is_believed(self) -> None:
        assert newer("", NOTE_3) == ""
        assert newer("", "nonsense") != ""


def test_with_nowhere_to_go_one_says_so() -> None:
    link = core(())
    (wake,) = play(link, tick())
    assert isinstance(wake, Wake)
    assert "join this host again" in link.trouble


def test_a_hello_names_no_more_parts_than_may_be_named() -> None:
    link = core()
    parts = tuple(number.to_bytes(32, "big") for number in range(PARTS_LIMIT + 1))
    (send,) = play(link, tick(), Connected(holding=Holding(digest=D1, parts=parts, sight=SIGHT), now=0.0))[1:]
    assert isinstance(send, Send)
    assert isinstance(send.message, Hello)
    assert len(send.message.parts) == PARTS_LIMIT


def ticket(move: str = "a", epoch: int = 1) -> Ticket:
    return Ticket(
        move=move * 32, epoch=epoch, vm="/acme:web", domain="web", vnics=[1], source="a", to="b", until=1000.0
    )


def expect(term: int = 7) -> Expect:
    return Expect(ticket=ticket(), term=term, digest=D1)


def depart(term: int = 7) -> Depart:
    return Depart(ticket=ticket(), term=term, address="10.0.0.2:8745")


def forget(term: int = 7, move: str = "a") -> Forget:
    return Forget(move=move * 32, term=term)


def word(step: Step, move: str = "a") -> Moving:
    return Moving(move=move * 32, step=step)


class TestMoves:
    def test_orders_of_the_leader_are_carried_out(self) -> None:
        link = talking()
        for order in (expect(), depart(), forget()):
            assert play(link, said(order)) == [Move(order=order)]

    @pytest.mark.parametrize("order", [expect(6), depart(6), forget(6), expect(8), depart(8), forget(8)])
    def test_and_of_nobody_else(self, order: FromController) -> None:
        (hang_up,) = play(talking(), said(order))
        assert isinstance(hang_up, HangUp)

    @pytest.mark.parametrize("order", [expect(0), depart(0), forget(0)])
    def test_nor_before_it_has_welcomed_us(self, order: FromController) -> None:
        link = core()
        (hang_up,) = play(link, tick(), CONNECTED, said(order))[2:]
        assert isinstance(hang_up, HangUp)

    def test_the_latest_word_about_each_move_is_said_in_every_conversation(self) -> None:
        link = core()
        assert play(link, MoveTold(moving=word(Step.PREPARED))) == []
        assert Send(message=word(Step.PREPARED)) in play(link, tick(), CONNECTED, said(welcome()))
        assert play(link, MoveTold(moving=word(Step.LIVE))) == [Send(message=word(Step.LIVE))]
        assert play(link, MoveTold(moving=word(Step.LIVE))) == [Send(message=word(Step.LIVE))], "it was asked again"
        assert play(link, MoveTold(moving=word(Step.COPIED, "b"))) == [Send(message=word(Step.COPIED, "b"))]
        again = play(link, Lost(why="", now=0.0), tick(11.0), CONNECTED, said(welcome(), 11.0))
        assert [command for command in again if isinstance(command, Send)][1:] == [
            Send(message=word(Step.LIVE)), Send(message=word(Step.COPIED, "b")),
        ]  # fmt: skip
        play(link, said(forget()))
        again = play(link, Lost(why="", now=11.0), tick(30.0), CONNECTED, said(welcome(), 30.0))
        assert [command for command in again if isinstance(command, Send)][1:] == [Send(message=word(Step.COPIED, "b"))]

    def test_what_nobody_wants_to_hear_does_not_pile_up(self) -> None:
        link = core()
        for number in range(MOST + 10):
            play(link, MoveTold(moving=Moving(move=f"{number:032x}", step=Step.ABORTED)))
        sent = [c for c in play(link, tick(), CONNECTED, said(welcome())) if isinstance(c, Send)][1:]
        assert len(sent) == MOST
        assert sent[-1].message == Moving(move=f"{MOST + 9:032x}", step=Step.ABORTED)


def test_a_question_about_a_vm_is_asked_while_somebody_can_answer() -> None:
    asked, answer = Entering(number=3, domain="web", cards=[], incoming=True), Entry(
        answers=3, vm="/acme:web", objections=["no"], warnings=[]
    )  # fmt: skip
    assert play(core(), EntryWanted(entering=asked)) == []
    link = talking()
    assert play(link, EntryWanted(entering=asked)) == [Send(message=asked)]
    assert play(link, said(answer)) == [TellEntry(entry=answer)]
    again = play(link, Lost(why="", now=0.0), tick(11.0), CONNECTED, said(welcome(), 11.0))
    assert Send(message=asked) not in again, "nobody waits any more"


def test_a_certificate_of_before_is_renewed_once_and_at_once() -> None:
    link = talking()
    before = CertificateHeld(since=0.0, until=DAY, listens=False)
    assert play(link, before, tick()) == [MakeRequest()]
    assert play(link, RequestMade(csr="c"), said(Renewed(certificate="n")))[-1:] == [Install(certificate="n")]
    assert play(link, before, tick(1e4)) == [], "that controller has no other"
    assert play(link, CertificateHeld(since=0.0, until=DAY), tick(1e4)) == []


MESSAGES = [
    welcome(), welcome(term=9), welcome(term=3), welcome(checkpoint=NOTE_3), whole(1), whole(2), whole(1, term=9), whole(1, term=3),
    Difference(number=2, term=7, revision=1, delta=b""), Witness(checkpoint=NOTE_5), Witness(checkpoint="x"), Renewed(certificate="c"),
    Elsewhere(url=""), Elsewhere(url=C3), Elsewhere(url="x"), Fenced(epoch=3),
    expect(), expect(6), depart(), depart(9), forget(),
]  # fmt: skip
EVENTS: list[Event] = [
    CONNECTED, Lost(why="gone", now=0.0), Lost(why="gone", refused=True, now=0.0), HostChanged(holding=HOLDING),
    HostChanged(holding=Holding(digest=D1, sight=OTHER)), Enforced(number=1, digest=D1), Refused(number=1, why="w", digest=None),
    RequestMade(csr="c"), CertificateHeld(since=0.0, until=DAY), RenewalFailed(why="w", now=0.0), tick(), tick(1e3), tick(1e5, DAY * 2),
    *(said(message) for message in MESSAGES), MoveTold(moving=word(Step.COPIED)), MoveTold(moving=word(Step.LIVE)),
]  # fmt: skip


@given(st.lists(st.sampled_from(EVENTS), max_size=60), st.integers())
@settings(max_examples=300, deadline=None)
def test_whatever_happens(events: list[Event], seed: int) -> None:
    link = LinkCore((C1, C2), Memory(term=5), agent="t", jitter=random.Random(seed).random)
    fenced = False
    kept = Memory(term=5)
    greeted = conversing = False
    for event in events:
        commands = link.handle(event)
        assert not (fenced and commands)
        for command in commands:
            match command:
                case Remember(memory=memory):
                    assert memory.term >= kept.term
                    kept = memory
                case Dial():
                    assert not conversing, "one conversation at a time"
                    conversing, greeted = True, False
                case Send(message=Hello()):
                    assert not greeted, "hello is said once"
                    greeted = True
                case Send():
                    assert greeted
                case Enforce() | Change() | Move():
                    assert isinstance(event, Received)
                    assert getattr(event.message, "term", 0) == kept.term >= 5, "only the latest leader is obeyed"
                case _:
                    pass
        if isinstance(event, Lost):
            conversing = False
        fenced = fenced or link.phase is Phase.FENCED
    assert dataclasses.replace(link.memory) == kept


SPOOL, OLDER = 16 * "a", 16 * "b"


def batch(number: int, *, spool: str = SPOOL, size: int = 10) -> Records:
    return Records(spool=spool, number=number, since=0.0, until=10.0, records=1, flows=bytes(size))


def read(number: int, **otherwise: object) -> BatchRead:
    return BatchRead(batch=batch(number, **otherwise))  # type: ignore[arg-type]


def taken(number: int, spool: str = SPOOL) -> Received:
    return said(Taken(spool=spool, number=number))


def after(number: int, spool: str = SPOOL) -> ReadBatch:
    return ReadBatch(after=(spool, number))


FIRST, NONE = ReadBatch(after=None), BatchRead(batch=None)


def test_batches_are_sent_in_their_order_and_forgotten_when_they_are_taken() -> None:
    link = talking()
    assert play(link, BatchesReady()) == [FIRST]
    assert play(link, read(1)) == [Send(message=batch(1)), after(1)]
    assert play(link, read(2)) == [Send(message=batch(2)), after(2)]
    assert play(link, NONE) == []
    assert play(link, taken(1)) == [ForgetBatches(spool=SPOOL, number=1)]
    assert play(link, BatchesReady()) == [after(2)]
    assert play(link, read(3), NONE, taken(3)) == [
        Send(message=batch(3)), after(3), ForgetBatches(spool=SPOOL, number=3),
    ]  # fmt: skip


def test_no_more_than_four_batches_are_on_their_way() -> None:
    link = talking()
    sent = play(link, BatchesReady(), read(1), read(2), read(3), read(4))
    assert sent[-1] == Send(message=batch(4)), "and the next is not even read"
    assert play(link, BatchesReady()) == []
    assert play(link, taken(2)) == [ForgetBatches(spool=SPOOL, number=2), after(4)]
    assert play(link, read(5)) == [Send(message=batch(5)), after(5)]
    assert play(link, read(6)) == [Send(message=batch(6))]


def test_much_on_its_way_is_enough() -> None:
    """What the host answers about its rules waits behind no more than this."""
    link = talking()
    assert play(link, BatchesReady(), read(1, size=300_000))[1:] == [Send(message=batch(1, size=300_000))]
    assert play(link, taken(1)) == [ForgetBatches(spool=SPOOL, number=1), after(1)]


def test_another_conversation_begins_with_the_oldest() -> None:
    link = talking()
    play(link, BatchesReady(), read(1), read(2))
    assert play(link, Lost(why="gone", now=1.0), read(3)) == [Wake(seconds=0.2)]
    assert play(link, BatchesReady()) == []
    assert play(link, tick(5.0), CONNECTED, said(welcome(epoch=5)))[2:] == [
        Remember(memory=Memory(term=7, epoch=5)), FIRST,
    ]  # fmt: skip
    assert play(link, read(1)) == [Send(message=batch(1)), after(1)]
    assert play(link, taken(2)) == [ForgetBatches(spool=SPOOL, number=2)], "it has kept what it could not answer"


def test_batches_of_an_earlier_spool_are_answered_by_its_name() -> None:
    link = talking()
    play(link, BatchesReady(), read(7, spool=OLDER), read(1), read(2), read(3))
    assert play(link, taken(2)) == [ForgetBatches(spool=SPOOL, number=2), after(3)]
    assert play(link, NONE, taken(7, OLDER)) == [ForgetBatches(spool=OLDER, number=7)]


def test_rules_are_obeyed_while_batches_are_on_their_way() -> None:
    link = talking()
    play(link, BatchesReady(), read(1), read(2), read(3), read(4))
    assert play(link, said(whole()), Enforced(number=1, digest=D1)) == [
        Enforce(number=1, ruleset=b"r"), Send(message=Held(digest=D1, answers=1)),
    ]  # fmt: skip


def test_nothing_is_taken_before_the_welcome() -> None:
    link = core()
    play(link, BatchesReady(), tick(), CONNECTED)
    assert play(link, taken(1)) == [HangUp(why="the controller says 'taken' out of turn")]


def test_who_is_fenced_sends_no_batches() -> None:
    link = talking()
    play(link, said(Fenced(epoch=9)))
    assert play(link, BatchesReady(), read(1)) == []


def test_what_is_not_kept_is_sent_once_more() -> None:
    link = talking()
    play(link, BatchesReady(), read(1), read(2), read(3), NONE)
    again = said(Taken(spool=SPOOL, number=1, again=True))
    assert play(link, again) == [ForgetBatches(spool=SPOOL, number=1), after(1)]
    assert play(link, read(2)) == [Send(message=batch(2)), after(2)]
