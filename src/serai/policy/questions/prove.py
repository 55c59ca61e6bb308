"""Are invariants kept? Proven over all ends, protocols and ports, or refuted with one connection."""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from serai.model.address import LINK_LOCAL, Address
from serai.model.invariant import Claim, Invariant
from serai.model.inventory import Vnic
from serai.model.policy import Clause, PortRange
from serai.model.ports import UDP
from serai.model.tenancy import Mode
from serai.model.tunnels import PROTOCOLS, UDP_PORTS
from serai.model.world import World
from serai.policy.evaluate import Connection, Verdict, judge
from serai.policy.questions.blocks import meet
from serai.policy.questions.choice import Choice
from serai.policy.questions.classes import Class, domains, partition
from serai.policy.questions.portset import PortSet, opened
from serai.policy.questions.reach import Place
from serai.policy.questions.sides import Seen, Sides


class Outcome(enum.StrEnum):
    """What became of an invariant."""

    PROVEN = "proven"
    REFUTED = "refuted"
    VACUOUS = "vacuous"
    """It says nothing, so that nothing can break it."""


class Vacuity(enum.StrEnum):
    """Why an invariant says nothing."""

    NO_SOURCES = "'from' means nobody who is there"
    NO_TARGETS = "'to' means nobody who is there"
    NO_OTHERS = "'from' means everybody, so that nobody else is left"
    NO_PORTS = "on its ports nothing can be opened: of ICMP, only echo requests open anything"
    NO_MEETING = "no packet can go from one side to the other"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A connection that an invariant speaks of, and that is judged otherwise."""

    connection: Connection
    verdict: Verdict


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An invariant, and what became of it."""

    invariant: Invariant
    outcome: Outcome
    witness: Witness | None = None
    """What refutes it."""
    vacuity: Vacuity | None = None
    """Why it says nothing."""
    sources: Sequence[str] = ()
    """The VMs that ``from`` means."""
    targets: Sequence[str] = ()
    """The VMs that ``to`` means."""
    source_domains: Sequence[str] = ()
    """The routing domains in which ``from`` means anybody."""
    target_domains: Sequence[str] = ()
    """The routing domains in which ``to`` means anybody."""
    observed: Sequence[str] = ()
    """Those of the VMs whose gates drop nothing yet."""
    isolated: Sequence[str] = ()
    """Those of the VMs that the site's quarantine judges."""

    @property
    def apart(self) -> bool:
        """No routing domain holds both sides: they can never meet."""
        return not set(self.source_domains) & set(self.target_domains)


def prove(world: World) -> tuple[Finding, ...]:
    """Prove or refute every invariant of the world by what its policies in force say.

    A connection counts where a packet can open it as far as gates have a say: of ICMP by an echo request, tunnels only
    from vNICs that may send them. Modes count as far as policies do: a VM in quarantine is judged by that, and one
    that is only observed as if it were not.
    """
    if not world.invariants:
        return ()
    sides = Sides(world)
    choices = [choice for invariant in world.invariants for choice in _choices(invariant)]
    places = {domain: Place.of(sides, ends, *choices) for domain, ends in domains(world).items()}
    return tuple(_Proof(world, sides, places, invariant).finding() for invariant in world.invariants)


@dataclasses.dataclass(frozen=True, slots=True)
class _End:
    """What tells ends apart here."""

    seen: Seen
    tunnels: bool
    """They may send tunnels."""
    far: bool
    """Their addresses are link-local."""


_TUNNELS = tuple(PortRange(protocol=protocol) for protocol in sorted(PROTOCOLS)) + tuple(
    PortRange(protocol=UDP, first=port, last=port) for port in sorted(UDP_PORTS)
)


def _choices(invariant: Invariant) -> list[Choice]:
    return [Choice(peers=invariant.sources), *(Choice(peers=(clause.peer,)) for clause in invariant.targets)]


