"""What questions about traffic must answer, found out row by row: slow, obvious, and nothing of the statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowing import Row, Traffic
from serai.model.address import unpack
from serai.model.tenancy import Scope

ELSEWHERE, OUTSIDE, NONE = "(elsewhere)", "outside", "(none)"


class Oracle:
    def __init__(
        self,
        traffic: Traffic,
        *,
        since: int,
        until: int,
        scopes: Sequence[Scope] | None,
        keep: Callable[[Row], bool] = lambda _: True,
    ) -> None:
        self.traffic, self.scopes = traffic, scopes
        self.rows = [row for row in traffic.rows if since < row["at"] <= until and keep(row)]

    def inside(self, number: int) -> bool:
        if self.scopes is None:
            return True
        return number != 0 and any(scope.contains(self.traffic.endpoints[number].scope) for scope in self.scopes)

    def name(self, number: int, group: str, row: Row | None = None) -> str:
        if group in {"network", "host"}:  # records say it themselves
            assert row is not None
            return row[group] or NONE
        if not number:
            assert row is not None
            return str(unpack(row["remote"])) if group == "vm" else OUTSIDE
        if not self.inside(number):
            return ELSEWHERE
        end = self.traffic.endpoints[number]
        match group:
            case "vm":
                return end.path
            case "tenant":
                return end.tenant or NONE
            case "scope":
                return str(end.scope)
            case _:
                return end.labels.get(group.partition(":")[2]) or NONE

    def own(self) -> Iterable[Row]:
        """Rows whose VM is in the scopes: one for each end."""
        return (row for row in self.rows if self.inside(row["vm"]))

    def edges(self) -> Iterable[Row]:
        """Each conversation once that touches the scopes: by the opener's row where there is one, and whatever was denied."""
        for row in self.rows:
            echo = row["direction"] == 1 and row["peer"] and not row["verdict"]
            tenant = self.one_tenant()
            # Its own gates tell all of a tenant's conversations: of those between two of its VMs only the opener's counts.
            told = not echo if tenant is None else row["tenant"] == tenant and (not echo or bool(row["abroad"]))
            if told and (self.scopes is None or self.inside(row["vm"]) or self.inside(row["peer"])):
                yield row

    def one_tenant(self) -> str | None:
        found = {scope.tenant for scope in self.scopes or [Scope("/")]}
        return found.pop() if len(found) == 1 else None

    def ends(self, row: Row, group: str) -> tuple[str, str]:
        near, far = self.name(row["vm"], group), self.name(row["peer"], group, row)
        return (near, far) if row["direction"] == 0 else (far, near)

    def sums(
        self, rows: Iterable[Row], key: Callable[[Row], Any], way: str = "both"
    ) -> dict[Any, tuple[int, int, int]]:
        found: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in rows:
            line = found[key(row)]
            for place, what in enumerate(("bytes", "packets")):
                line[place] += sum(row[f"{what}_{each}"] for each in (("out", "in") if way == "both" else (way,)))
            line[2] += row["connections"]
        return {name: (line[0], line[1], line[2]) for name, line in found.items()}
