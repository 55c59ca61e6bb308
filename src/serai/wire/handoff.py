"""What the hosts that a VM moves between say to each other: MessagePack on TLS, each message behind its length.

Each shows the certificate of a host of the site: the source looks whether it has reached the destination of its ticket, and the
destination whether it is the source that speaks. Whatever is not understood, too long, or said out of turn ends the conversation.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from serai.model.migration import MoveId

VERSION: Final = 1
"""Of these messages."""
MESSAGE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes in one message at the most."""
BEGIN_LIMIT: Final = 1024
"""The same of the first one: nothing is known yet of who sends it but that it is a host of the site."""
PARTS: Final = 256
"""Parts of one message at the most."""
LEASE_SECONDS: Final = 2.0
"""How long a ``Turn`` opens the destination's gates, counted from when the destination said what it acknowledges, unless the guest runs there."""
OPEN_SECONDS: Final = 5.0
"""How long connecting, shaking hands and the first message may take."""

_Number = Annotated[int, msgspec.Meta(ge=0)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Message(
    msgspec.Struct, tag_field="say", frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One message."""


class Begin(Message, tag="begin", frozen=True, kw_only=True):
    """The source begins, or begins anew: all flows come, and then those that change. Answered by ``Taken`` of nothing."""

    version: int
    move: MoveId
    epoch: _Number


class Flows(Message, tag="flows", frozen=True, kw_only=True):
    """These flows were active since the last time. Answered by ``Taken``."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    """Counts what the source says in this conversation, ``Turn`` included, without gaps."""
    parts: Annotated[list[bytes], msgspec.Meta(max_length=PARTS)] = []
    """Each is of one vNIC (``datapath/handoff.py``)."""


class Turn(Message, tag="turn", frozen=True, kw_only=True):
    """The guest is stopped here, this host's gates are closed, and all that they knew has been told: it is your turn."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    acknowledged: _Number
    """The latest ``Taken`` that has come: this was said after that one. See ``LEASE_SECONDS``."""


class Taken(Message, tag="taken", frozen=True, kw_only=True):
    """The destination has what was told up to this number."""

    number: _Number
    flows: _Number = 0
    """Taken over, of those of that message."""
    refused: _Number = 0
    """Not taken, because its rules allow no such connection."""


class Live(Message, tag="live", frozen=True, kw_only=True):
    """The guest runs at the destination, and its gates there forward."""


class Abort(Message, tag="abort", frozen=True, kw_only=True):
    """This comes to nothing. The source's is answered by ``Closed``."""

    why: _Text
    closed: bool = False
    """The destination's: and ``Closed`` holds as well."""


class Closed(Message, tag="closed", frozen=True, kw_only=True):
    """The destination's gates are closed, and stay so unless the guest runs there, whatever it was told before."""


FromSource = Begin | Flows | Turn | Abort
FromDestination = Taken | Live | Closed | Abort

_FROM_SOURCE: Final[msgspec.msgpack.Decoder[FromSource]] = msgspec.msgpack.Decoder(FromSource)
_FROM_DESTINATION: Final[msgspec.msgpack.Decoder[FromDestination]] = msgspec.msgpack.Decoder(FromDestination)


def decode_from_source(raw: bytes) -> FromSource:
    """Read what a source wrote.

    Raises:
        ValueError: it is no message of a source.
    """
    return _FROM_SOURCE.decode(raw)


def decode_from_destination(raw: bytes) -> FromDestination:
    """Read what a destination wrote.

    Raises:
        ValueError: it is no message of a destination.
    """
    return _FROM_DESTINATION.decode(raw)
