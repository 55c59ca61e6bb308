"""What an agent's link decides: events in, commands out. No I/O, no clock.

It seeks the controller that leads, obeys none that is led no more, tells what the host holds, and is silent for good once a newer
agent of this host has come. Whatever becomes of it, the gates go on with what they hold.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Sequence
from typing import Final

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
    HangUp,
    Holding,
    HostChanged,
    Install,
    Lost,
    MakeRequest,
    Memory,
    MoveTold,
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
from serai.agent.link.outbox import Outbox
from serai.agent.link.witness import newer
from serai.agent.link.words import Words
from serai.wire.remote import (
    PARTS_LIMIT,
    VERSION,
    Depart,
    Described,
    Difference,
    Elsewhere,
    Entry,
    Expect,
    Fenced,
    Forget,
    FromAgent,
    FromController,
    Held,
    Hello,
    Renew,
    Renewed,
    Seen,
    Taken,
    Welcome,
    Whole,
    Witness,
)

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0
"""How long is waited between two attempts, at the least and at the most."""
ANSWER_SECONDS: Final = 10.0
"""How long a controller may take to answer ``Hello``."""
RENEW_AGAIN_SECONDS: Final = 60.0
CLOCK_SECONDS: Final = 300.0
"""How far this host's clock may be from the controller's before it is told."""
_DETOURS: Final = 4
"""How often in a row one goes where one is sent without waiting."""
_URL: Final = re.compile(r"wss://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}/?")


class Phase(enum.Enum):
    """Where the link is."""

    WAITING = enum.auto()
    RENEWING = enum.auto()
    """Over HTTPS."""
    DIALLING = enum.auto()
    GREETING = enum.auto()
    """``Hello`` is said and not answered."""
    TALKING = enum.auto()
    LEAVING = enum.auto()
    FENCED = enum.auto()


class LinkCore:
    """Knows how the link is; says what to do."""

    def __init__(
        self, urls: Sequence[str], memory: Memory, *, agent: str, jitter: Callable[[], float], epoch: int = 0
    ) -> None:
        """Seek a controller at ``urls``; ``jitter`` gives numbers from 0 to 1, so that not all hosts do the same at once.

        ``epoch`` is what this agent's life is called already; 0: it has just begun.
        """
        self._urls = tuple(urls)
        self._memory = memory
        self._agent = agent
        self._jitter = jitter
        self._next = int(jitter() * len(self._urls)) % max(1, len(self._urls))
        self._phase = Phase.WAITING
        self._due = 0.0
        self._attempts = 0
        self._detour = ""
        self._detours = 0
        self._epoch = epoch
        self._url = ""
        self._number = 0
        self._outbox = Outbox()
        self._words = Words()
        self._said: Holding | None = None
        self._latest: Holding | None = None
        self._life = (0.0, float("inf"))
        self._lacking = self._lacked = False
        """The certificate is of before: another is wanted now; it was wanted once (a controller of before gives no other)."""
        self._asked = False
        self._renew_at = 0.0
        self._refused = False
        self._skew: float | None = None
        self._troubles: dict[str, str] = {}

    # What can be asked

    @property
    def phase(self) -> Phase:
        """Where the link is."""
        return self._phase

    @property
    def url(self) -> str:
        """The controller that it talks to, or has last tried."""
        return self._url

    @property
    def epoch(self) -> int:
        """How the controller calls this agent's life; 0: it has none yet."""
        return self._epoch

    @property
    def memory(self) -> Memory:
        """What must outlive a restart."""
        return self._memory

    @property
    def skew_seconds(self) -> float | None:
        """By how much the controller's clock is ahead of this host's."""
        return self._skew

    @property
    def until(self) -> float:
        """When the certificate ends."""
        return self._life[1]

    @property
    def trouble(self) -> str:
        """What is wrong, in sentences; empty where nothing is."""
        return "; ".join(self._troubles.values())

    # Events

    def handle(self, event: Event) -> list[Command]:
        """Take one event in and return what it makes necessary, in the order in which it must be done."""
        if isinstance(event, CertificateHeld):
            return self._hold(event)
        if self._phase is Phase.FENCED:
            return []
        match event:
            case Ticked():
                return self._tick(event)
            case Connected():
                return self._greet(event)
            case Received():
                return self._hear(event)
            case Lost():
                return self._lose(event)
            case HostChanged():
                self._latest = event.holding
                return self._tell()
            case Enforced():
                self._troubles.pop("ruleset", None)
                return self._answer(event.number, event.digest, "")
            case Refused():
                self._troubles["ruleset"] = f"what the controller has sent is not in force: {event.why}"
                return self._answer(event.number, event.digest, event.why)
            case RequestMade():
                return self._send(Renew(csr=event.csr)) if self._phase is Phase.TALKING and self._asked else []
            case RenewalFailed():
                return self._not_renewed(event)
            case BatchesReady():
                return self._outbox.ready(talking=self._phase is Phase.TALKING)
            case BatchRead():
                return self._outbox.read(event.batch) if self._phase is Phase.TALKING else []
            case EntryWanted():  # whoever waits for an answer does not for long
                return self._send(event.entering) if self._phase is Phase.TALKING else []
            case MoveTold():
                return self._words.told(event.moving, talking=self._phase is Phase.TALKING)

    def _tick(self, event: Ticked) -> list[Command]:
        match self._phase:
            case Phase.WAITING if event.now >= self._due:
                return self._dial(event)
            case Phase.GREETING if event.now >= self._due:
                return self._leave("the controller does not answer")
            case Phase.TALKING:
                since, until = self._life
                # By the controller's clock: its own may be what keeps this host from renewing in time.
                due = event.clock + (self._skew or 0.0) >= (since + until) / 2
                if (due or self._lacking) and event.now >= self._renew_at:
                    self._asked, self._renew_at = True, event.now + RENEW_AGAIN_SECONDS
                    self._lacking = False
                    return [MakeRequest()]
            case _:
                pass
        return []

    def _dial(self, event: Ticked) -> list[Command]:
        if self._refused or event.clock >= self._life[1]:
            self._refused = False
            self._phase = Phase.RENEWING
            return [RenewApart()]
        if not self._urls and not self._detour:
            self._troubles["link"] = "no controller is known: join this host again"
            return self._wait(event.now)
        if self._detour:
            self._url, self._detour = self._detour, ""
        else:
            self._url = self._urls[self._next]
            self._next = (self._next + 1) % len(self._urls)
        self._phase = Phase.DIALLING
        return [Dial(url=self._url)]

    def _greet(self, event: Connected) -> list[Command]:
        if self._phase is not Phase.DIALLING:
            return []
        self._phase, self._due = Phase.GREETING, event.now + ANSWER_SECONDS
        self._latest = event.holding
        self._said = dataclasses.replace(event.holding, facts=None)  # hello does not say what the host is made of
        self._number = 0
        self._asked, self._renew_at = False, event.now
        hello = Hello(
            version=VERSION, agent=self._agent, epoch=self._epoch, term=self._memory.term, digest=event.holding.digest,
            parts=list(event.holding.parts[:PARTS_LIMIT]), sight=event.holding.sight, checkpoint=self._memory.checkpoint,
        )  # fmt: skip
        return [Send(message=hello)]

    def _hear(self, event: Received) -> list[Command]:
        match self._phase, event.message:
            case ((Phase.GREETING | Phase.TALKING), Elsewhere(url=url)):
                return self._go(url)
            case ((Phase.GREETING | Phase.TALKING), Fenced(epoch=epoch)):
                self._phase = Phase.FENCED
                self._troubles = {
                    "fenced": f"a newer agent of this host has come (epoch {epoch}, this one is of {self._epoch}): this one is silent until it is "
                    "restarted; see which machine uses this host's certificate, and revoke it if it is not yours"
                }  # fmt: skip
                return [HangUp(why="fenced")]
            case Phase.GREETING, Welcome() as welcome:
                return self._begin(welcome, event)
            case Phase.TALKING, Witness(checkpoint=checkpoint):
                return self._witness(checkpoint)
            case Phase.TALKING, (Whole() | Difference()) as sent:
                return self._take(sent)
            case Phase.TALKING, Taken() as taken:
                return self._outbox.taken(taken)
            case Phase.TALKING, (Expect() | Depart() | Forget()) as order if order.term == self._memory.term:
                return self._words.order(order)
            case Phase.TALKING, Entry() as entry:
                return [TellEntry(entry=entry)]
            case Phase.TALKING, Renewed(certificate=certificate) if self._asked:
                self._asked = False
                return [Install(certificate=certificate)]
            case Phase.LEAVING, _:
                return []
        return self._leave(f"the controller says {_called(event.message)!r} out of turn")

    def _begin(self, welcome: Welcome, event: Received) -> list[Command]:
        if welcome.version != VERSION:
            return self._leave(
                f"the controller speaks version {welcome.version}, and this agent {VERSION}: upgrade the older of them"
            )
        if welcome.term < self._memory.term:
            return self._leave(
                f"the controller leads in term {welcome.term}, and this host has obeyed a leader of term {self._memory.term}"
            )
        self._phase = Phase.TALKING
        self._attempts = self._detours = 0
        self._epoch = welcome.epoch
        self._skew = welcome.time - event.clock
        self._troubles.pop("link", None)
        self._troubles.pop("clock", None)
        if abs(self._skew) > CLOCK_SECONDS:
            way = "behind" if self._skew > 0 else "ahead of"
            self._troubles["clock"] = f"this host's clock is {abs(self._skew):.0f} s {way} the controller's: set it"
        before = self._memory
        self._memory = dataclasses.replace(before, term=welcome.term, epoch=welcome.epoch)
        told = self._witness(welcome.checkpoint) if welcome.checkpoint else []
        changed = not told and self._memory != before
        return [
            *told,
            *([Remember(memory=self._memory)] if changed else []),
            *self._tell(),
            *self._words.begin(),
            *self._outbox.begin(),
        ]

    def _witness(self, checkpoint: str) -> list[Command]:
        self._troubles.pop("audit", None)
        why = newer(self._memory.checkpoint, checkpoint)
        if why:  # what this host has seen is what convicts: it is kept
            self._troubles["audit"] = why
            return []
        if checkpoint == self._memory.checkpoint:
            return []
        self._memory = dataclasses.replace(self._memory, checkpoint=checkpoint)
        return [Remember(memory=self._memory)]

    def _take(self, sent: Whole | Difference) -> list[Command]:
        if sent.term != self._memory.term or sent.number <= self._number:
            return self._leave(f"the controller sends ruleset {sent.number} of term {sent.term} out of turn")
        self._number = sent.number
        if isinstance(sent, Whole):
            return [Enforce(number=sent.number, ruleset=sent.ruleset)]
        return [Change(number=sent.number, delta=sent.delta)]

    def _answer(self, number: int, digest: bytes | None, refused: str) -> list[Command]:
        if self._phase is not Phase.TALKING or number != self._number:
            return []
        if self._said is not None:
            self._said = dataclasses.replace(self._said, digest=digest)
        return self._send(Held(digest=digest, refused=refused[:4096], answers=number))

    def _tell(self) -> list[Command]:
        """Say what has changed since it was last said."""
        said, latest = self._said, self._latest
        if self._phase is not Phase.TALKING or said is None or latest is None:
            return []
        self._said = latest
        told = self._send(Seen(sight=latest.sight)) if latest.sight != said.sight else []
        if latest.facts is not None and latest.facts != said.facts:
            told += self._send(Described(facts=latest.facts))
        return told + (self._send(Held(digest=latest.digest)) if latest.digest != said.digest else [])

    def _go(self, url: str) -> list[Command]:
        """Go where the leader is. Whoever is there must be a controller of the site too: TLS sees to that."""
        if url and not _URL.fullmatch(url):
            return self._leave(f"the controller sends this host to {url[:200]!r}, which is no address")
        self._detours += 1
        if url and self._detours <= _DETOURS:
            self._detour = url
        return self._leave("another controller leads" if url else "no controller leads just now")

    def _leave(self, why: str) -> list[Command]:
        self._phase = Phase.LEAVING
        self._troubles["link"] = why
        return [HangUp(why=why)]

    def _lose(self, event: Lost) -> list[Command]:
        if self._phase not in {Phase.DIALLING, Phase.GREETING, Phase.TALKING, Phase.LEAVING}:
            return []
        if self._phase is not Phase.LEAVING:
            self._troubles["link"] = event.why
        self._refused = event.refused
        self._phase = Phase.WAITING
        if self._detour:
            self._due = event.now
            return [Wake(seconds=0.0)]
        return self._wait(event.now)

    def _wait(self, now: float, seconds: float | None = None) -> list[Command]:
        longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._attempts + 1, 10))
        self._attempts += 1
        delay = FIRST_SECONDS + (longest - FIRST_SECONDS) * self._jitter() if seconds is None else seconds
        self._phase, self._due = Phase.WAITING, now + delay
        return [Wake(seconds=delay)]

    def _hold(self, event: CertificateHeld) -> list[Command]:
        self._life = event.since, event.until
        self._lacking = not event.listens and not self._lacked
        self._lacked = self._lacked or not event.listens
        self._troubles.pop("certificate", None)
        if self._phase is Phase.RENEWING:
            self._phase, self._due = Phase.WAITING, 0.0
            return [Wake(seconds=0.0)]
        return []

    def _not_renewed(self, event: RenewalFailed) -> list[Command]:
        self._asked = False
        self._troubles["certificate"] = f"this host's certificate cannot be renewed: {event.why}"
        if self._phase is not Phase.RENEWING:
            return []
        return self._wait(event.now, RENEW_AGAIN_SECONDS if event.refused else None)

    def _send(self, message: FromAgent) -> list[Command]:
        return [Send(message=message)]


def _called(message: FromController) -> str:
    return type(message).__name__.lower()
