"""Reads a ruleset as the gate does, table by table: the opinion between the evaluator's and the kernel's."""

from __future__ import annotations

import dataclasses

from serai.model.address import BITS, Address, pack
from serai.model.policy import ANY_PROTOCOL, Direction
from serai.model.records import Records, Step
from serai.model.ruleset import GuardedVnic, HostRuleset

_VIEW_BITS = 64
_EVERYBODY = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a decision list says: the verdict in force and the one with staged policies."""

    step: Step
    rule: str
    staged_step: Step
    staged_rule: str


class Lookup:
    """One host's ruleset, indexed."""

    def __init__(self, ruleset: HostRuleset) -> None:
        """Index the tables."""
        tables = ruleset.tables
        self._texts = ruleset.rule_texts()
        self._endpoints = {(int(r["view"]), r["address"].tobytes()): int(r["identity"]) for r in tables["endpoints"]}
        self._prefixes = {
            (_view(r), int(r["length"]) - _VIEW_BITS, r["address"].tobytes()): int(r["identity"])
            for r in tables["prefixes"]
        }
        self._lengths = sorted({length for _, length, _ in self._prefixes}, reverse=True)
        self._lists = {(int(r["ruleset"]), int(r["identity"])): int(r["list"]) for r in tables["lists"]}
        self._pages = {(int(r["list"]), int(r["protocol"])): r for r in tables["pages"]}

    def identity(self, view: int, address: Address) -> int:
        """Who an address is to the vNICs of a view; 0 for everybody not told apart."""
        raw = pack(address)
        known = self._endpoints.get((view, raw))
        if known is not None:
            return known
        for length in self._lengths:
            network = (int.from_bytes(raw) >> (BITS - length) << (BITS - length)).to_bytes(BITS // 8)
            if (view, length, network) in self._prefixes:
                return self._prefixes[view, length, network]
        return _EVERYBODY

    def decide(
        self, vnic: GuardedVnic, direction: Direction, remote: Address, protocol: int, port: int
    ) -> Found | None:
        """What one side says of a new connection; None where the tables have no answer (a closed gate)."""
        ruleset = vnic.egress if direction is Direction.EGRESS else vnic.ingress
        identity = self.identity(vnic.view, remote)
        following = self._lists.get((ruleset, identity), self._lists.get((ruleset, _EVERYBODY)))
        while following is not None:
            page = self._pages.get((following, protocol), self._pages.get((following, ANY_PROTOCOL)))
            if page is None:
                return None
            starts = [0, *page["first"][: int(page["count"]) - 1].tolist()]
            decision = page["decisions"][sum(port >= start for start in starts) - 1]
            if decision["step"] != Step.DESCEND:
                return Found(
                    step=Step(int(decision["step"])),
                    rule=self._texts[int(decision["rule"])],
                    staged_step=Step(int(decision["staged_step"])),
                    staged_rule=self._texts[int(decision["staged_rule"])],
                )
            following = int(decision["rule"])
        return None


def _view(record: Records) -> int:
    low, high = record["view"].tolist()
    return int(low) | int(high) << 32
