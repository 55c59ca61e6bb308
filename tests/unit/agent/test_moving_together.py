"""Source and destination of a move together, whatever happens to them, to what is between them, and to the guest.

At no moment may both hosts' gates forward for the VM; wherever its guest runs in the end, the gates there do and no others; and
of flows none is lost where nothing else was.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import random

import pytest
from hypothesis import Phase as Phases
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from serai.agent.moving.events import (
    Copied,
    Copy,
    Event,
    FlowsTaken,
    HandedOver,
    HandOver,
    HangUp,
    Heard,
    Joined,
    Listening,
    Migrate,
    MigrationEnded,
    Parted,
    Reach,
    Release,
    Remember,
    RulesHeld,
    Say,
    StopMigration,
    Take,
    Ticked,
    Withhold,
)
from serai.agent.moving.kept import Phase
from serai.agent.moving.moves import Do, Memory, Moves, Spread
from serai.model.life import Life
from serai.model.migration import Step, Ticket
from serai.wire.handoff import Begin, Flows, FromDestination, FromSource
from serai.wire.remote import Depart, Expect, Forget, Moving

MOVE = "a" * 32
TICKET = Ticket(move=MOVE, epoch=1, vm="/acme:web", domain="web", vnics=[1, 2], source="a", to="b", until=1e6)
HELD = RulesHeld(digest="00" * 32, vnics=frozenset({1, 2, 3}))
LISTENING = Listening(address="10.0.0.2:8745")
AT_DESTINATION = {"memory", "stopped", "there", "done"}
"""Stages at which the destination has the VM's domain."""
TICK = 0.2
"""Agents look at the clock at least as often as this."""


class Conversation:
    """What two agents say to each other, on its way."""

    def __init__(self) -> None:
        self.to_source: collections.deque[FromDestination] = collections.deque()
        self.to_destination: collections.deque[FromSource] = collections.deque()
        self.cut = False
        self.known_there = False
        """The destination has taken it up."""


@dataclasses.dataclass
class Host:
    """One agent, and what it holds."""

    name: str
    moves: Moves
    withheld: bool = False
    amid: bool = False
    conversation: Conversation | None = None
    parted: bool = False
    """The conversation is over, and the agent has not been told yet."""
    lives: collections.deque[Life] = dataclasses.field(default_factory=collections.deque)
    memory: Memory = dataclasses.field(default_factory=Memory)
    flows: dict[str, int] = dataclasses.field(default_factory=dict)
    words: list[Moving] = dataclasses.field(default_factory=list)


