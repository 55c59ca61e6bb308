"""What docs/ACCESS.md says about rights is what the code decides."""

from __future__ import annotations

import re

import pytest
from pages import Page

from serai.access.rights import PROVIDER_FIELDS, RIGHTS
from serai.access.roles import Role
from serai.access.verbs import Verb
from serai.controller.logins import SESSION
from serai.controller.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, new_hasher
from serai.controller.tokens import LONGEST_DAYS
from serai.model.resources import KINDS

PAGE = Page.read("docs/ACCESS.md")
TABLE = PAGE.section("The table")


def test_the_table_is_the_codes() -> None:
    told = [[re.findall("`(.*?)`", row[0]), *row[1:]] for row in TABLE.rows()]
    assert told == [[list(verbs), matter, *(r.value for r in reaches)] for (verbs, matter), reaches in RIGHTS.items()]
    [heading] = [line for line in TABLE.text.splitlines() if line.startswith("| verbs |")]
    assert re.findall("`(.*?)`", heading) == list(Role)


def test_every_role_is_described_and_every_verb_is_named() -> None:
    assert [row[0].strip("`") for row in PAGE.section("Roles").rows()] == list(Role)
    assert set(Verb) <= set(PAGE.inline_code)


def test_what_only_the_provider_sets_is_told() -> None:
    rows = {row[0].strip("`"): re.findall("`(.*?)`", row[1]) for row in PAGE.section("Scopes").rows()}
    for kind, names in PROVIDER_FIELDS.items():
        fields = KINDS[kind].model_fields["spec"].annotation
        assert fields
        assert rows[kind] == sorted(fields.model_fields[name].alias or name for name in names)


@pytest.mark.parametrize(
    "sentence",
    [
        f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters",
        f"A session lasts {SESSION.total_seconds() / 3600:.0f} hours",
        f"lives {LONGEST_DAYS} days",
        f"({new_hasher().memory_cost // 1024} MiB, {new_hasher().time_cost} passes, {new_hasher().parallelism} lanes)",
    ],
)
def test_numbers_are_those_of_the_code(sentence: str) -> None:
    assert sentence in " ".join(PAGE.text.split())
