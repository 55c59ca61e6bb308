"""ICMP of both versions, and SCTP: what belongs to a flow, and what pretends to."""

from __future__ import annotations

import dataclasses

import pytest
from cases import (
    CLOSED,
    FAMILIES,
    IN,
    OPEN,
    OUT,
    PATH,
    V4,
    V6,
    Case,
    Family,
    Setup,
    Step,
    came,
    case,
    each,
    play,
    sent,
)
from conftest import Stage
from frames import (
    ACK,
    DESTINATION,
    ESP,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    SCTP,
    SCTP_ABORT,
    SCTP_COOKIE,
    SCTP_COOKIE_ACK,
    SCTP_SHUTDOWN,
    SCTP_SHUTDOWN_ACK,
    SCTP_SHUTDOWN_COMPLETE,
    SYN,
    TCP,
    UDP,
    chunk,
    icmp,
    icmp_error,
    icmpv6_error,
    sctp,
    sctp_data,
    sctp_init,
    sctp_init_ack,
    tcp,
    udp,
)

from serai.model.reasons import Reason

NO_FLOW, WRONG = Reason.NO_FLOW, Reason.OUT_OF_WINDOW


# Errors


def about(
    family: Family,
    protocol: int,
    payload: bytes,
    *,
    back: bool = False,
    headers: tuple[int, ...] = (),
    kind: int | None = None,
) -> bytes:
    """An ICMP error that quotes such a packet of the VM's (``back``: one to the VM)."""
    ends = (family.peer, family.vm) if back else (family.vm, family.peer)
    quoted = family.packet(*ends, protocol, payload, **({"headers": headers} if headers else {}))
    if family is V4:
        return icmp_error(3 if kind is None else kind, 4, quoted, value=1400)
    return icmpv6_error(2 if kind is None else kind, 0, quoted, value=1400)


def of_errors(family: Family) -> list[Case]:
    syn, dns, esp = tcp(1000, 443, SYN), udp(1000, 53), bytes(24)
    router = {"source": family.stranger}
    opened = sent(family.out(TCP, syn))
    inwards = came(family.into(UDP, udp(9, 5000)))

    def error(protocol: int, payload: bytes, reason: Reason = Reason.NONE, **more: object) -> Step:
        return came(family.into(family.icmp, about(family, protocol, payload, **more), **router), reason)  # type: ignore[arg-type]

    def answer(protocol: int, payload: bytes, reason: Reason = Reason.NONE, **header: str) -> Step:
        return sent(family.out(family.icmp, about(family, protocol, payload, back=True), **header), reason)

    return [
        case("about a connection, from a router", opened, error(TCP, syn), flows=1),
        case("about a query", sent(family.out(UDP, dns)), error(UDP, dns), flows=1),
        case("about a protocol without ports", sent(family.out(ESP, esp)), error(ESP, esp), flows=1),
        case("about an association", sent(family.out(SCTP, sctp(9, 5000, 0, sctp_init(7)))),
             error(SCTP, sctp(9, 5000, 5, sctp_data())), flows=1),
        case("about nothing", error(TCP, syn, NO_FLOW)),
        case("about another port", opened, error(TCP, tcp(1001, 443, SYN), NO_FLOW), flows=1),
        case("about another protocol", opened, error(UDP, udp(1000, 443), NO_FLOW), flows=1),
        case("about what the peer sent, to the VM", opened, error(TCP, tcp(443, 1000, ACK), NO_FLOW, back=True), flows=1),
        case("about what another sent, to the VM", opened,
             came(family.into(family.icmp, _quoting(family, family.stranger, family.peer, syn), **router), NO_FLOW), flows=1),
        case("that goes to another than the sender", opened,
             came(family.into(family.icmp, about(family, TCP, syn), source=family.stranger, target=family.stranger),
                  Reason.NOT_ADDRESSED), flows=1),
        case("of every kind", opened,
             *(error(TCP, syn, kind=kind) for kind in ((3, 4, 11, 12) if family is V4 else (1, 2, 3, 4))), flows=1),
        case("the VM says: port unreachable", inwards, answer(UDP, udp(9, 5000)), flows=1),
        case("the VM says so to another", inwards, answer(UDP, udp(9, 5000), NO_FLOW, target=family.stranger), flows=1),
        case("the VM says so of nothing", answer(UDP, udp(9, 5000), NO_FLOW)),
        case("cut in the quoted header", opened,
             came(family.into(family.icmp, about(family, TCP, syn)[: 8 + 19], **router), Reason.MALFORMED), flows=1),
        case("cut in the quoted ports", opened,
             came(family.into(family.icmp, about(family, TCP, syn)[: 8 + (20 if family is V4 else 40) + 7], **router),
                  Reason.MALFORMED), flows=1),
        case("with nothing quoted", came(family.into(family.icmp, about(family, TCP, syn)[:8], **router), Reason.MALFORMED)),
        case("about an error", opened, error(family.icmp, about(family, TCP, syn), NO_FLOW), flows=1),
        case("a broken one about a broken one",
             error(family.icmp, about(family, family.icmp, about(family, TCP, syn)), NO_FLOW)),
    ]  # fmt: skip


