"""Which limit a silent flow has: as the gate says it, flow by flow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serai.datapath.idle import idle_class
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.model.flow import IDLE_CLASSES
from serai.model.ports import ICMP, ICMPV6, SCTP, TCP, UDP

FIN, RST = 0x01, 0x04
flags = st.sampled_from([0, 0x02, 0x10, FIN, RST, FIN | RST, FIN | 0x10, 0xFF])
seen = st.tuples(
    st.sampled_from([ICMP, ICMPV6, SCTP, TCP, UDP, 0, 47, 255]), flags, flags, st.integers(0, 1), st.integers(0, 1)
)


def expected(protocol: int, one: int, other: int, out: int, back: int) -> str:
    if protocol in {ICMP, ICMPV6}:
        return "ICMP"
    if protocol not in {TCP, SCTP}:
        return "OTHER"
    if (one | other) & RST or one & other & FIN:
        return "TCP_CLOSING"
    if (one | other) & FIN:
        return "TCP_HALF_CLOSED"
    if not out or not back:
        return "TCP_OPENING"
    return "TCP_ESTABLISHED" if protocol == TCP else "SCTP_ESTABLISHED"


@given(st.lists(seen, max_size=40))
def test_each_flow_has_the_limit_of_its_state(rows: list[tuple[int, int, int, int, int]]) -> None:
    keys, flows = np.zeros(len(rows), FLOW_KEY), np.zeros(len(rows), FLOW)
    keys["protocol"] = [row[0] for row in rows]
    flows["tcp_flags"] = np.array([row[1:3] for row in rows], "u1").reshape(-1, 2)
    flows["packets"] = np.array([row[3:5] for row in rows], "<u8").reshape(-1, 2)
    found = [IDLE_CLASSES[place] for place in idle_class(keys, flows).tolist()]
    assert found == [expected(*row) for row in rows]