class Scene:
    """Two hosts, a hypervisor that moves a guest between them, and a clock."""

    def __init__(self, *, migrate: bool = True) -> None:
        self.now = 100.0
        self.a = Host("a", Moves("a", Memory()), flows={"old": 1})
        self.b = Host("b", Moves("b", Memory()))
        self.stage = "at source"
        """Where the guest is: at source, memory (still there, being copied), stopped, there, done; or back (at the source again)."""
        self.asked = False
        self.result: str | None = None
        """What the call that moves the guest has come to, where its caller has not heard yet."""
        self.lingers = False
        """The hypervisors have failed, and the destination has not taken away yet what it had made ready."""
        self.faults = 0
        self.copied: dict[str, int] = {}
        self.waiting: collections.deque[Conversation] = collections.deque()
        for host in (self.a, self.b):
            self.do(host, host.moves.everywhere(HELD))
        self.do(self.b, self.b.moves.everywhere(LISTENING))
        self.do(
            self.b,
            self.b.moves.order(Expect(ticket=TICKET, term=1, digest=bytes(32)), guarded=False, now=self.now, clock=0),
        )
        assert self.b.words[-1].step is Step.PREPARED
        self.migrate = migrate
        depart = Depart(ticket=TICKET, term=1, address=LISTENING.address, migrate=migrate)
        self.do(self.a, self.a.moves.order(depart, guarded=True, now=self.now, clock=0))
        self.asked = not migrate

    # What holds

    def open(self, host: Host) -> bool:
        """Its gate is there and forwards."""
        there = self.stage != "done" if host is self.a else self.lingers or self.stage in AT_DESTINATION
        return there and not host.withheld

    @property
    def runs_at(self) -> Host | None:
        if self.stage in {"there", "done"}:
            return self.b
        return None if self.stage == "stopped" else self.a

    def check(self) -> None:
        """No two gates forward.

        The source's agent closes its gate when it hears that the guest is stopped: what is said of that may be on its way, to a guest that
        can send nothing. And what an agent has forgotten, since the controller has told it to, is a move that nobody has given leave for.
        """
        known = all(MOVE in host.moves.phases for host in (self.a, self.b))
        unheard = bool({Life.HELD, Life.MOVED, Life.GONE} & set(self.a.lives)) and self.runs_at is not self.a
        assert not (known and self.open(self.a) and self.open(self.b)) or unheard, "both forward"

    # Agents

    def do(self, host: Host, commands: list[Do | Spread]) -> None:
        for command in commands:
            if isinstance(command, Spread):
                self.heard(host, command.moving)
            else:
                assert command.ticket == TICKET
                self.obey(host, command)
            self.check()

    def take(self, host: Host, event_: Event) -> None:
        self.do(host, host.moves.about(MOVE, event_))

    def heard(self, host: Host, word: Moving) -> None:
        host.words.append(word)
        if host is self.a and word.step is Step.FENCED:
            assert self.runs_at is self.b, "the guest has left"
            assert not self.open(self.a)
        if host is self.a and word.step is Step.ABORTED:
            assert self.runs_at is self.a or not self.migrate, "the guest is here, unless others do as they please"
        if host is self.b and word.step in {Step.LIVE, Step.CARRIED}:
            assert self.runs_at is self.b
            assert self.open(self.b)

    def obey(self, host: Host, done: Do) -> None:
        match done.command:
            case Withhold():
                host.withheld = True
            case Release(amid=amid):
                host.withheld, host.amid = False, amid
            case Remember():
                host.memory = host.moves.memory
            case Reach():
                self.waiting.append(Conversation())
            case Say(message=message):
                talk = host.conversation
                if talk is not None and not talk.cut:
                    (talk.to_destination if host is self.a else talk.to_source).append(message)  # type: ignore[arg-type]
            case HangUp():
                talk, host.conversation, host.parted = host.conversation, None, False
                self.break_off(talk, but=host)
            case Take(parts=parts):
                taken = [json.loads(part) for part in parts]
                for flows in taken:
                    for flow, packets in flows.items():
                        host.flows[flow] = max(packets, host.flows.get(flow, 0))
                self.take(host, FlowsTaken(flows=len(taken), refused=0, unprotected=0, now=self.now))
            case Copy(number=number, whole=whole):
                fresh = {f: n for f, n in host.flows.items() if whole or self.copied.get(f) != n}
                self.copied = dict(host.flows)
                parts = [json.dumps({flow: packets}).encode() for flow, packets in fresh.items()]
                talk = host.conversation
                assert talk is not None
                for at in (0, 1):  # as if it were too much for one message
                    if not talk.cut:
                        talk.to_destination.append(Flows(number=number + at, parts=parts[at::2]))
                self.take(host, Copied(number=number + 1, flows=len(parts), now=self.now))
            case Migrate():
                assert self.stage in {"at source", "back"}
                self.asked = True
            case StopMigration():
                self.stop()
            case HandOver():
                self.take(host, HandedOver(unprotected=0))

    def break_off(self, talk: Conversation | None, *, but: Host | None = None) -> None:
        """Who has not hung up itself will notice."""
        if talk is None:
            return
        talk.cut = True
        for host in (self.a, self.b):
            if host is not but and host.conversation is talk:
                host.parted = True

    # What may happen

    def reach(self) -> None:
        """The source gets through to the destination."""
        if not self.waiting:
            return
        talk = self.waiting.popleft()
        self.a.conversation, self.a.parted = talk, False
        self.take(self.a, Joined(now=self.now))

    def not_reached(self) -> None:
        if self.waiting:
            self.faults += 1
            self.waiting.popleft()
            self.take(self.a, Parted(why="nobody answers", now=self.now))

    def to_destination(self) -> None:
        """What was said before somebody has hung up still comes."""
        taken_up = self.b.conversation
        talk = taken_up if taken_up and taken_up.to_destination else self.a.conversation
        if talk is None or not talk.to_destination:
            return
        message = talk.to_destination.popleft()
        if isinstance(message, Begin):
            why = self.b.moves.begins(message, "a", 0.0)
            if why:
                self.break_off(talk)
                return
            self.b.conversation, self.b.parted = talk, False
            self.take(self.b, Joined(now=self.now))
        elif self.b.conversation is talk:
            self.take(self.b, Heard(message=message, now=self.now))

    def to_source(self) -> None:
        talk = self.a.conversation
        if talk is not None and talk.to_source:
            self.take(self.a, Heard(message=talk.to_source.popleft(), now=self.now))

    def cut(self) -> None:
        """The line is gone, and what was on it; either end notices in its time, the source perhaps never."""
        talk = self.a.conversation or self.b.conversation
        if talk is not None and not talk.cut:
            self.faults += 1
            talk.to_source.clear()
            talk.to_destination.clear()
            self.break_off(talk)

    def notice_a(self) -> None:
        self._notice(self.a)

    def notice_b(self) -> None:
        self._notice(self.b)

    def _notice(self, host: Host) -> None:
        talk = host.conversation
        unheard = talk and (talk.to_source if host is self.a else talk.to_destination)
        if host.parted and not unheard:
            host.conversation, host.parted = None, False
            self.take(host, Parted(why="the line is gone", now=self.now))

    def life_a(self) -> None:
        self._life(self.a)

    def life_b(self) -> None:
        self._life(self.b)

    def _life(self, host: Host) -> None:
        if host.lives:
            self.do(host, host.moves.lived("web", host.lives.popleft(), self.now))

    def call_returns(self) -> None:
        if self.result is not None:
            why, self.result = self.result, None
            self.take(self.a, MigrationEnded(why=why, now=self.now))

    def guest_goes_on(self) -> None:
        """The hypervisors come a step further."""
        match self.stage:
            case "at source" | "back" if self.asked:
                self.lingering_goes()
                self.stage = "memory"
                self.b.lives.append(Life.HELD)
            case "memory":
                self.stage = "stopped"
                self.a.lives.append(Life.HELD)
            case "stopped":
                self.stage = "there"
                self.b.lives.append(Life.RUNS)
            case "there":
                self.stage, self.asked = "done", False
                self.a.lives.append(Life.MOVED)
                self._returned("")

    def guest_comes_back(self) -> None:
        """The hypervisors fail."""
        if self.stage in {"memory", "stopped"}:
            self.faults += 1
            self._fail("it has failed")

    def stop(self) -> None:
        self.faults += 1
        match self.stage:
            case "memory" | "stopped":
                self._fail("it was stopped")
            case "at source" | "back" if self.asked:
                self.asked = False
                self._returned("it was stopped")
            case "at source" | "back":
                self._returned("nothing is under way")

    def lingering_goes(self) -> None:
        if self.lingers:
            self.lingers = False
            self.b.lives.append(Life.GONE)

    def _fail(self, why: str) -> None:
        """Often the destination has taken its part away before the source goes on, but not if the two hypervisors have lost each other."""
        stopped = self.stage == "stopped"
        self.lingers = True
        self.stage, self.asked = "back", False
        if stopped:
            self.a.lives.append(Life.RUNS)
        self._returned(why)

    def _returned(self, why: str) -> None:
        if self.migrate:
            self.result = why

    def packet(self) -> None:
        host = self.runs_at
        if host is not None and self.open(host):
            flow = f"flow {len(host.flows) % 5}"
            host.flows[flow] = host.flows.get(flow, 0) + 1

    def talk(self) -> None:
        """All that is on its way arrives."""
        self.reach()
        while (talk := self.a.conversation) is not None and (talk.to_destination or talk.to_source):
            self.to_destination()
            self.to_source()
            self.check()

    def time(self) -> None:
        self.now += TICK
        for host in (self.a, self.b):
            self.do(host, host.moves.everywhere(Ticked(now=self.now, clock=0.0)))

    def long_time(self) -> None:
        for _ in range(4):
            self.time()

    def forget_a(self) -> None:
        self.faults += 1
        self.do(
            self.a, self.a.moves.order(Forget(move=MOVE, term=1, why="enough"), guarded=False, now=self.now, clock=0)
        )

    def forget_b(self) -> None:
        self.faults += 1
        self.do(
            self.b, self.b.moves.order(Forget(move=MOVE, term=1, why="enough"), guarded=False, now=self.now, clock=0)
        )

    def restart_a(self) -> None:
        self._restart(self.a)
        self.waiting.clear()

    def restart_b(self) -> None:
        self._restart(self.b)

    def _restart(self, host: Host) -> None:
        """It dies, and begins anew at once, with what it has written down and what the hypervisor then tells."""
        self.faults += 1
        talk, host.conversation, host.parted = host.conversation, None, False
        self.break_off(talk, but=host)
        host.lives.clear()
        if host is self.a:
            self.result = None  # nobody is there to hear it
        host.moves = Moves(host.name, host.memory)
        begun = host.moves.begin(self.now)
        host.withheld = any(isinstance(done, Do) and isinstance(done.command, Withhold) for done in begun)
        self.do(host, begun)
        self.do(host, host.moves.everywhere(HELD))
        if host is self.b:
            self.do(host, host.moves.everywhere(LISTENING))
        life = self.life(host)
        host.lives.append(life)

    def life(self, host: Host) -> Life:
        if host is self.a:
            return {"stopped": Life.HELD, "there": Life.HELD, "done": Life.GONE}.get(self.stage, Life.RUNS)
        if self.stage in {"there", "done"}:
            return Life.RUNS
        return Life.HELD if self.lingers or self.stage in AT_DESTINATION else Life.GONE

    # The end

    def settle(self) -> None:
        """Nothing goes wrong any more, and a guest that is on its way arrives."""
        for turn in range(200):
            if turn == 100:
                self.lingering_goes()
            for step in (
                self.reach, self.to_destination, self.to_source, self.notice_a, self.notice_b, self.life_a, self.life_b, self.call_returns,
            ):  # fmt: skip
                step()
                self.check()
            if self.stage in {"memory", "stopped", "there"} or (self.asked and self.migrate):
                self.guest_goes_on()
            self.time()