def _quoting(family: Family, source: str, target: str, segment: bytes) -> bytes:
    quoted = family.packet(source, target, TCP, segment)
    return icmp_error(3, 4, quoted) if family is V4 else icmpv6_error(2, 0, quoted)


SYN443 = tcp(1000, 443, SYN)
ERRORS = [
    *(row for family in FAMILIES for row in each(family, *of_errors(family))),
    case("IPv6: what is quoted has headers of its own",
         sent(V6.out(TCP, SYN443, headers=(HOP_BY_HOP, DESTINATION))),
         came(V6.into(ICMPV6, about(V6, TCP, SYN443, headers=(HOP_BY_HOP, DESTINATION)), source=V6.stranger)), flows=1),
    case("IPv6: the error has headers of its own", sent(V6.out(TCP, SYN443)),
         came(V6.into(ICMPV6, about(V6, TCP, SYN443), source=V6.stranger, headers=(HOP_BY_HOP, DESTINATION))), flows=1),
    case("IPv6: what is quoted has more headers than any packet",
         sent(V6.out(TCP, SYN443)),
         came(V6.into(ICMPV6, about(V6, TCP, SYN443, headers=(DESTINATION,) * 7), source=V6.stranger), Reason.EXTENSION), flows=1),
    case("redirect", came(V4.into(ICMP, icmp(5)), Reason.ICMP_TYPE)),
    case("timestamp, mask, router discovery", *(sent(V4.out(ICMP, icmp(kind)), Reason.ICMP_TYPE) for kind in (13, 17, 9, 10, 15, 255))),
    case("IPv6: kinds that are no errors", *(came(V6.into(ICMPV6, icmp(kind)), Reason.ICMP_TYPE) for kind in (0, 5, 100, 127, 140, 160, 255))),
    case("what quotes the other version",
         sent(V4.out(TCP, SYN443)), came(V6.into(ICMPV6, about(V4, TCP, SYN443)), Reason.MALFORMED),
         sent(V6.out(TCP, SYN443)), came(V4.into(ICMP, b"\3" + about(V6, TCP, SYN443)[1:]), Reason.MALFORMED), flows=2),
]  # fmt: skip


# Echo