class _Proof:
    """Works on one invariant."""

    def __init__(self, world: World, sides: Sides, places: Mapping[str, Place], invariant: Invariant) -> None:
        self._world = world
        self._sides = sides
        self._places = places
        self._invariant = invariant
        self._ports: dict[tuple[int, bool, tuple[PortRange, ...]], PortSet] = {}
        self._broken: dict[tuple[PortSet, PortSet], PortSet] = {}
        named = Choice(peers=invariant.sources)
        self._named = {domain: _classes(place, named) for domain, place in places.items()}
        if invariant.claim is Claim.ONLY:
            others = dataclasses.replace(named, inverted=True)
            self._sources = {domain: _classes(place, others) for domain, place in places.items()}
        else:
            self._sources = self._named
        self._targets = [
            (clause, {domain: _classes(place, Choice(peers=(clause.peer,))) for domain, place in places.items()})
            for clause in invariant.targets
        ]

    def finding(self) -> Finding:
        witness, any_ports, any_meeting = None, False, False
        for domain, source, target, clause in self._pairs():
            about = self._about(source.key, clause)
            wrong = self._wrong(about, self._sides.accepts(source.key.seen, target.key.seen))
            # Most pairs have nothing to tell: whether a gate stands between them need not be found out.
            tells = wrong or not any_meeting or (about and not any_ports)
            if tells and _is_judged(source, target):
                any_meeting, any_ports = True, any_ports or bool(about)
                if wrong:
                    witness = self._witness(domain, source, target, wrong)
                    break
        return self._found(witness, None if witness else self._vacuity(any_ports=any_ports, any_meeting=any_meeting))

    def _pairs(self) -> Iterator[tuple[str, Class[_End], Class[_End], Clause]]:
        """Go through all pairs of classes of one version: what reads best comes first."""
        for crossing, (clause, targets) in itertools.product((False, True), self._targets):
            for domain in self._places:
                for source in self._sources[domain]:
                    for target in targets[domain]:
                        same = source.key.seen.version == target.key.seen.version
                        if same and (source.key.far != target.key.far) == crossing:
                            yield domain, source, target, clause

    def _about(self, source: _End, clause: Clause) -> PortSet:
        """Return what the claim says something of."""
        key = source.seen.version, source.tunnels, clause.ports
        if key not in self._ports:
            ports = opened(clause.ports, source.seen.version)
            self._ports[key] = ports if source.tunnels else ports - opened(_TUNNELS, source.seen.version)
        return self._ports[key]

    def _wrong(self, about: PortSet, accepted: PortSet) -> PortSet:
        key = about, accepted
        if key not in self._broken:
            always = self._invariant.claim is Claim.ALWAYS
            self._broken[key] = about - accepted if always else about & accepted
        return self._broken[key]

    def _vacuity(self, *, any_ports: bool, any_meeting: bool) -> Vacuity | None:
        if not any(self._named.values()):
            return Vacuity.NO_SOURCES
        if not any(any(targets.values()) for _, targets in self._targets):
            return Vacuity.NO_TARGETS
        if not any(self._sources.values()):
            return Vacuity.NO_OTHERS
        if not any_meeting:
            return Vacuity.NO_MEETING if self._invariant.claim is Claim.ALWAYS else None
        return None if any_ports else Vacuity.NO_PORTS

    def _found(self, witness: Witness | None, vacuity: Vacuity | None) -> Finding:
        sources = [each for found in self._sources.values() for each in found]
        targets = [each for _, by_domain in self._targets for found in by_domain.values() for each in found]
        vms = {end.vm.path: end.vm for each in (*sources, *targets) for end in each.endpoints}
        holding = {domain for _, by_domain in self._targets for domain, found in by_domain.items() if found}
        outcome = Outcome.REFUTED if witness else Outcome.VACUOUS if vacuity else Outcome.PROVEN
        return Finding(
            invariant=self._invariant,
            outcome=outcome,
            witness=witness,
            vacuity=vacuity,
            sources=_paths(each for found in self._named.values() for each in found),
            targets=_paths(targets),
            source_domains=sorted(domain for domain, found in self._sources.items() if found),
            target_domains=sorted(holding),
            observed=sorted(path for path, vm in vms.items() if vm.mode is Mode.OBSERVE),
            isolated=sorted(path for path, vm in vms.items() if vm.mode is Mode.ISOLATE),
        )

    def _witness(self, domain: str, source: Class[_End], target: Class[_End], wrong: PortSet) -> Witness:
        one, other = _two(_addresses(source), _addresses(target))
        protocol, port = wrong.example(one.version)
        connection = Connection(routing_domain=domain, source=one, destination=other, protocol=protocol, port=port)
        return Witness(connection=connection, verdict=judge(self._world, connection))


def _classes(place: Place, choice: Choice) -> list[Class[_End]]:
    """Return the classes of those who are chosen, those of which examples are easiest to read first."""
    held = (
        (_End(seen, end.vnic.security.tunnels, end.address in LINK_LOCAL), end)
        for seen, end in place.endpoints
        if choice.has(end.vm, end.vnic, end.address)
    )
    outside = (
        (_End(seen, tunnels=True, far=atom.example is not None and atom.example in LINK_LOCAL), atom)
        for seen, atom in place.atoms
        if choice.has_outside(atom.prefix)
    )
    return sorted(partition(held, outside), key=lambda each: (bool(each.atoms), each.key.seen.version, each.key.far))


def _is_judged(source: Class[_End], target: Class[_End]) -> bool:
    """Say whether any connection from one to the other passes a gate."""
    return not (source.atoms and target.atoms) and meet([source], [target])


_Held = tuple[Address, int | None]
"""An address, and the number of the vNIC that holds it."""


def _addresses(found: Class[_End]) -> list[_Held]:
    """List the addresses of a class, the first ones of vNICs first."""
    ends = sorted(found.endpoints, key=lambda end: (not is_first(end.vnic, end.address), end.vm.path))
    outside = [(atom.example, None) for atom in found.atoms if atom.example is not None]
    return [*((end.address, end.vnic.id) for end in ends), *outside]


def is_first(vnic: Vnic, address: Address) -> bool:
    """Say whether it is the first address of its kind that ``vnic`` holds."""
    far = address in LINK_LOCAL
    return address == next(a for a in vnic.held if a.version == address.version and (a in LINK_LOCAL) == far)


def _two(sources: Sequence[_Held], targets: Sequence[_Held]) -> tuple[Address, Address]:
    """Pick an address of each, of two vNICs."""
    pairs = itertools.product(sources, targets)
    return next((one, other) for (one, holder), (other, theirs) in pairs if holder != theirs)


def _paths(found: Iterable[Class[_End]]) -> list[str]:
    return sorted({end.vm.path for each in found for end in each.endpoints})
