"""What docs/PLACEMENT.md shows is sound, and what it says is what the code does."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
from pages import Fence, Page

from serai.migration import obstacle
from serai.migration.admission import MEMORY_TOLERANCE, About
from serai.model.decode import decode
from serai.model.host_facts import Feature
from serai.model.placement import Profile

PAGE = Page.read("docs/PLACEMENT.md")
WORLD = (Path(__file__).parent / "world/world.yaml").read_text()


@pytest.mark.parametrize("fence", PAGE.fences("yaml"), ids=lambda fence: fence.place)
def test_resources_that_are_shown_are_sound(fence: Fence) -> None:
    world = decode({"world.yaml": WORLD, "shown.yaml": fence.text})
    placement = world.placement
    assert placement.hosts or placement.rules or placement.pools or world.registry.images


def test_features_and_profiles_are_those_of_the_code() -> None:
    names = [row[0].strip("`") for row in PAGE.section("Pools").rows() if len(row) == 2]
    assert names == [*Feature, *Profile, *About]
    assert f"to {MEMORY_TOLERANCE:.0%}".replace("%", " %") in PAGE.section("Pools").text


def test_every_obstacle_is_described() -> None:
    known = [each.kind for each in typing.get_args(obstacle.Obstacle)]
    assert [row[0].strip("`") for row in PAGE.section("What is in the way").rows()] == known
