"""What ends can open to others, as rows that a person can read: equal over both versions of IP is told once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from serai.policy.questions.blocks import Block
from serai.policy.questions.classes import Class
from serai.policy.questions.names import Part
from serai.policy.questions.portset import PortSet

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Each of the sources can open the ports to each of the targets."""

    routing_domain: str
    source: tuple[Part, ...]
    target: tuple[Part, ...]
    ports: PortSet
    versions: tuple[int, ...]
    """Of IP, over which it is so."""


def rows(
    routing_domain: str,
    blocks: Iterable[Block[K]],
    tell: Callable[[Sequence[Class[K]]], tuple[Part, ...]],
    version: Callable[[K], int],
) -> tuple[Row, ...]:
    """Name both sides of every block, and join what differs in nothing but the version."""
    found: dict[object, Row] = {}
    for block in blocks:
        one = Row(
            routing_domain=routing_domain,
            source=_shorter(tell, block.sources, block.targets),
            target=_shorter(tell, block.targets, block.sources),
            ports=block.ports,
            versions=(version(block.sources[0].key),),
        )
        names = tuple(tuple((part.name, part.state) for part in side) for side in (one.source, one.target))
        # One name may stand for different ends of one version: then they are not the same row.
        key = names, block.ports
        before = found.get(key)
        if before and not set(before.versions) & set(one.versions):
            found[key] = _joined(before, one)
        else:
            found[key if before is None else (key, len(found))] = one
    return tuple(found.values())


def _shorter(
    tell: Callable[[Sequence[Class[K]]], tuple[Part, ...]], ends: Sequence[Class[K]], facing: Sequence[Class[K]]
) -> tuple[Part, ...]:
    """Leave a vNIC out that only faces itself, unless that takes more words."""
    whole = tell(ends)
    alone = {end.vnic.id for each in facing for end in each.endpoints}
    if len(alone) > 1 or any(each.atoms for each in facing):
        return whole
    others = [each for each in ends if {end.vnic.id for end in each.endpoints} != alone]
    rest = tell(others)
    return rest if len(rest) < len(whole) else whole


def _joined(one: Row, other: Row) -> Row:
    def both(ours: Iterable[Part], theirs: Iterable[Part]) -> tuple[Part, ...]:
        return tuple(mine.joined(other) for mine, other in zip(ours, theirs, strict=True))

    return dataclasses.replace(
        one,
        source=both(one.source, other.source),
        target=both(one.target, other.target),
        versions=tuple(sorted({*one.versions, *other.versions})),
    )
