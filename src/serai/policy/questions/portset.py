"""Sets of what connections are opened to: protocols and ports, and their algebra.

Only what opens a connection counts. Of ICMP that is the echo request, in each version its own: it is kept under
``ECHO`` for both. Protocols without ports are in the set or not.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Sequence

from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import ECHO_REQUEST, ICMP, ICMPV6, TCP, UDP, WITH_PORTS, format_ports
from serai.model.records import Step
from serai.policy.flatten import DecisionList, Interval

ECHO = ICMP
"""Stands for the echo request of the version at hand."""
ECHO_OF = {4: ICMP, 6: ICMPV6}
"""The protocol that carries a version's echo request."""

_LAST_PORT = 65535
_Ranges = tuple[tuple[int, int], ...]
"""First and last ports: in order, disjoint, and with something left out between them."""
_ALL: _Ranges = ((0, _LAST_PORT),)
_ESP = 50
_FAMILIAR = ((TCP, 443), (TCP, 80), (TCP, 22), (UDP, 53))
"""What an example is taken from first."""


@dataclasses.dataclass(frozen=True, slots=True)
class PortSet:
    """Protocols and ports. Equal sets are equal values."""

    others: bool
    """The protocols that are not named are in the set, with all their ports."""
    named: tuple[tuple[int, _Ranges], ...] = ()
    """By protocol, in order: those that differ from the others."""

    def __bool__(self) -> bool:
        return self.others or bool(self.named)

    def __and__(self, other: PortSet) -> PortSet:
        return _combine(self, other, operator.and_)

    def __or__(self, other: PortSet) -> PortSet:
        return _combine(self, other, operator.or_)

    def __sub__(self, other: PortSet) -> PortSet:
        return _combine(self, other, operator.gt)

    def __contains__(self, service: tuple[int, int]) -> bool:
        protocol, port = service
        if protocol in ECHO_REQUEST:
            return port == ECHO_REQUEST[protocol] and bool(self._of(ECHO))
        return any(first <= port <= last for first, last in self._of(protocol))

    def example(self, version: int) -> tuple[int, int]:
        """Return one protocol and port of the set, as a packet of that version of IP has them.

        Raises:
            ValueError: the set is empty.
        """
        familiar = next((service for service in _FAMILIAR if service in self), None)
        if familiar:
            return familiar
        for protocol, ranges in sorted(self.named, key=lambda named: named[0] not in WITH_PORTS):
            if ranges and protocol == ECHO:
                return ECHO_OF[version], ECHO_REQUEST[ECHO_OF[version]]
            if ranges:
                first, last = ranges[0]
                return protocol, min(max(first, 1), last) if protocol in WITH_PORTS else 0
        if not self.others:
            message = "an empty set has no example"
            raise ValueError(message)
        taken = {protocol for protocol, _ in self.named} | set(ECHO_REQUEST)
        free = (p for p in (*range(_ESP, ANY_PROTOCOL), *range(_ESP)) if p not in taken)
        return next(free), 0

    def texts(self, versions: Iterable[int]) -> tuple[str, ...]:
        """Write the set in the grammar of ports; ``others`` has to be told beside it, by ``exceptions``."""
        if self.others:
            return ("any",)
        return tuple(text for protocol, ranges in self.named for text in _texts(protocol, ranges, versions))

    def exceptions(self, versions: Iterable[int]) -> tuple[str, ...]:
        """Write what ``texts`` says too much."""
        return (EVERYTHING - self).texts(versions) if self.others else ()

    def _of(self, protocol: int) -> _Ranges:
        return dict(self.named).get(protocol, _ALL if self.others else ())


NOTHING = PortSet(others=False)
EVERYTHING = PortSet(others=True)


def accepted(decisions: DecisionList, version: int) -> PortSet:
    """What a decision list in force accepts of one version of IP."""
    rest = decisions[ANY_PROTOCOL]
    sets = {protocol: _accepted(decisions.get(protocol, rest)) for protocol in {*decisions, *WITH_PORTS}}
    echo = decisions.get(ECHO_OF[version], rest)
    return _canonical(sets, _accepted(echo), version, others=_holds(_accepted(rest), 0))


