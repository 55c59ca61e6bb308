from __future__ import annotations

import struct

from bench import peers, traffic
from bench.topology import End, Pair

CLIENT = End(address="10.0.0.1", mac="52:54:00:00:00:01", tap="tap0", descriptor=-1)
SERVER = End(address="10.0.0.2", mac="52:54:00:00:00:02", tap="tap1", descriptor=-1)


def test_a_frame_of_64_bytes() -> None:
    frame = traffic.udp_frame(Pair(a=CLIENT, b=SERVER), ports=(1024, 53))
    assert len(frame) == 64 - 4, "a tap carries no check sum"
    assert frame[:14].hex() == "525400000002" + "525400000001" + "0800"
    total = sum(struct.unpack("!10H", frame[14:34]))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF, "the header's check sum is right"
    assert int.from_bytes(frame[16:18], "big") == len(frame) - 14
    assert struct.unpack("!HHHH", frame[34:42]) == (1024, 53, len(frame) - 34, 0)


def test_every_kind_has_a_number_of_operations() -> None:
    assert traffic.OPERATIONS.keys() == set(traffic.KINDS)


def test_a_bridge_of_taps_has_two_chains_a_tap_and_goes_through_all_of_them() -> None:
    lines = list(peers.chains(["tap0", "tap1"]))
    jumps = [line for line in lines if line.startswith("-A sg-chain")]
    assert [line.split()[-1] for line in jumps] == ["i-tap0", "o-tap0", "i-tap1", "o-tap1", "ACCEPT"]
    defined = {line.split()[0][1:] for line in lines if line.startswith(":")}
    assert defined == {"sg-chain", "i-tap0", "o-tap0", "i-tap1", "o-tap1"}
    assert [line for line in lines if line.startswith("-A i-tap1")] == [
        "-A i-tap1 -m state --state RELATED,ESTABLISHED -j RETURN",
        "-A i-tap1 -m set --match-set peers src -j RETURN",
        "-A i-tap1 -m state --state INVALID -j DROP",
        "-A i-tap1 -j DROP",
    ]
