"""What one host holds, what is on its way to it, and by what change it comes from there to what it should hold. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from serai.model.ruleset import HostRuleset, manifest_digest
from serai.model.ruleset_delta import Delta


class Delivery:
    """The rulesets that a host was sent. What is sent arrives in order, or the host says what it holds."""

    def __init__(self, host: str) -> None:
        """Know nothing of what it holds."""
        self._host = host
        self._holds: str | None = None
        self._parts: frozenset[bytes] = frozenset()
        """Digests of the parts of what it holds, where they are known."""
        self._on_way: HostRuleset | None = None
        """What was sent last, as long as the host has said nothing since."""
        self._known: Mapping[str, HostRuleset] = {}
        """What it may hold of what it was sent, by digest."""
        self.last_change: Delta | None = None
        """The last change of what it should hold."""

    @property
    def expected(self) -> str | None:
        """The digest of what it will hold when all that is on its way has arrived; None: nobody can say."""
        return self._on_way.digest if self._on_way else self._holds

    def reported(self, digest: str | None, parts: frozenset[bytes] | None) -> None:
        """The host has said what it holds: what was on its way counts no more, unless it is that."""
        if parts is not None:
            self._parts = parts
        elif digest != self._holds:
            self._parts = frozenset()
        self._holds = digest
        self._on_way = None

    def send(self, wanted: HostRuleset) -> Delta | None:
        """Note that ``wanted`` is on its way; return the change that makes it of what will be there, None where that is not known."""
        change = self._change(wanted)
        after = {self._holds, self.expected}
        self._known = {digest: ruleset for digest, ruleset in self._known.items() if digest in after}
        self._known |= {wanted.digest: wanted}
        self._on_way = wanted
        return change

    def _change(self, wanted: HostRuleset) -> Delta | None:
        before = self.expected
        if before is None:
            return None
        if self.last_change and (self.last_change.before, self.last_change.after) == (before, wanted.digest):
            return self.last_change
        if (known := self._known.get(before)) is not None:
            return Delta.between(known, wanted)
        if before == self._holds and manifest_digest(self._host, self._parts).hex() == before:
            return Delta.over(before, self._parts, wanted)
        return None
