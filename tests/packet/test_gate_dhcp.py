"""DHCP of both versions: clients speak for themselves, servers are appointed, and ports alone open nothing."""

from __future__ import annotations

import time

import pytest
from cases import (
    CLOSED,
    IN,
    LINK6,
    MAC,
    OPEN,
    OTHER_MAC,
    OUT,
    PATH,
    PEER,
    PEER6,
    PEER_LINK6,
    PEER_MAC,
    STANDARD,
    STRANGER,
    V4,
    V6,
    VM,
    VM6,
    Case,
    Setup,
    came,
    case,
    play,
    sent,
    under,
)
from conftest import Stage
from frames import BROADCAST, EVERYBODY, NOBODY, SYN, TCP, UDP, dhcp, dhcpv6, group_mac, pieces, tcp, udp

from serai.model.inventory import PortSecurity, Serves
from serai.model.reasons import Reason

SERVERS6, SITE_SERVERS6 = "ff02::1:2", "ff05::1:3"
SERVES = PortSecurity(serves=frozenset({Serves.DHCP}))


def asks(
    message: bytes,
    *,
    source: str = NOBODY,
    target: str = EVERYBODY,
    to: str = BROADCAST,
    ports: tuple[int, int] = (68, 67),
) -> bytes:
    return V4.out(UDP, udp(*ports, message), source=source, target=target, to=to)


def answers(
    message: bytes, *, target: str = EVERYBODY, to: str = BROADCAST, ports: tuple[int, int] = (67, 68)
) -> bytes:
    return V4.into(UDP, udp(*ports, message), target=target, to=to)


def solicits(
    *, source: str = LINK6, target: str = SERVERS6, ports: tuple[int, int] = (546, 547), kind: int = 1
) -> bytes:
    return V6.out(UDP, udp(*ports, dhcpv6(kind, MAC)), source=source, target=target, to=group_mac(target))


def advertises(*, source: str = PEER_LINK6, target: str = LINK6, ports: tuple[int, int] = (547, 546)) -> bytes:
    return V6.into(UDP, udp(*ports, dhcpv6(2, MAC)), source=source, target=target)


REQUEST, REPLY = dhcp(1, MAC), dhcp(2, MAC, yours=VM)

CLIENT = [
    case("discover", sent(asks(REQUEST))),
    case("request by broadcast with its address", sent(asks(dhcp(1, MAC, kind=3), source=VM))),
    case("offer by broadcast", came(answers(REPLY))),
    case("offer to its address", came(answers(REPLY, target=VM, to=MAC))),
    case("offer to its address in a broadcast frame", came(answers(REPLY, target=VM))),
    case("solicit", sent(solicits())),
    case("solicit to the site's servers", sent(solicits(target=SITE_SERVERS6))),
    case("advertise", came(advertises())),
]
"""Passes whatever policy says, and opens no flow."""

FORGED = [
    case("discover with a foreign chaddr", sent(asks(dhcp(1, PEER_MAC)), Reason.FOREIGN_DHCP)),
    case("request with a foreign chaddr", sent(asks(dhcp(1, PEER_MAC, kind=3), source=VM), Reason.FOREIGN_DHCP)),
    case("discover with a chaddr of another length", sent(asks(dhcp(1, MAC, hlen=16)), Reason.FOREIGN_DHCP)),
    case("a client that answers", sent(asks(dhcp(2, MAC)), Reason.FOREIGN_DHCP)),
    case("unicast request with a foreign chaddr", sent(asks(dhcp(1, PEER_MAC, kind=3), source=VM, target=PEER, to=PEER_MAC),
         Reason.FOREIGN_DHCP)),
    case("discover from another's address", sent(asks(REQUEST, source=PEER), Reason.FOREIGN_IP)),
    case("discover from nowhere to one station's address", sent(asks(REQUEST, target=PEER), Reason.FOREIGN_IP)),
    case("discover from nowhere in a frame to one station", sent(asks(REQUEST, to=PEER_MAC), Reason.FOREIGN_IP)),
    case("discover from nowhere in a frame to a group", sent(asks(REQUEST, to="01:00:5e:00:00:01"), Reason.FOREIGN_IP)),
    case("from nowhere to another port", sent(asks(REQUEST, ports=(68, 69)), Reason.FOREIGN_IP)),
    case("from nowhere from another port", sent(asks(REQUEST, ports=(69, 67)), Reason.FOREIGN_IP)),
    case("from nowhere by TCP", sent(V4.out(TCP, tcp(68, 67, SYN), source=NOBODY, target=EVERYBODY, to=BROADCAST), Reason.FOREIGN_IP)),
    case("offer to another by broadcast", came(answers(dhcp(2, OTHER_MAC)), Reason.FOREIGN_DHCP)),
    case("offer about another to the VM's address", came(answers(dhcp(2, OTHER_MAC), target=VM, to=MAC), Reason.FOREIGN_DHCP)),
    case("solicit from another's address", sent(solicits(source=PEER_LINK6), Reason.FOREIGN_IP)),
    case("solicit from ::", sent(solicits(source="::"), Reason.FOREIGN_IP)),
]  # fmt: skip

