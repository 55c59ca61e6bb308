"""Messages between agents and controllers: there and back, and nothing but a MessageError for all that is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.model.host_facts import MOST_FEATURES, Cpu, HostFacts, Nic
from serai.wire import remote
from serai.wire.remote import MessageError, Sight

DIGEST = bytes(range(32))
SIGHT = Sight(macs=["52:54:00:00:00:01"], vnics=[1, 2**64 - 1])
FACTS = HostFacts(
    cpu=Cpu(arch="x86_64", vendor="Intel", model="Broadwell", family=6, number=79, features=["aes", "avx"]),
    memory=64000, nics=[Nic(name="ens1", speed=25000), Nic(name="ens2")], kernel="6.8.0", features=["tcx"],
    agent="0.1.0", libvirt="9.0.0", qemu="7.2.0",
)  # fmt: skip
FROM_AGENT: list[remote.FromAgent] = [
    remote.Hello(version=1, agent="0.1", epoch=0, term=5, digest=DIGEST, parts=[DIGEST], sight=SIGHT, checkpoint="c"),
    remote.Hello(version=1, agent="", epoch=2**63, term=0, digest=None, parts=[], sight=Sight(macs=[], vnics=[])),
    remote.Seen(sight=SIGHT),
    remote.Described(facts=FACTS),
    remote.Described(facts=HostFacts(cpu=Cpu(arch="x"), memory=0, nics=[], kernel="", features=[], agent="")),
    remote.Held(digest=DIGEST, answers=3),
    remote.Held(digest=None, refused="no room"),
    remote.Renew(csr="-----"),
    remote.Entering(
        number=1,
        domain="d",
        cards=[],
        incoming=False,
        definition=DIGEST,
        boots=[remote.Boot(what="kernel", path="/k", digest=DIGEST), remote.Boot(what="disk vda", why="gone")],
    ),
]
FROM_CONTROLLER: list[remote.FromController] = [
    remote.Welcome(version=1, epoch=3, term=4, time=1.5, checkpoint="x"),
    remote.Witness(checkpoint="y"),
    remote.Whole(number=1, term=4, revision=9, ruleset=b"\0\xff"),
    remote.Difference(number=2, term=4, revision=10, delta=b""),
    remote.Renewed(certificate="PEM"),
    remote.Elsewhere(url="wss://c2:8744"),
    remote.Fenced(epoch=9),
    remote.Entry(answers=1, vm="", objections=["no"], warnings=[], look=True, definition=DIGEST),
]
ENDS: list[tuple[Callable[[bytes], Any], list[Any], list[Any]]] = [
    (remote.decode_from_agent, list(FROM_AGENT), list(FROM_CONTROLLER)),
    (remote.decode_from_controller, list(FROM_CONTROLLER), list(FROM_AGENT)),
]


@pytest.mark.parametrize(("decode", "own", "others"), ENDS)
def test_each_end_reads_what_the_other_says_and_nothing_else(
    decode: Callable[[bytes], Any], own: list[Any], others: list[Any]
) -> None:
    for message in own:
        assert decode(remote.encode(message)) == message
    for message in others:
        with pytest.raises(MessageError):
            decode(remote.encode(message))


@pytest.mark.parametrize("decode", [remote.decode_from_agent, remote.decode_from_controller])
@given(raw=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_message_or_an_error(decode: Callable[[bytes], Any], raw: bytes) -> None:
    try:
        message = decode(raw)
    except MessageError:
        return
    assert isinstance(message, remote.Message)


@pytest.mark.parametrize(("decode", "own"), [(decode, own) for decode, own, _ in ENDS])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_spoiled_message_is_a_message_or_an_error(
    decode: Callable[[bytes], Any], own: list[Any], data: st.DataObject
) -> None:
    raw = bytearray(remote.encode(data.draw(st.sampled_from(own))))
    chance = random.Random(data.draw(st.integers()))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(3):
            case 0:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del raw[at : at + chance.randint(1, 8)]
            case _:
                raw[at:at] = chance.randbytes(chance.randint(1, 8))
    try:
        message = decode(bytes(raw))
    except MessageError:
        return
    assert isinstance(message, remote.Message)


def plain(message: remote.FromAgent | remote.FromController, **otherwise: Any) -> bytes:
    fields = msgspec.msgpack.decode(remote.encode(message))
    return msgspec.msgpack.encode({**fields, **otherwise})


@pytest.mark.parametrize(
    "raw",
    [
        plain(FROM_AGENT[0], host="b"),  # who one is is not for messages to say
        plain(FROM_AGENT[0], digest=DIGEST[:-1]),
        plain(FROM_AGENT[0], parts=[DIGEST[:-1]]),
        plain(FROM_AGENT[0], parts=[DIGEST] * (remote.PARTS_LIMIT + 1)),
        plain(FROM_AGENT[0], epoch=-1),
        plain(FROM_AGENT[0], version="1"),
        plain(FROM_AGENT[2], sight={"macs": ["52:54:00:00:00:0G"], "vnics": []}),
        plain(FROM_AGENT[2], sight={"macs": ["52:54:00:00:00:01\n"], "vnics": []}),
        plain(FROM_AGENT[2], sight={"macs": [], "vnics": [0]}),
        plain(FROM_AGENT[2], sight={"macs": []}),
        plain(FROM_AGENT[3], refused="x" * 4097),
        plain(FROM_AGENT[5], csr="x" * 4097),
        msgspec.msgpack.encode({"say": "goodbye"}),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([1]),
        b"\x81" * 100_000,
        b"\x91" * 100_000,
        remote.encode(FROM_AGENT[2]) * 2,
    ],
)
def test_what_is_not_quite_a_message_is_none(raw: bytes) -> None:
    with pytest.raises(MessageError):
        remote.decode_from_agent(raw)


def test_the_longest_hello_fits() -> None:
    sight = Sight(macs=["52:54:00:00:00:01"] * 8192, vnics=[2**64 - 1] * 8192)
    hello = remote.Hello(
        version=1, agent="", epoch=0, term=0, digest=DIGEST, parts=[DIGEST] * remote.PARTS_LIMIT, sight=sight
    )  # fmt: skip
    assert len(remote.encode(hello)) < remote.AGENT_LIMIT


def test_what_a_host_may_say_it_is_made_of_fits_into_one_message() -> None:
    most = msgspec.structs.replace(FACTS.cpu, features=["f" * 128] * MOST_FEATURES)
    assert len(remote.encode(remote.Described(facts=msgspec.structs.replace(FACTS, cpu=most)))) < remote.AGENT_LIMIT
    beyond = msgspec.structs.replace(FACTS.cpu, features=["f"] * (MOST_FEATURES + 1))
    with pytest.raises(MessageError):
        remote.decode_from_agent(remote.encode(remote.Described(facts=msgspec.structs.replace(FACTS, cpu=beyond))))