ORDINARY = [
    "reach", "to_destination", "to_destination", "to_source", "to_source", "life_a", "life_b", "call_returns", "guest_goes_on",
    "packet", "packet", "time", "talk", "talk", "guest_goes_on", "time",
]  # fmt: skip
FAULTS = [
    "cut",
    "notice_a",
    "notice_b",
    "notice_a",
    "notice_b",
    "not_reached",
    "guest_comes_back",
    "long_time",
    "lingering_goes",
]
DEATHS = ["restart_a", "restart_b", "forget_a", "forget_b"]


def ended(scene: Scene) -> None:
    """Wherever the guest is, its gate forwards there, and nowhere else."""
    here, elsewhere = (scene.a, scene.b) if scene.runs_at is scene.a else (scene.b, scene.a)
    assert scene.open(here)
    assert not scene.open(elsewhere) or MOVE not in elsewhere.moves.phases
    phases = [host.moves.phases.get(MOVE) for host in (scene.a, scene.b)]
    if scene.stage == "done":
        given_up = scene.a.words[-1:] and scene.a.words[-1].step is Step.ABORTED  # and somebody else has moved it
        assert phases[0] in {Phase.FENCED, None} or given_up
        assert phases[1] in {Phase.LIVE, None}
    else:
        assert phases[0] in {Phase.ABORTED, Phase.COPIED, Phase.COPYING, None}
        assert phases[1] not in {Phase.LIVE, Phase.TURNED}