SERVED = [
    case("offer", sent(asks(dhcp(2, PEER_MAC), source=VM, target=PEER, to=PEER_MAC, ports=(67, 68)), Reason.DHCP_SERVER)),
    case("offer by broadcast", sent(asks(dhcp(2, PEER_MAC), source=VM, ports=(67, 68)), Reason.DHCP_SERVER)),
    case("acknowledgement", sent(asks(dhcp(2, PEER_MAC, kind=5), source=VM, ports=(67, 68)), Reason.DHCP_SERVER)),
    case("answer that calls itself a question", sent(asks(dhcp(1, PEER_MAC), source=VM, ports=(67, 68)), Reason.DHCP_SERVER)),
    case("answer from another port", sent(asks(dhcp(2, PEER_MAC), source=VM, ports=(1067, 68)), Reason.DHCP_SERVER)),
    case("answer about itself", sent(asks(REPLY, source=VM, ports=(67, 68)), Reason.DHCP_SERVER)),
    case("DHCPv6 advertise", sent(solicits(target=PEER_LINK6, ports=(547, 546)), Reason.DHCP_SERVER)),
    case("DHCPv6 advertise from another port", sent(solicits(target=PEER_LINK6, ports=(1547, 546), kind=2), Reason.DHCP_SERVER)),
    case("DHCPv6 reply from another port", sent(solicits(target=PEER_LINK6, ports=(1547, 546), kind=7), Reason.DHCP_SERVER)),
    case("DHCPv6 reconfigure from another port", sent(solicits(target=PEER_LINK6, ports=(1547, 546), kind=10), Reason.DHCP_SERVER)),
    case("DHCPv6 reply from its address", sent(solicits(source=VM6, target=PEER6, ports=(547, 546)), Reason.DHCP_SERVER)),
]  # fmt: skip

BY_POLICY = [
    case("unicast request", sent(asks(dhcp(1, MAC, kind=3), source=VM, target=PEER, to=PEER_MAC))),
    case("a relay's message", sent(asks(dhcp(1, PEER_MAC), source=VM, target=PEER, to=PEER_MAC, ports=(67, 67)))),
    case("a relay's message to the VM", came(answers(dhcp(2, OTHER_MAC), target=VM, to=MAC, ports=(67, 67)))),
    case("a question to the VM", came(answers(dhcp(1, PEER_MAC), target=VM, to=MAC, ports=(68, 67)))),
    case("DHCPv6 from its global address", sent(solicits(source=VM6))),
    case("DHCPv6 to one station", sent(solicits(target=PEER_LINK6))),
    case("DHCPv6 from beyond the link", came(advertises(source=PEER6))),
    case("DHCPv6 to its global address", came(advertises(target=VM6))),
    case("from port 67 to another", sent(asks(REPLY, source=VM, target=PEER, to=PEER_MAC, ports=(67, 1068)))),
    case("from port 53", sent(V4.out(UDP, udp(53, 1000)))),
    case("from port 53, to the VM", came(V4.into(UDP, udp(53, 1000)))),
    case("from port 67, to the VM", came(V4.into(UDP, udp(67, 1000)))),
    case("from port 547, to the VM", came(V6.into(UDP, udp(547, 1000)))),
    case("from port 5353, to everybody", came(V4.into(UDP, udp(5353, 5353), target="224.0.0.251", to=BROADCAST))),
]  # fmt: skip
"""Whatever it looks like: no guard settles it."""


def denied(rows: list[Case]) -> list[Case]:
    return [
        case(row.says, *((sent if s.direction is OUT else came)(s.frame, Reason.DENIED) for s in row.steps))
        for row in rows
    ]


def one_flow(rows: list[Case]) -> list[Case]:
    return [case(row.says, *row.steps, flows=1, policies=OPEN) for row in rows]


AS_SERVER = [case(row.says, *(sent(step.frame) for step in row.steps)) for row in SERVED]


@pytest.mark.parametrize("policies", [CLOSED, STANDARD, OPEN], ids=["nothing accepted", "something", "everything"])
@pytest.mark.parametrize("row", CLIENT, ids=lambda row: row.says)
def test_a_client_is_not_policys_business(stage: Stage, row: Case, policies: tuple) -> None:
    play(stage, *under(Setup(policies=policies), [row]))


