"""What an agent and a controller say to each other: MessagePack, one message a WebSocket frame, over mutual TLS.

Who an agent is stands in its certificate, never in a message. The agent speaks first (``Hello``). Whatever is not understood, too
long, or said out of turn ends the connection, and changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from serai.model.host_facts import HostFacts
from serai.model.migration import MOST_VNICS, Facts, MoveId, Step, Ticket

VERSION: Final = 1
"""Of these messages. Each end says its own, and speaks to none of another."""

MESSAGE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes in one message at the most."""

AGENT_LIMIT: Final = 1024 * 1024
"""The same of what agents say: they have less to tell."""

PARTS_LIMIT: Final = 16384
"""Parts that an agent names at the most; what it does not name is sent once more than need be."""

MOST_BOOTS: Final = 64
"""Files that one domain boots from at the most."""

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Mac = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{2}(:[0-9a-f]{2}){5}\\Z")]
_Number = Annotated[int, msgspec.Meta(ge=0)]
_VnicId = Annotated[int, msgspec.Meta(ge=1)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Message(
    msgspec.Struct, tag_field="say", frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One message."""


class Sight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a host runs and guards."""

    macs: list[_Mac]
    """What its hypervisor says is behind the taps."""
    vnics: list[_VnicId]
    """What its gates guard."""


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """An agent begins: this is what my kernel holds, and whom I see."""

    version: int
    agent: _Text
    """The version of the agent."""
    epoch: _Number
    """What the controller called this agent's life before; 0: this one has just begun, and ends any other of this host."""
    term: _Number
    """The highest term of a leader that this agent has obeyed; a leader of a lower one is none any more."""
    digest: _Digest | None
    """Of the ruleset that the kernel holds."""
    parts: Annotated[list[_Digest], msgspec.Meta(max_length=PARTS_LIMIT)]
    """Digests of the parts of that ruleset, so that only others need be sent."""
    sight: Sight
    checkpoint: _Text = ""
    """The latest checkpoint of the audit log that this host was given: hosts are the log's witnesses."""


class Seen(Message, tag="seen", frozen=True, kw_only=True):
    """Whom this host runs has changed."""

    sight: Sight


class Described(Message, tag="described", frozen=True, kw_only=True):
    """What this host is made of; said once it is known, and again when it is otherwise."""

    facts: HostFacts


class Held(Message, tag="held", frozen=True, kw_only=True):
    """The kernel holds the ruleset of this digest now, or goes on with it."""

    digest: _Digest | None
    refused: _Text = ""
    """Why what was sent is not in force, where it is not."""
    answers: _Number = 0
    """The ``number`` of what was sent."""


class Renew(Message, tag="renew", frozen=True, kw_only=True):
    """My certificate runs out: sign this."""

    csr: _Text


class Losses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known not to have been told, since the batch before."""

    ring: _Number = 0
    """Ends of flows that found no room in the gates' ring: what they carried since the last sweep is not known."""
    drops: _Number = 0
    """Packets dropped of which no record says whose they were (they are counted, by reason)."""
    forgotten: _Number = 0
    """Records that the agent could not make, or keep until the next batch."""
    spool: _Number = 0
    """Records that were removed from the host's disk, because no controller took them for too long."""


class Records(Message, tag="records", frozen=True, kw_only=True):
    """What this host's gates counted in one interval, or a part of it. Answered by ``Taken``.

    ``flows``, ``drops`` and ``sightings`` are Arrow IPC streams of the columns in ``model/flow_record.py``, compressed with zstd; empty
    where there are none.
    """

    spool: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}\\Z")]
    """Names what these are kept in on the host's disk; another where that was lost."""
    number: Annotated[int, msgspec.Meta(ge=1)]
    """Counts the batches of a spool, without gaps but for those that were removed unsent."""
    since: float
    """Seconds since 1970, by the host's clock. Batches of one interval have the same."""
    until: float
    records: _Number
    """In ``flows``."""
    flows: bytes = b""
    drops: bytes = b""
    sightings: bytes = b""
    rules: Annotated[list[_Text], msgspec.Meta(max_length=65536)] = []
    """The texts of the rules that ``flows`` names; each one's number follows from it."""
    lost: Losses = Losses()


class Taken(Message, tag="taken", frozen=True, kw_only=True):
    """The controller keeps all batches of this spool up to this number: they need not be told again."""

    spool: _Text
    number: _Number
    again: bool = False
    """Those behind it that were sent are not kept, and are to be sent once more."""


class Moving(Message, tag="moving", frozen=True, kw_only=True):
    """A move has come this far, as this host sees it; may be said again after the connection was gone."""

    move: MoveId
    step: Step
    address: _Text = ""
    """Of ``PREPARED``: where this host takes flows from the source, ``ADDRESS:PORT``."""
    facts: Facts = Facts()
    why: _Text = ""
    """Of ``ABORTED``."""


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A network card of a domain."""

    mac: _Mac
    bridge: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """What it is attached to; empty: the definition does not say."""


class Boot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that a domain boots from."""

    what: Annotated[str, msgspec.Meta(max_length=256)]
    """E.g. ``disk vda``."""
    path: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    digest: _Digest | None = None
    """SHA-256 of the whole file; None: nobody could read it."""
    why: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    """Why not."""


class Entering(Message, tag="entering", frozen=True, kw_only=True):
    """The hypervisor is about to run this: may it? Answered by ``Entry``."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    """The answer names it."""
    domain: Annotated[str, msgspec.Meta(max_length=256)]
    cards: Annotated[list[Card], msgspec.Meta(max_length=MOST_VNICS)]
    incoming: bool
    """It comes from another host."""
    encrypted: bool | None = None
    """Its memory comes over TLS; None: this host cannot tell."""
    definition: _Digest | None = None
    """Of its machine definition (``inventory/definition.py``)."""
    boots: Annotated[list[Boot], msgspec.Meta(max_length=MOST_BOOTS)] | None = None
    """What it boots from; None: nobody has looked yet, which may take long."""


class Entry(Message, tag="entry", frozen=True, kw_only=True):
    """The answer: it may, unless there are objections."""

    answers: Annotated[int, msgspec.Meta(ge=1)]
    vm: _Text
    """Path of the VM that it is; empty: nobody has declared it."""
    objections: Annotated[list[_Text], msgspec.Meta(max_length=256)]
    warnings: Annotated[list[_Text], msgspec.Meta(max_length=256)]
    look: bool = False
    """It depends on what it boots from: ask again with that."""
    definition: _Digest | None = None
    """Of the machine definition that is registered; None: none is."""
    unable: _Text = ""
    """Why the controller cannot say whether it may; then there is nothing else in this."""


class Expect(Message, tag="expect", frozen=True, kw_only=True):
    """This VM is about to come to you: take its flows from the source. Answered by ``Moving``: ``PREPARED``, or ``ABORTED``."""

    ticket: Ticket
    term: _Number
    digest: _Digest
    """Of the ruleset by which you will guard it: hold this one before you answer."""


class Depart(Message, tag="depart", frozen=True, kw_only=True):
    """Move this VM: the destination is ready. Answered by one ``Moving`` after the other."""

    ticket: Ticket
    term: _Number
    address: _Text
    """Where the destination takes flows."""
    migrate: bool = True
    """Have the hypervisor move the guest; otherwise somebody else does, and only flows are yours to carry."""


class Forget(Message, tag="forget", frozen=True, kw_only=True):
    """This move is over, or shall be: go back to where you were, where that can be done still."""

    move: MoveId
    term: _Number
    why: _Text = ""


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """The controller begins."""

    version: int
    epoch: _Number
    """How this agent's life is called from now on."""
    term: _Number
    """Of the controller that leads: it has one that no leader before it had."""
    time: float
    """The controller's clock, seconds since 1970: an agent whose clock is far from it says so."""
    checkpoint: _Text = ""
    """Of the audit log, to be kept."""


class Witness(Message, tag="witness", frozen=True, kw_only=True):
    """Keep this checkpoint of the audit log."""

    checkpoint: _Text


class Whole(Message, tag="whole", frozen=True, kw_only=True):
    """Enforce this ruleset (``HostRuleset.encode``)."""

    number: _Number
    """Counts what was sent in this conversation."""
    term: _Number
    revision: _Number
    ruleset: bytes


class Difference(Message, tag="difference", frozen=True, kw_only=True):
    """Enforce what this makes of the ruleset that you hold (``Delta.encode``)."""

    number: _Number
    term: _Number
    revision: _Number
    delta: bytes


class Renewed(Message, tag="renewed", frozen=True, kw_only=True):
    """A new certificate, PEM."""

    certificate: Annotated[str, msgspec.Meta(max_length=65536)]


class Elsewhere(Message, tag="elsewhere", frozen=True, kw_only=True):
    """Another controller leads: go there."""

    url: _Text
    """Empty: nobody leads just now; try again soon."""


class Fenced(Message, tag="fenced", frozen=True, kw_only=True):
    """A newer agent of this host has come: be silent from now on."""

    epoch: _Number


FromAgent = Hello | Seen | Described | Held | Renew | Records | Moving | Entering
FromController = (
    Welcome | Witness | Whole | Difference | Renewed | Elsewhere | Fenced | Taken | Expect | Depart | Forget | Entry
)

M = TypeVar("M")

_FROM_AGENT: Final[msgspec.msgpack.Decoder[FromAgent]] = msgspec.msgpack.Decoder(FromAgent)
_FROM_CONTROLLER: Final[msgspec.msgpack.Decoder[FromController]] = msgspec.msgpack.Decoder(FromController)


class MessageError(ValueError):
    """These bytes are no message that may stand here."""


def encode(message: FromAgent | FromController) -> bytes:
    """Write a message."""
    return msgspec.msgpack.encode(message)


def decode_from_agent(raw: bytes) -> FromAgent:
    """Read what an agent wrote.

    Raises:
        MessageError: it is no message of an agent.
    """
    return _decoded(_FROM_AGENT, raw)


def decode_from_controller(raw: bytes) -> FromController:
    """Read what a controller wrote.

    Raises:
        MessageError: it is no message of a controller.
    """
    return _decoded(_FROM_CONTROLLER, raw)


def _decoded(decoder: msgspec.msgpack.Decoder[M], raw: bytes) -> M:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MessageError(f"this is no message: {error}") from error