def play(scene: Scene, steps: list[str]) -> None:
    note(f"{scene.migrate} {steps}")
    for step in steps:
        getattr(scene, step)()
        scene.check()
    scene.settle()
    ended(scene)
    event(f"{scene.stage}: {', '.join(host.moves.phases.get(MOVE, 'over') for host in (scene.a, scene.b))}")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ORDINARY), max_size=80))
def test_where_nothing_goes_wrong_nothing_is_lost(steps: list[str]) -> None:
    scene = Scene()
    play(scene, steps)
    assert scene.faults == 0
    assert scene.stage == "done"
    assert [word.step for word in scene.a.words] == [Step.COPIED, Step.SWITCHED, Step.FENCED]
    assert [word.step for word in scene.b.words] in (
        [Step.PREPARED, Step.CARRIED], [Step.PREPARED, Step.LIVE, Step.CARRIED]
    )  # fmt: skip
    assert scene.a.words[-1].why == ""
    for flow, packets in scene.a.flows.items():
        assert scene.b.flows[flow] >= packets, "each flow, as it was last"


def walk(seed: int, pool: list[str]) -> None:
    """Hypothesis finds short stories; long ones are left to chance."""
    choice = random.Random(seed)
    play(Scene(migrate=choice.random() < 2 / 3), choice.choices(pool, k=choice.randint(5, 80)))