@pytest.mark.parametrize("policies", [CLOSED, OPEN], ids=["nothing accepted", "everything"])
@pytest.mark.parametrize("row", [*FORGED, *SERVED], ids=lambda row: row.says)
def test_forged(stage: Stage, row: Case, policies: tuple) -> None:
    play(stage, *under(Setup(policies=policies), [row]))


@pytest.mark.parametrize("row", one_flow(BY_POLICY), ids=lambda row: row.says)
def test_policy_accepts_it(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("row", denied(BY_POLICY), ids=lambda row: row.says)
def test_policy_denies_it(stage: Stage, row: Case) -> None:
    play(stage, *under(Setup(policies=CLOSED), [row]))
    play(stage, row)


def test_an_appointed_server_is_not_policys_business(stage: Stage) -> None:
    for row in AS_SERVER:
        play(stage, *under(Setup(policies=CLOSED, security=SERVES), [row]))
    asked = V4.into(UDP, udp(68, 67, dhcp(1, PEER_MAC)), source="0.0.0.0", target="255.255.255.255", to=BROADCAST)  # noqa: S104
    play(stage, *under(Setup(policies=CLOSED, security=SERVES), [case("who asks is heard", came(asked))]))
    play(stage, *under(Setup(policies=CLOSED), [case("by nobody else", came(asked, Reason.DENIED))]))


def test_an_appointed_server_is_a_client_like_others(stage: Stage) -> None:
    for row in CLIENT:
        play(stage, *under(Setup(policies=CLOSED, security=SERVES), [row]))


@pytest.mark.parametrize("keep", [0, 1, 20, 28, 33])
def test_a_message_cut_short_is_nobodys(stage: Stage, keep: int) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    fate = gate.send(OUT, asks(REQUEST[:keep]))
    assert fate.reason in {Reason.MALFORMED, Reason.FOREIGN_DHCP}
    assert not gate.send(OUT, asks(REQUEST[:keep], source=VM)).passed


@pytest.mark.parametrize("cut", [8, 16, 40])
@pytest.mark.parametrize("beyond", [b"", dhcp(1, MAC), dhcp(2, MAC)], ids=["nothing", "question", "answer"])
def test_what_a_first_fragment_leaves_open_is_forged(stage: Stage, cut: int, beyond: bytes) -> None:
    """``beyond`` stands behind the datagram in the frame: it is none of the message."""
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for number, (ports, message, reason) in enumerate((
        ((1067, 68), dhcp(2, OTHER_MAC), Reason.DHCP_SERVER), ((68, 67), dhcp(1, OTHER_MAC), Reason.FOREIGN_DHCP),
    )):  # fmt: skip
        whole = V4.packet(VM, PEER, UDP, udp(*ports, message), identifier=number)
        first, rest = (V4.frame(part, source=MAC, target=PEER_MAC) for part in pieces(whole, cut))
        assert gate.send(OUT, first + beyond).reason is reason
        assert gate.send(OUT, rest).reason is Reason.FRAGMENT


def test_forged_answers_while_the_vm_waits_for_one(stage: Stage) -> None:
    gate = stage.set(Setup(policies=STANDARD).world(), PATH)
    assert gate.send(OUT, asks(REQUEST)).passed
    assert gate.send(IN, answers(dhcp(2, OTHER_MAC))).reason is Reason.FOREIGN_DHCP
    assert gate.send(IN, V4.into(UDP, udp(67, 1000, REPLY))).reason is Reason.DENIED
    assert gate.send(IN, answers(REPLY)).passed
    assert gate.flows.count() == 0


def test_an_answer_needs_its_question(stage: Stage) -> None:
    gate = stage.set(Setup(policies=STANDARD).world(), PATH)
    assert gate.send(IN, V4.into(UDP, udp(53, 1000))).reason is Reason.DENIED
    assert gate.send(OUT, V4.out(UDP, udp(1000, 53))).passed
    assert gate.send(IN, V4.into(UDP, udp(53, 1000))).passed
    assert gate.send(IN, V4.into(UDP, udp(53, 1001))).reason is Reason.DENIED
    assert gate.send(IN, V4.into(UDP, udp(53, 1000), source=STRANGER)).reason is Reason.DENIED


@pytest.mark.parametrize("frame", [asks(REQUEST), solicits()], ids=["DHCP", "DHCPv6"])
def test_a_flood_of_questions_counts_as_new_flows(stage: Stage, frame: bytes) -> None:
    gate = stage.set(Setup(policies=CLOSED, security=PortSecurity(new_flows_per_second=20)).world(), PATH)
    began = time.monotonic()
    fates = [gate.send(OUT, frame) for _ in range(200)]
    seconds = time.monotonic() - began
    assert all(fate.passed for fate in fates[:20])
    assert sum(fate.passed for fate in fates) <= 20 * (2 + seconds)
    assert {fate.reason for fate in fates if not fate.passed} == {Reason.FLOW_RATE}
    assert gate.flows.count() == 0
