"""What the agent decides: events in, commands out. No I/O, no clock.

The commands follow from what is known now, never from the order in which it was learned: which taps there are,
which VM libvirt has put behind each, and the ruleset in force.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping

from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import GuardedVnic, HostRuleset


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TapAppeared:
    """A tap exists, or has changed."""

    ifindex: int
    name: str
    bridged: bool
    """It is a port of a bridge: frames can pass."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TapVanished:
    """A tap is gone."""

    ifindex: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainSeen:
    """The hypervisor has told which taps belong to one of its domains (none: it is gone)."""

    domain: str
    taps: Mapping[str, Mac]
    """The MAC address behind each tap, by the tap's name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainsListed:
    """The hypervisor has told all of its domains."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GateAdopted:
    """An earlier agent left a gate on a tap: it goes on guarding its vNIC until libvirt tells who is there."""

    ifindex: int
    vnic: VnicId | None
    """As the kernel holds it; None: the gate is closed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GateLost:
    """Something else has taken the gate off a tap that lives."""

    ifindex: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has passed: what failed may be tried again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RulesetArrived:
    """The controller, or the disk at start, has brought a ruleset."""

    ruleset: HostRuleset
    bridge: HostRuleset | None = None
    """What tables must hold while gates switch to it from the one in force; None where that is not known."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TablesPrepared:
    """The kernel holds all that a ruleset needs; gates may switch to it."""

    ruleset: HostRuleset


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VnicsElsewhere:
    """Another host guards these vNICs, whoever is behind taps here: their VM is about to come, or has left."""

    vnics: frozenset[VnicId]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VnicsHere:
    """It is this host's turn to guard these vNICs, where they are here."""

    vnics: frozenset[VnicId]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttachGate:
    """Put a gate, closed at first, on a tap."""

    ifindex: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForgetGate:
    """Clean up behind a tap that is gone."""

    ifindex: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTables:
    """Load into the kernel what a ruleset needs, beside what is there; then report ``TablesPrepared``."""

    ruleset: HostRuleset
    bridge: HostRuleset | None = None
    """As in ``RulesetArrived``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BindVnics:
    """Tell gates whom they guard and by which rulesets."""

    bindings: Mapping[int, GuardedVnic]
    """By ifindex."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloseGate:
    """Let a gate drop everything: nobody is known behind its tap."""

    ifindex: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoreRuleset:
    """Keep a ruleset on disk as the last good one."""

    ruleset: HostRuleset


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiscardOthers:
    """Remove from the kernel what a ruleset does not need; no gate uses it any more."""

    ruleset: HostRuleset


Command = AttachGate | ForgetGate | PrepareTables | BindVnics | CloseGate | StoreRuleset | DiscardOthers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailed:
    """A command was not carried out; what is still wanted is tried again at the next tick."""

    command: Command