SEEDS = st.integers(0, 2**32)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(ORDINARY * 2 + FAULTS + DEATHS), max_size=60), st.booleans())
def test_whatever_happens_one_host_guards_the_vm(steps: list[str], migrate: bool) -> None:  # noqa: FBT001
    play(Scene(migrate=migrate), steps)


@settings(max_examples=500, deadline=None, phases=[Phases.reuse, Phases.generate])
@given(SEEDS)
def test_lines_break_and_hypervisors_fail(seed: int) -> None:
    walk(seed, ORDINARY * 2 + FAULTS)


@settings(max_examples=500, deadline=None, phases=[Phases.reuse, Phases.generate])
@given(SEEDS)
def test_agents_die_and_controllers_change_their_minds(seed: int) -> None:
    walk(seed, ORDINARY * 2 + FAULTS + DEATHS)


def test_a_broken_line_at_each_step_loses_no_more_than_the_moment() -> None:
    """The line breaks once, after so many messages; the agents find each other again."""
    for broken_after in range(40):
        scene = Scene()
        heard = 0
        while scene.stage != "done" or scene.a.moves.phases[MOVE] is not Phase.FENCED:
            before = (len(scene.a.words), scene.stage)
            for step in (scene.reach, scene.packet, scene.to_destination, scene.to_source, scene.notice_a, scene.notice_b, scene.life_a,
                         scene.call_returns):  # fmt: skip
                step()
                scene.check()
                heard += step in {scene.to_destination, scene.to_source}
                if heard == broken_after:
                    heard += 1
                    scene.cut()
            scene.time()
            if scene.a.moves.phases[MOVE] is not Phase.COPYING:
                scene.guest_goes_on()
            if scene.now > 200:
                pytest.fail(f"it stands still at {before}")
            scene.life_b()
        scene.settle()
        ended(scene)
        assert scene.a.words[-1].why == ""
        for flow, packets in scene.a.flows.items():
            assert scene.b.flows[flow] >= packets
