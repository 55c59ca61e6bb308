"""Files of resources to a world: all of it, or every error of every file at once."""

from __future__ import annotations

from collections.abc import Mapping

from serai.model.definitions import Complaints
from serai.model.places import Places, places
from serai.model.reading import read
from serai.model.resolve import resolve, unique
from serai.model.standing import NOTHING
from serai.model.world import World


def decode(files: Mapping[str, str]) -> World:
    """Read resources and resolve every reference among them. The order of the files does not matter.

    Args:
        files: the text of each file by the name that errors shall call it. A file may hold several documents.

    Raises:
        DefinitionErrors: anything at all is wrong.
    """
    return decode_with_places(files)[0]


def decode_with_places(files: Mapping[str, str]) -> tuple[World, Places]:
    """Do as ``decode`` does, and say where each policy and each rule is written.

    Raises:
        DefinitionErrors: anything at all is wrong.
    """
    complaints = Complaints()
    definitions = read(files, complaints)
    standing, _ = resolve(NOTHING, unique(definitions, complaints), complaints)
    complaints.settle()
    return standing.world, places(definitions)
