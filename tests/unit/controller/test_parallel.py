"""Several processes make what one does, and what goes wrong in one of them is told as if there were no others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from tenants import tenants

from serai.controller import parallel
from serai.controller.parallel import compile_in_parallel
from serai.lab.process import children
from serai.lab.scale import Scale, build
from serai.model.columns import Columns
from serai.model.world import World
from serai.policy.compiler import numbering
from serai.policy.compiler.census import Members, census
from serai.policy.compiler.domains import CompiledDomain, Shapes, compile_domains
from serai.policy.compiler.spell import SpelledPolicy
from serai.policy.compiler.statutes import Statutes


@pytest.fixture(autouse=True)
def _at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTHWHILE", 1)
    monkeypatch.setattr(parallel, "_TRIED", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


def parts(domains: dict[str, CompiledDomain]) -> dict[str, tuple[object, ...]]:
    return {name: (domain.part, dict(domain.books)) for name, domain in domains.items()}


def center(tenants: int, *, shapes: bool = False) -> tuple[list[Members], Statutes]:
    made = build(Scale(hosts=2, vms=tenants, vnics=2, tenants=tenants, shapes=shapes))
    statutes = Statutes.of(map(SpelledPolicy, made.policies), World().last_word, ())
    return list(census(made.columns)), statutes


def test_many_domains() -> None:
    everybody, statutes = center(50)
    told: list[int] = []
    found = compile_in_parallel(everybody, statutes, {}, told.append)
    assert parts(found) == parts(compile_domains(everybody, statutes, {}))
    assert list(found) == [members.name for members in everybody]
    assert sum(told) == 50


@pytest.mark.parametrize("shapes", [True, False])
def test_others_help_only_where_there_are_many_shapes(monkeypatch: pytest.MonkeyPatch, *, shapes: bool) -> None:
    everybody, statutes = center(40, shapes=shapes)
    helped: list[int] = []
    elsewhere = parallel._elsewhere

    def counted(
        share: Sequence[Members], statutes: Statutes, shapes: Shapes
    ) -> contextlib.AbstractContextManager[BinaryIO]:
        helped.append(len(share))
        return elsewhere(share, statutes, shapes)

    monkeypatch.setattr(parallel, "_TRIED", 10)
    monkeypatch.setattr(parallel, "_elsewhere", counted)
    told: list[int] = []
    found = compile_in_parallel(everybody, statutes, {}, told.append)
    assert helped == ([10, 10] if shapes else [])
    assert list(found) == [members.name for members in everybody]
    assert parts(found) == parts(compile_domains(everybody, statutes, {}))
    assert sum(told) == 40


@settings(max_examples=10, deadline=None)
@given(tenants())
def test_random_domains(world: World) -> None:
    everybody = list(census(Columns.of(world.vms.values())))
    statutes = Statutes.of(map(SpelledPolicy, world.policies), world.last_word, world.quarantine)
    assert parts(compile_in_parallel(everybody, statutes, {})) == parts(compile_domains(everybody, statutes, {}))


def test_a_process_that_dies_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody, statutes = center(9)
    expected, here = parts(compile_domains(everybody, statutes, {})), os.getpid()

    def dies_elsewhere(*arguments: object) -> dict[str, CompiledDomain]:
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        return compile_domains(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel, "compile_domains", dies_elsewhere)
    assert parts(compile_in_parallel(everybody, statutes, {})) == expected


def test_an_error_elsewhere_is_told_here(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody, statutes = center(6)
    given_ = numbering.give
    monkeypatch.setattr(
        numbering,
        "give",
        lambda kind, contents: [b"\7" * 8 if kind == b"ruleset" else n for n in given_(kind, contents)],
    )
    before = children(os.getpid())
    with pytest.raises(numbering.CollisionError):
        compile_in_parallel(everybody, statutes, {})
    assert children(os.getpid()) == before
