"""Agents without a kernel: many in one process, to see how a controller bears them.

What an agent decides is decided by its core, and what it says by its link; rulesets and changes of them are read and checked as they
are on a real host. Only what would be done to taps and maps is taken as done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serai.agent.core import (
    Agent,
    DomainSeen,
    DomainsListed,
    Event,
    PrepareTables,
    RulesetArrived,
    TablesPrepared,
    TapAppeared,
    TapVanished,
)
from serai.agent.host import Host
from serai.agent.link.runtime import Link, LinkConfig
from serai.agent.refused import RefusedError
from serai.model.host_facts import HostFacts
from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import GuardedVnic, HostRuleset, Known
from serai.model.ruleset_delta import Delta
from serai.model.ruleset_form import FrozenPart
from serai.wire.remote import Sight


class Pool:
    """Parts that many hosts hold are kept once."""

    def __init__(self) -> None:
        """Begin empty."""
        self._parts: dict[bytes, bytes] = {}
        self._read: dict[bytes, FrozenPart] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def lean(self, ruleset: HostRuleset) -> HostRuleset:
        """Return the same ruleset, made of the parts here; of what has been read of it only the vNICs and the digest are kept."""
        parts = {digest: self._parts.setdefault(digest, raw) for digest, raw in ruleset.parts.items()}
        learned = ruleset.learned
        read = {
            digest: self._read.setdefault(digest, part) for digest, part in learned.parts.items() if digest in parts
        }
        kept = HostRuleset(host=ruleset.host, parts=parts, known=Known(parts=read, guests=learned.guests))
        vars(kept).update(
            vnics=ruleset.vnics, digest=ruleset.digest, _thawed=learned.guests
        )  # as functools.cached_property would
        return kept

    def keep_only(self, held: Iterable[HostRuleset]) -> None:
        """Forget parts that none of these rulesets has."""
        self._parts = {digest: raw for ruleset in held for digest, raw in ruleset.parts.items()}
        self._read = {digest: part for digest, part in self._read.items() if digest in self._parts}


class SimulatedHost:
    """A host that is all there but for its kernel and its hypervisor (a ``HostPort``)."""

    def __init__(self, name: str, guests: Mapping[VnicId, Mac], pool: Pool) -> None:
        """Run ``guests``, a domain with one tap each."""
        self.name = name
        self._pool = pool
        self._core = Agent()
        self._host = Host(self._core, self._enforce, self._change)
        self._taps: dict[VnicId, int] = {}
        self._taken = 0
        self.applied = 0
        """How many rulesets and changes it has taken in."""
        for vnic, mac in guests.items():
            self.start(vnic, mac)
        self._take(DomainsListed())

    def start(self, vnic: VnicId, mac: Mac) -> None:
        """A guest comes."""
        self._taken += 1
        name = f"sim{self._taken}"
        self._taps[vnic] = self._taken
        self._take(TapAppeared(ifindex=self._taken, name=name, bridged=True))
        self._take(DomainSeen(domain=name, taps={name: mac}))

    def stop(self, vnic: VnicId) -> None:
        """A guest goes."""
        ifindex = self._taps.pop(vnic)
        self._take(DomainSeen(domain=f"sim{ifindex}", taps={}))
        self._take(TapVanished(ifindex=ifindex))

    @property
    def ruleset(self) -> HostRuleset | None:
        """What it holds."""
        return self._core.ruleset

    def bindings(self) -> dict[Mac, GuardedVnic | None]:
        """What each gate guards, by the MAC address behind it; None: it is closed."""
        return {gate.mac: gate.vnic for gate in self._core.gates() if gate.mac}

    def sight(self) -> Sight:
        """Whom it runs and guards."""
        return self._host.sight()

    def facts(self) -> HostFacts | None:
        """What it is made of: nothing, as long as nobody says otherwise."""
        return self._host.facts()

    def describe(self, facts: HostFacts) -> None:
        """Be made of this."""
        self._host.describe(facts)

    def held(self) -> tuple[bytes | None, tuple[bytes, ...]]:
        """The digest of the ruleset that it holds, and those of its parts."""
        return self._host.held()

    def enforce(self, ruleset: bytes) -> bytes:
        """Hold a ruleset.

        Raises:
            RefusedError: it is none, or another host's.
        """
        return self._host.enforce(ruleset)

    def change(self, delta: bytes) -> bytes:
        """Hold what a change makes of the ruleset that is held.

        Raises:
            RefusedError: it does not fit.
        """
        return self._host.change(delta)

    async def wait_changed(self) -> None:
        """Wait until something may have changed."""
        await self._host.wait_changed()

    def _enforce(self, raw: bytes) -> None:
        try:
            self._hold(HostRuleset.decode(raw), None)
        except ValueError as error:
            raise RefusedError(str(error)) from error

    def _change(self, raw: bytes) -> None:
        old = self._core.ruleset
        if old is None:
            raise RefusedError("this is a change of a ruleset, and there is none yet: send all of it")
        try:
            delta = Delta.decode(raw)
            new = delta.apply(old)
            self._hold(new, delta.bridged(old, new))
        except ValueError as error:
            raise RefusedError(str(error)) from error

    def _hold(self, ruleset: HostRuleset, bridge: HostRuleset | None) -> None:
        if ruleset.host != self.name:
            raise RefusedError(f"this ruleset is for host {ruleset.host}, and this is host {self.name}")
        self._take(RulesetArrived(ruleset=ruleset, bridge=bridge))
        self.applied += 1

    def _take(self, event: Event) -> None:
        for command in self._core.handle(event):
            if isinstance(command, PrepareTables):
                self._take(TablesPrepared(ruleset=self._pool.lean(command.ruleset)))
        self._host.touch()


class SimulatedAgent:
    """A simulated host and its link. Its identity lies below ``config.state``, as on a real host."""

    def __init__(self, host: SimulatedHost, config: LinkConfig) -> None:
        """Set nothing in motion yet."""
        self.host = host
        self.link = Link(host, config)

    async def run(self) -> None:
        """Keep the link until cancelled."""
        await self.link.run()
