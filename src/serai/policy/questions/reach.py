"""Who can reach whom over what: all packets at once, by the algebra of what both sides accept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.questions.blocks import blocks
from serai.policy.questions.choice import EVERYBODY, Choice
from serai.policy.questions.classes import Class, Endpoint, domains, partition
from serai.policy.questions.names import Names, Part
from serai.policy.questions.outside import Atom, atoms
from serai.policy.questions.rows import Row, rows
from serai.policy.questions.sides import Seen, Sides


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Who can open what to whom inside one routing domain. Whatever is in no row is denied."""

    routing_domain: str
    rows: tuple[Row, ...]
    versions: tuple[int, ...]
    """Of IP, that any VM there has."""
    meet: bool
    """Any of the sources and any of the targets are there."""
    observed: tuple[str, ...]
    """Those that are judged as ever, but lose no packet by it."""
    isolated: tuple[str, ...]
    """Those of which no policy is asked, but the site's quarantine."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A routing domain, taken apart."""

    endpoints: Sequence[tuple[Seen, Endpoint]]
    atoms: Sequence[tuple[Seen, Atom]]

    @classmethod
    def of(cls, sides: Sides, endpoints: Sequence[Endpoint], *choices: Choice) -> Place:
        """Take a routing domain apart as policies do, and as the choices ask."""
        seen = [(sides.of_vnic(end.vm, end.vnic, end.address), end) for end in endpoints]
        cuts = sides.cuts({one for one, _ in seen}).union(*(choice.cuts for choice in choices))
        outside = atoms(cuts, [end.address for end in endpoints])
        return cls(endpoints=seen, atoms=[(sides.of_outside(atom.prefix), atom) for atom in outside])

    def classes(self, choice: Choice) -> list[Class[Seen]]:
        """Return the classes of those who are chosen."""
        return partition(
            (pair for pair in self.endpoints if choice.has(pair[1].vm, pair[1].vnic, pair[1].address)),
            (pair for pair in self.atoms if choice.has_outside(pair[1].prefix)),
        )

    def teller(self) -> Callable[[Sequence[Class[Seen]]], tuple[Part, ...]]:
        """Return what names classes."""
        names = {
            version: Names(
                (end for seen, end in self.endpoints if seen.version == version),
                (atom for seen, atom in self.atoms if seen.version == version),
            )
            for version in (4, 6)
        }

        def tell(found: Sequence[Class[Seen]]) -> tuple[Part, ...]:
            ends = (end for each in found for end in each.endpoints)
            return names[found[0].key.version].tell(ends, (atom for each in found for atom in each.atoms))

        return tell


def reach(world: World, source: Choice = EVERYBODY, target: Choice = EVERYBODY) -> tuple[Reach, ...]:
    """Return what the policies in force let ``source`` open to ``target``, by routing domain.

    It is what policies accept: what gates refuse whatever policies say (tunnels) is not taken off.
    """
    sides = Sides(world)
    return tuple(_reach(sides, domain, endpoints, source, target) for domain, endpoints in domains(world).items())


def _reach(sides: Sides, domain: str, endpoints: Sequence[Endpoint], source: Choice, target: Choice) -> Reach:
    place = Place.of(sides, endpoints, source, target)
    sources, targets = place.classes(source), place.classes(target)
    found = blocks(sources, targets, sides.accepts)
    chosen = {end.vm.path: end.vm for end in endpoints if _has(source, end) or _has(target, end)}
    return Reach(
        routing_domain=domain,
        rows=rows(domain, found, place.teller(), lambda seen: seen.version),
        versions=tuple(sorted({end.address.version for end in endpoints})),
        meet=bool(sources and targets),
        observed=tuple(path for path, vm in chosen.items() if vm.mode is Mode.OBSERVE),
        isolated=tuple(path for path, vm in chosen.items() if vm.mode is Mode.ISOLATE),
    )


def _has(choice: Choice, end: Endpoint) -> bool:
    return choice.has(end.vm, end.vnic, end.address)