def opened(ports: Iterable[PortRange], version: int) -> PortSet:
    """What packets of one version of IP can open of ``ports``; none named: everything."""
    ranges = tuple(ports)
    if not ranges:
        return EVERYTHING
    found: PortSet = NOTHING
    for each in ranges:
        if each.protocol == ANY_PROTOCOL:
            found = EVERYTHING
            continue
        one: _Ranges = ((each.first, each.last),)
        echo = one if each.protocol == ECHO_OF[version] else ()
        found |= _canonical({each.protocol: one}, echo, version, others=False)
    return found


def atoms(sets: Sequence[PortSet]) -> dict[int, PortSet]:
    """Cut all ports into parts that each of ``sets`` has as a whole or not at all.

    Returns:
        The parts by the sets that have them: bit n stands for set n. What no set has is left out.
    """
    others = sum(1 << number for number, each in enumerate(sets) if each.others)
    protocols = sorted({protocol for each in sets for protocol, _ in each.named})
    ranges: dict[int, dict[int, list[tuple[int, int]]]] = {others: {}}
    for protocol in protocols:
        turns: dict[int, int] = {}
        for number, each in enumerate(sets):
            for first, last in each._of(protocol):  # noqa: SLF001 (its own)
                turns[first] = turns.get(first, 0) ^ 1 << number
                turns[last + 1] = turns.get(last + 1, 0) ^ 1 << number
        edges, bits = sorted({0, *turns}), 0
        for first, following in zip(edges, [*edges[1:], _LAST_PORT + 1], strict=True):
            bits ^= turns.get(first, 0)
            if first < following:
                ranges.setdefault(bits, {}).setdefault(protocol, []).append((first, following - 1))
    return {
        bits: _made({p: _joined(mine.get(p, [])) for p in protocols}, others=bits == others)
        for bits, mine in ranges.items()
        if bits
    }


def _canonical(sets: dict[int, _Ranges], echo: _Ranges, version: int, *, others: bool) -> PortSet:
    whole = {
        protocol: ranges if protocol in WITH_PORTS else _whole(_holds(ranges, 0))
        for protocol, ranges in sets.items()
        if protocol != ANY_PROTOCOL and protocol not in ECHO_REQUEST
    }
    whole[ECHO] = _whole(_holds(echo, ECHO_REQUEST[ECHO_OF[version]]))
    return _made(whole, others=others)


def _made(sets: dict[int, _Ranges], *, others: bool) -> PortSet:
    same = _whole(others)
    return PortSet(others, tuple(sorted((p, ranges) for p, ranges in sets.items() if ranges != same)))


def _whole(inside: bool) -> _Ranges:  # noqa: FBT001 (there is nothing else to say)
    return _ALL if inside else ()


def _holds(ranges: _Ranges, port: int) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _accepted(intervals: tuple[Interval, ...]) -> _Ranges:
    ends = [interval.first - 1 for interval in intervals[1:]] + [_LAST_PORT]
    pairs = zip(intervals, ends, strict=True)
    return _joined((interval.first, last) for interval, last in pairs if interval.said.step is Step.ACCEPT)


def _combine(one: PortSet, other: PortSet, keep: Callable[[bool, bool], bool]) -> PortSet:
    protocols = {protocol for protocol, _ in (*one.named, *other.named)}
    sets = {p: _combined(one._of(p), other._of(p), keep) for p in protocols}  # noqa: SLF001 (its own)
    return _made(sets, others=keep(one.others, other.others))


def _combined(one: _Ranges, other: _Ranges, keep: Callable[[bool, bool], bool]) -> _Ranges:
    starts = {0, *(edge for first, last in (*one, *other) for edge in (first, last + 1))}
    edges = sorted(edge for edge in starts if edge <= _LAST_PORT)
    pairs = zip(edges, [*edges[1:], _LAST_PORT + 1], strict=True)
    return _joined((first, end - 1) for first, end in pairs if keep(_holds(one, first), _holds(other, first)))


def _joined(ranges: Iterable[tuple[int, int]]) -> _Ranges:
    """Make one of ranges, in order, that touch each other."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] == first - 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def _texts(protocol: int, ranges: _Ranges, versions: Iterable[int]) -> Iterable[str]:
    if protocol == ECHO:
        return [format_ports(PortRange(protocol=ECHO_OF[version])) for version in sorted(versions) if ranges]
    return [format_ports(PortRange(protocol=protocol, first=first, last=last)) for first, last in ranges]