def of_echoes(family: Family) -> list[Case]:
    asks, answers = ((lambda n, kind=kind: icmp(kind, identifier=n)) for kind in (family.echo, family.reply))
    out, into = (lambda body: family.out(family.icmp, body)), (lambda body: family.into(family.icmp, body))
    return [
        case("asked and answered", sent(out(asks(5))), came(into(answers(5))), came(into(answers(5))), flows=1),
        case("answered without being asked", came(into(answers(5)), NO_FLOW)),
        case("answered by another name", sent(out(asks(5))), came(into(answers(6)), NO_FLOW), flows=1),
        case("the VM answers what nobody asked", sent(out(answers(5)), NO_FLOW)),
        case("the peer asks by the name that the VM chose",
             sent(out(asks(5))), came(into(asks(5)), Reason.DENIED), came(into(answers(5))), flows=1),
        case("the VM answers its own question", sent(out(asks(5))), sent(out(answers(5)), NO_FLOW), flows=1),
        case("a code that is none", sent(out(icmp(family.echo, 5)), Reason.ICMP_TYPE), came(into(icmp(family.reply, 1)), Reason.ICMP_TYPE)),
        case("an error about the question", sent(out(asks(5))), came(into(about(family, family.icmp, asks(5)))),
             came(into(about(family, family.icmp, answers(5))), NO_FLOW), flows=1),
        case("both ask by one name, where policy lets them", sent(out(asks(5))), came(into(asks(5))),
             sent(out(answers(5))), came(into(answers(5))), flows=2, policies=OPEN),
    ]  # fmt: skip


ECHOES = [row for family in FAMILIES for row in each(family, *of_echoes(family))]


# SCTP

OURS, THEIRS = 0x1111, 0x2222


@dataclasses.dataclass(frozen=True)
class Association:
    """The VM asks for the tag OURS in what it gets, the peer for THEIRS."""

    family: Family

    def we(self, tag: int, *chunks: bytes, reason: Reason = Reason.NONE) -> Step:
        return sent(self.family.out(SCTP, sctp(9, 5000, tag, *chunks)), reason)

    def they(self, tag: int, *chunks: bytes, reason: Reason = Reason.NONE) -> Step:
        return came(self.family.into(SCTP, sctp(5000, 9, tag, *chunks)), reason)

    @property
    def opened(self) -> tuple[Step, ...]:
        return (
            self.we(0, sctp_init(OURS)), self.they(OURS, sctp_init_ack(THEIRS)),
            self.we(THEIRS, SCTP_COOKIE, sctp_data()), self.they(OURS, SCTP_COOKIE_ACK),
        )  # fmt: skip

    @property
    def lives(self) -> tuple[Step, ...]:
        return self.we(THEIRS, sctp_data()), self.they(OURS, sctp_data())


