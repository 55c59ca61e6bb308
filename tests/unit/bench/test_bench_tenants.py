from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench import tenants
from serai.model.ruleset import TABLES, HostRuleset, Records, rows
from serai.policy.compile import compile_host

Tables = Mapping[str, Records]
Renaming = dict[int, int]


def compiled(tenant: int) -> HostRuleset:
    world = tenants.world([tenant])
    return compile_host(world, "bench", world.vms)


def number(field: Any) -> int:
    """A number of a record, also where it is kept as two halves."""
    return int(np.array(field).reshape(-1).view("<u8")[0])


def roots(ruleset: HostRuleset) -> list[int]:
    """The numbers from which gates start, in an order that does not depend on them."""
    vnics = sorted(ruleset.vnics, key=lambda vnic: vnic.addresses)
    return [found for vnic in vnics for found in (vnic.view, vnic.egress, vnic.ingress)]


def reachable(tables: Tables, starts: list[int]) -> Tables:
    """What gates that start there can meet."""
    met = set(starts)
    lists = [r for r in tables["lists"] if number(r["ruleset"]) in met]
    met |= {number(r["list"]) for r in lists}
    pages: dict[bytes, Any] = {}
    for _ in range(6):  # pages of pages
        pages |= {r.tobytes(): r for r in tables["pages"] if number(r["list"]) in met}
        met |= {int(n) for r in pages.values() for n in r["decisions"]["rule"]}
    found = {name: [r for r in tables[name] if number(r["view"]) in met] for name in ("endpoints", "prefixes")}
    return {
        name: np.array(records, TABLES[name])
        for name, records in {**found, "lists": lists, "pages": list(pages.values())}.items()
    }


def by_key(records: Records, called: Renaming, *names: str) -> dict[Any, Any]:
    """Records by the fields that name them, with numbers as they are ``called``."""

    def part(record: Any, name: str) -> Any:
        return (
            called[number(record[name])] if name in ("view", "ruleset", "list", "identity") else record[name].tobytes()
        )

    return {tuple(part(record, name) for name in names): record for record in records}


def rename(ours: Tables, starts: list[int], theirs: Tables, their_starts: list[int]) -> Renaming:
    """How our numbers are called by them; fails where the tables differ in more than numbers."""
    called: Renaming = {0: 0}
    back: Renaming = {0: 0}

    def call(here: int, there: int) -> None:
        assert called.setdefault(here, there) == there
        assert back.setdefault(there, here) == here

    for here, there in zip(starts, their_starts, strict=True):
        call(here, there)
    for table, key, value in (
        ("endpoints", ("view", "address"), "identity"),
        ("prefixes", ("length", "view", "address"), "identity"),
        ("lists", ("ruleset", "identity"), "list"),
    ):
        pairs = matched(by_key(ours[table], called, *key), by_key(theirs[table], their_own(back), *key))
        for one, other in pairs:
            call(number(one[value]), number(other[value]))
    pages = ("list", "protocol")
    for one, other in matched(by_key(ours["pages"], called, *pages), by_key(theirs["pages"], their_own(back), *pages)):
        assert (one["count"], list(one["first"])) == (other["count"], list(other["first"]))
        for field in ("step", "staged_step"):
            assert (one["decisions"][field] == other["decisions"][field]).all()
        for field in ("rule", "staged_rule"):
            for here, there in zip(one["decisions"][field], other["decisions"][field], strict=True):
                call(int(here), int(there))
    return called


def their_own(known: Renaming) -> Renaming:
    """Their own numbers, as far as they are known: each is called what it is."""
    return {n: n for n in known}


def matched(ours: dict[Any, Any], theirs: dict[Any, Any]) -> list[tuple[Any, Any]]:
    assert ours.keys() == theirs.keys()
    assert ours
    return [(record, theirs[key]) for key, record in ours.items()]


def test_a_tenant_that_was_instantiated_is_what_the_compiler_makes_of_it_up_to_names() -> None:
    first, third = compiled(0), compiled(2)
    many = tenants.multiply(first, 3)
    mask = int(tenants.masks(3)[2])
    starts = [n ^ mask for n in roots(first)]
    instantiated = reachable(many.tables, starts)
    names = rename(first.tables, roots(first), instantiated, starts)
    assert names == {n: n and n ^ mask for n in names}, "every number became another by the same step"
    assert len(set(names.values())) == len(names)
    rename(third.tables, roots(third), instantiated, starts)


def test_the_tables_hold_every_tenant_and_nothing_else() -> None:
    first = compiled(0)
    many = tenants.multiply(first, 3)
    assert many.vnics == first.vnics
    for name, records in first.tables.items():
        found = list(rows(many.tables[name]))
        assert found == sorted(set(found)), "in the order that HostRuleset promises"
        assert len(found) == 3 * len(records) > 0
        assert set(rows(records)) <= set(found), "the first tenant is as it was compiled"


def test_one_tenant_stays_as_it_is() -> None:
    first = compiled(0)
    again = tenants.multiply(first, 1)
    assert (again.vnics, again.rules) == (first.vnics, first.rules)
    assert all(again.tables[name].tobytes() == first.tables[name].tobytes() for name in TABLES)


def test_nothing_is_left_over_from_another_tenant() -> None:
    first = compiled(0)
    many = tenants.multiply(first, 2)
    reached = [
        reachable(many.tables, [n ^ int(mask) for n in roots(first)])["pages"].tobytes() for mask in tenants.masks(2)
    ]
    assert reached[0] != reached[1]
    assert sum(map(len, reached)) == many.tables["pages"].nbytes


def test_zero_names_nothing_in_every_tenant() -> None:
    records = np.zeros(2, TABLES["lists"])
    records["ruleset"] = 7
    tenants.renumber(records, np.array([0, 8], "<u8"))
    assert records["ruleset"].tolist() == [7, 15]
    assert records["identity"].tolist() == [0, 0]


def test_numbers_in_halves_and_in_decisions_are_renumbered() -> None:
    prefixes = np.zeros(1, TABLES["prefixes"])
    prefixes["view"] = [(1, 2)]
    tenants.renumber(prefixes, np.array([5 << 32 | 4], "<u8"))
    assert prefixes["view"].tolist() == [[5, 7]]
    pages = np.zeros(2, TABLES["pages"])
    pages["decisions"]["rule"][1, 3] = 9
    tenants.renumber(pages, np.array([1, 2], "<u8"))
    assert pages["decisions"]["rule"][1, 3] == 11
    assert np.count_nonzero(pages["decisions"]["rule"]) == 1


def test_no_number_is_overlooked() -> None:
    def wide(kind: np.dtype[Any]) -> set[str]:
        fields = {name: part[0].base for name, part in (kind.fields or {}).items()}
        return {name for name, part in fields.items() if part == "<u8"}.union(*map(wide, fields.values()))

    assert set().union(*map(wide, TABLES.values())) <= tenants._NUMBERS
