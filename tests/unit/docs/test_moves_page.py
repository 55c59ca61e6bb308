"""What docs/MOVES.md says of moves is what the code does."""

from __future__ import annotations

import tomllib

import msgspec
from pages import Page

from serai.controller.moves.config import MoveSettings
from serai.migration.diagram import mermaid, table
from serai.migration.states import Command
from serai.model.migration import Step

PAGE = Page.read("docs/MOVES.md")
MACHINE = PAGE.section("The state machine")


def test_the_diagram_is_drawn_from_the_table() -> None:
    [fence] = MACHINE.fences("mermaid")
    assert fence.text == mermaid(), "run: python -m serai.migration.diagram"
    assert table() in MACHINE.text


def test_settings_are_those_of_the_code() -> None:
    [fence] = PAGE.section("Settings").fences("toml")
    told = tomllib.loads(fence.text)["moves"]
    assert list(told) == list(MoveSettings.__struct_fields__)
    assert msgspec.convert(told, MoveSettings) == MoveSettings()


def test_every_step_and_every_deed_is_told() -> None:
    assert [row[0].strip("`") for row in PAGE.section("The steps").rows()] == list(Step)
    assert set(Command) <= set(MACHINE.inline_code)