def of_associations(family: Family) -> list[Case]:
    a = Association(family)
    return [
        case("opened, used and closed", *a.opened, *a.lives, a.we(THEIRS, SCTP_SHUTDOWN), a.they(OURS, SCTP_SHUTDOWN_ACK),
             a.we(THEIRS, SCTP_SHUTDOWN_COMPLETE), flows=1),
        case("opened to the VM", came(family.into(SCTP, sctp(9, 5000, 0, sctp_init(OURS)))),
             sent(family.out(SCTP, sctp(5000, 9, OURS, sctp_init_ack(THEIRS)))),
             came(family.into(SCTP, sctp(9, 5000, THEIRS, SCTP_COOKIE))), flows=1),
        case("INIT again", a.opened[0], *a.opened, *a.lives, flows=1),
        case("INIT to a port that no rule names",
             sent(family.out(SCTP, sctp(9, 5001, 0, sctp_init(OURS))), Reason.DENIED)),
        case("data without an association", a.we(THEIRS, sctp_data(), reason=NO_FLOW), a.they(OURS, sctp_data(), reason=NO_FLOW)),
        *(
            case(f"chunk {kind} without an association", a.we(THEIRS, chunk(kind, b"\1" * 20), reason=NO_FLOW))
            for kind in range(2, 16)
        ),
        case("data with another tag", *a.opened, a.they(0x3333, sctp_data(), reason=WRONG),
             a.we(0x3333, sctp_data(), reason=WRONG), *a.lives, flows=1),
        case("data with the other's tag", *a.opened, a.they(THEIRS, sctp_data(), reason=WRONG), *a.lives, flows=1),
        case("INIT ACK with another tag", a.opened[0], a.they(0x3333, sctp_init_ack(THEIRS), reason=WRONG), *a.opened[1:], flows=1),
        case("ABORT with another tag", *a.opened, a.they(0x3333, SCTP_ABORT, reason=WRONG), *a.lives, flows=1),
        case("ABORT", *a.opened, a.they(OURS, SCTP_ABORT), *a.opened, flows=1),
        case("ABORT by one who knows no other tag", *a.opened, a.they(THEIRS, chunk(6, flags=1)), *a.opened, flows=1),
        case("ABORT by one who says so and does not", *a.opened, a.they(0x3333, chunk(6, flags=1), reason=WRONG), *a.lives, flows=1),
        case("the same ports after it was closed", *a.opened, a.we(THEIRS, SCTP_SHUTDOWN), a.they(OURS, SCTP_SHUTDOWN_ACK),
             a.we(THEIRS, SCTP_SHUTDOWN_COMPLETE), *a.opened, *a.lives, flows=1),
        case("an INIT in the middle changes nothing yet (RFC 9260, 5.2.2)", *a.opened, a.we(0, sctp_init(0x4444)), *a.lives, flows=1),
        case("a peer that restarts is asked about", *a.opened, a.they(0, sctp_init(0x4444), reason=Reason.DENIED), *a.lives, flows=1),
        case("cut before its first chunk", sent(family.out(SCTP, sctp(9, 5000, 0)), Reason.MALFORMED)),
        case("an INIT that ends before its tag, and bytes behind the packet",
             sent(family.out(SCTP, sctp(9, 5000, 0, chunk(1))) + b"\1" * 20, Reason.MALFORMED)),
        case("cut in its INIT", sent(family.out(SCTP, sctp(9, 5000, 0, sctp_init(OURS)[:6])), Reason.MALFORMED)),
    ]  # fmt: skip


ASSOCIATIONS = [row for family in FAMILIES for row in each(family, *of_associations(family))]


@pytest.mark.parametrize("row", [*ERRORS, *ECHOES, *ASSOCIATIONS], ids=lambda row: row.says)
def test_message(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize(
    "frame",
    [
        sctp(9, 5000, 7, sctp_init(OURS)), sctp(9, 5000, 0, sctp_init(OURS), sctp_data()),
        sctp(9, 5000, 0, sctp_data(), sctp_init(OURS)), sctp(9, 5000, 0, sctp_init(0)),
    ],
    ids=["a tag of its own", "data behind", "data before", "asks for tag 0"],
)  # fmt: skip
def test_no_such_thing_opens_an_association(stage: Stage, family: Family, frame: bytes) -> None:
    """RFC 9260, 4.3 and 8.5.1: an INIT has tag 0, stands alone, and asks for a tag."""
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for direction, frame_of in ((OUT, family.out), (IN, family.into)):
        assert gate.send(direction, frame_of(SCTP, frame)).reason in {Reason.MALFORMED, NO_FLOW, WRONG}
    assert gate.flows.count() == 0


def test_an_error_is_no_packet_of_the_flow(stage: Stage) -> None:
    for family in FAMILIES:
        gate = stage.set(Setup().world(), PATH)
        assert gate.send(OUT, family.out(TCP, SYN443)).passed
        assert gate.send(IN, family.into(family.icmp, about(family, TCP, SYN443), source=family.stranger)).passed
        (row,) = gate.rows()
        assert (row.packets_out, row.packets_in) == (1, 0)


def test_an_error_about_a_flow_that_policy_ended(stage: Stage) -> None:
    for family in FAMILIES:
        gate = stage.set(Setup().world(), PATH)
        assert gate.send(OUT, family.out(TCP, SYN443)).passed
        gate.guard(Setup(policies=CLOSED).world(), PATH)
        error = family.into(family.icmp, about(family, TCP, SYN443), source=family.stranger)
        assert gate.send(IN, error).reason is Reason.DENIED
        assert gate.send(IN, error).reason is NO_FLOW
        assert gate.flows.count() == 0
