"""What one host holds: the parts that its VMs need, each once, however many of them need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Self

from serai.model.ruleset import HostRuleset
from serai.policy.fit import Capacity, require_fit
from serai.policy.part import Part
from serai.policy.statutes import Statutes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Host:
    """A host's ruleset, and how often each part of it is needed."""

    ruleset: HostRuleset
    parts: Mapping[bytes, Part]
    """By digest; those that are sent, and what else costs something."""
    needed: Mapping[bytes, int]
    """By how many VMs, by digest; none by nobody."""
    cost: int
    """Of all parts together (see ``Part.cost``)."""

    @classmethod
    def empty(cls, name: str) -> Self:
        """A host that needs nothing."""
        return cls(ruleset=HostRuleset.of(name, ()), parts={}, needed={}, cost=0)

    def changed(self, gone: Iterable[Part], new: Iterable[Part], statutes: Statutes, room: Capacity) -> Host:
        """Return the host when VMs need these parts no more, and these others too.

        Args:
            gone: what is needed once less; a part comes once for each VM that needed it.
            new: what is needed once more.
            statutes: what was compiled into the new ones.
            room: what the host has room for, old and new side by side.

        Raises:
            FitError: they do not fit.
        """
        parts, needed, raws = dict(self.parts), dict(self.needed), dict(self.ruleset.parts)
        cost = self.cost
        for part in new:
            digest, raw, more = part
            times = needed.get(digest, 0)
            needed[digest] = times + 1
            if not times:
                parts[digest] = part
                if raw:
                    raws[digest] = raw
                cost += more
        # While gates switch, what is new and what is old stand side by side.
        require_fit(self.ruleset.host, cost, parts, statutes, room)
        for digest, _, less in gone:
            times = needed[digest] - 1
            needed[digest] = times
            if not times:
                del needed[digest], parts[digest]
                raws.pop(digest, None)
                cost -= less
        return Host(ruleset=HostRuleset(host=self.ruleset.host, parts=raws), parts=parts, needed=needed, cost=cost)
