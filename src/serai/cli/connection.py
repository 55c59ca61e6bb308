"""How verbs reach the controller, and ``@``: what it has in force, where a verb takes a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from serai.inventory import files
from serai.model.decode import decode_with_places
from serai.model.definitions import DefinitionErrors
from serai.model.places import Places
from serai.model.world import World
from serai.wire import api, profile
from serai.wire.client import Client

AT: Final = "@"
"""What the controller has in force."""
_ASK_SECONDS: Final = 120.0
_PAGE: Final = 500


def connect() -> Client:
    """Reach the controller that the environment or a file names.

    Raises:
        ProfileError: nothing names one.
        ClientError: what is named is none.
    """
    return Client(profile.find(os.environ))


class PartError(RuntimeError):
    """Whoever asks sees only a part of what is in force, and a part means nothing by itself."""


def load(directory: str) -> World:
    """Read the world of a directory, or what is in force (``@``), as far as whoever asks may read it.

    Raises:
        DefinitionErrors: the files describe none.
        PartError: what one may read does not.
    """
    return load_with_places(directory)[0]


def load_with_places(directory: str) -> tuple[World, Places]:
    """Do as ``load`` does, and say where each policy and each rule is written.

    Raises:
        DefinitionErrors: the files describe none.
        PartError: what one may read does not.
    """
    if directory != AT:
        return files.load_with_places(directory)
    with connect() as client:
        found = {f"{each.kind} {each.path}": json.dumps(each.body, indent=1) for each in resources(client)}
    try:
        return decode_with_places(found)
    except DefinitionErrors as error:
        raise PartError(
            f"what you may read of what is in force makes no world by itself ({error.errors[0]}): ask with an account that may "
            "read all of it, or ask `serai can` or `serai reach`"
        ) from error


def resources(client: Client, **narrow: object) -> Iterator[api.Resource]:
    """Go through the resources in force, page by page."""
    after: str | None = None
    while True:
        page = client.ask("GET", "/v1/resources", api.Page, params={**narrow, "limit": _PAGE, "after": after})
        yield from page.resources
        after = page.after
        if after is None:
            return


def ask_in_force(question: str, body: msgspec.Struct) -> dict[str, Any]:
    """Have the controller answer a question about what is in force.

    Raises:
        ProfileError: nothing names a controller.
        ClientError: it does not answer.
    """
    with connect() as client:
        answer = client.ask("POST", f"/v1/ask/{question}", api.Answer, body=body, seconds=_ASK_SECONDS).answer
    found: dict[str, Any] = answer
    return found