Event = (
    TapAppeared
    | TapVanished
    | DomainSeen
    | DomainsListed
    | GateAdopted
    | GateLost
    | Ticked
    | RulesetArrived
    | TablesPrepared
    | VnicsElsewhere
    | VnicsHere
    | CommandFailed
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GateState:
    """One gate as the agent sees it."""

    tap: str
    ifindex: int
    domain: str | None
    mac: Mac | None
    vnic: GuardedVnic | None
    """None: the gate is closed, or guards ``adopted``."""
    adopted: VnicId | None
    """The vNIC that an earlier agent let it guard, while nothing better is known."""
    waits: bool = False
    """It is closed because another host guards its vNIC."""


class Agent:
    """Knows what is; says what to do."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._taps: dict[int, TapAppeared] = {}
        self._domains: dict[str, Mapping[str, Mac]] = {}
        self._ruleset: HostRuleset | None = None
        self._attached: set[int] = set()
        self._bound: dict[int, GuardedVnic] = {}
        self._adopted: dict[int, VnicId | None] = {}
        self._unclosed: set[int] = set()
        self._elsewhere: frozenset[VnicId] = frozenset()
        self._listed = False

    @property
    def ruleset(self) -> HostRuleset | None:
        """The ruleset in force."""
        return self._ruleset

    def handle(self, event: Event) -> list[Command]:
        """Take one event in and return what it makes necessary, in the order in which it must be done."""
        before: list[Command] = []
        after: list[Command] = []
        match event:
            case TapAppeared():
                known = self._taps.get(event.ifindex)
                if known is not None and known.name != event.name:  # renamed: whom it serves must be asked anew
                    self._bound.pop(event.ifindex, None)
                    before.append(CloseGate(ifindex=event.ifindex))
                self._taps[event.ifindex] = event
            case TapVanished():
                if self._taps.pop(event.ifindex, None) is not None:
                    before.append(ForgetGate(ifindex=event.ifindex))
                self._bound.pop(event.ifindex, None)
                self._adopted.pop(event.ifindex, None)
                self._attached.discard(event.ifindex)
                self._unclosed.discard(event.ifindex)
            case DomainSeen():
                self._domains.pop(event.domain, None)
                if event.taps:
                    self._domains[event.domain] = event.taps
            case DomainsListed():
                self._listed = True
            case GateAdopted():
                self._adopted[event.ifindex] = event.vnic
                self._disown(self._elsewhere)
            case GateLost():
                self._attached.discard(event.ifindex)
                self._bound.pop(event.ifindex, None)
            case VnicsElsewhere():
                self._elsewhere |= event.vnics
                self._disown(event.vnics)
            case VnicsHere():
                self._elsewhere -= event.vnics
            case Ticked():
                pass
            case CommandFailed():
                self._undo(event.command)
                return []  # not at once: the next tick tries again
            case RulesetArrived():
                return [PrepareTables(ruleset=event.ruleset, bridge=event.bridge)]
            case TablesPrepared():
                self._ruleset = event.ruleset
                after = [StoreRuleset(ruleset=event.ruleset), DiscardOthers(ruleset=event.ruleset)]
        return [*before, *self._settle(), *after]

    @property
    def attached(self) -> frozenset[int]:
        """The taps, by ifindex, that should have a gate."""
        return frozenset(self._attached)

    def gates(self) -> Iterator[GateState]:
        """Go through all gates, in order of tap."""
        owners, elsewhere = self._owners(), self._macs_elsewhere()
        for ifindex in sorted(self._attached):
            tap = self._taps[ifindex]
            domain, mac = owners.get(tap.name, (None, None))
            yield GateState(
                tap=tap.name,
                ifindex=ifindex,
                domain=domain,
                mac=mac,
                vnic=self._bound.get(ifindex),
                adopted=self._adopted.get(ifindex),
                waits=mac in elsewhere,
            )

    def _settle(self) -> Iterator[Command]:
        """What separates the gates as they are from the gates as they should be."""
        owners = self._owners()
        wanted = {i for i, tap in self._taps.items() if tap.bridged or tap.name in owners}
        for ifindex in sorted(wanted - self._attached):
            yield AttachGate(ifindex=ifindex, name=self._taps[ifindex].name)
        self._attached |= wanted

        bindings = self._bindings(owners)
        # Who is behind an adopted gate is known for certain once libvirt has spoken of its tap, or of all domains.
        known = {i for i in self._adopted.keys() & self._taps.keys() if self._listed or self._taps[i].name in owners}
        disowned = known if self._ruleset else set()  # without a ruleset nothing better is known than what gates do
        for ifindex in disowned:
            del self._adopted[ifindex]
        unclosed, self._unclosed = self._unclosed, set()
        for ifindex in sorted((self._bound.keys() | disowned | unclosed) - bindings.keys()):
            yield CloseGate(ifindex=ifindex)
        changed = {i: vnic for i, vnic in bindings.items() if self._bound.get(i) != vnic}
        if changed:
            yield BindVnics(bindings=changed)
        self._bound = bindings

    def _disown(self, vnics: frozenset[VnicId]) -> None:
        """Have gates closed that an earlier agent let guard these."""
        for ifindex, vnic in self._adopted.items():
            if vnic in vnics:
                self._adopted[ifindex] = None
                self._unclosed.add(ifindex)

    def _undo(self, command: Command) -> None:
        """Know again what is, after a command that changed nothing."""
        match command:
            case AttachGate():
                self._attached.discard(command.ifindex)
                self._bound.pop(command.ifindex, None)
            case BindVnics():
                for ifindex in command.bindings:
                    self._bound.pop(ifindex, None)
            case CloseGate():
                self._unclosed.add(command.ifindex)
            case _:  # nothing that gates depend on
                pass

    def _macs_elsewhere(self) -> set[Mac]:
        vnics = self._ruleset.vnics if self._ruleset and self._elsewhere else ()
        return {vnic.mac for vnic in vnics if vnic.id in self._elsewhere}

    def _owners(self) -> dict[str, tuple[str, Mac]]:
        return {tap: (domain, mac) for domain, taps in sorted(self._domains.items()) for tap, mac in taps.items()}

    def _bindings(self, owners: Mapping[str, tuple[str, Mac]]) -> dict[int, GuardedVnic]:
        vnics = self._ruleset.vnics if self._ruleset else ()
        guarded = {vnic.mac: vnic for vnic in vnics if vnic.id not in self._elsewhere}
        # Two taps that claim one MAC cannot both be that vNIC: neither is trusted.
        claims = collections.Counter(mac for _, mac in owners.values())
        by_id = {vnic.id: vnic for vnic in guarded.values()}
        found = {}
        for ifindex in self._attached:
            tap = self._taps[ifindex].name
            adopted = self._adopted.get(ifindex)
            if tap in owners:
                _, mac = owners[tap]
                if mac in guarded and claims[mac] == 1:
                    found[ifindex] = guarded[mac]
            elif adopted in by_id and not self._listed:
                found[ifindex] = by_id[adopted]
        return dict(sorted(found.items()))
