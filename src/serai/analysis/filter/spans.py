"""Values as the numbers that lie between a first and a last one, both included."""

from __future__ import annotations

from serai.analysis.filter.kinds import Operator
from serai.model.address import BITS, MAPPED, Prefix, pack, packed_length
from serai.model.policy import PortRange

Span = tuple[int, int]
"""Empty where the first is larger than the last."""

_MAPPED = int(MAPPED.network_address), int(MAPPED.broadcast_address)


def address_spans(prefix: Prefix) -> list[Span]:
    """Return the addresses of a prefix, in the form of 128 bits.

    An IPv6 prefix holds no IPv4 address, and an end that was not read (``::``) is in no prefix but ``::`` itself.
    """
    first, length = int.from_bytes(pack(prefix.network_address)), packed_length(prefix)
    last = first + (1 << BITS - length) - 1
    if length == BITS:
        return [(first, last)]
    first = max(first, 1)
    if prefix.version == 6 and first < _MAPPED[0] and last >= _MAPPED[1]:  # noqa: PLR2004 - of IP
        return [(first, _MAPPED[0] - 1), (_MAPPED[1] + 1, last)]
    return [(first, last)]


def port_span(operator: Operator, ports: PortRange) -> Span:
    """Return the ports that compare so with ``ports``. Where there is no port (0), it is neither small nor large."""
    match operator:
        case Operator.LESS:
            return 1, max(ports.first - 1, 0)
        case Operator.AT_MOST:
            return 1, ports.first
        case Operator.MORE:
            return ports.first + 1, 0xFFFF
        case Operator.AT_LEAST:
            return max(ports.first, 1), 0xFFFF
        case _:
            return ports.first, ports.last
