"""How verbs reach the controller, and ``@``: what it has in force, where a verb takes a directory."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from serai.wire import api, profile
from serai.wire.client import Client

AT: Final = "@"
"""What the controller has in force."""
_ASK_SECONDS: Final = 120.0


def connect() -> Client:
    """Reach the controller that the environment or a file names.

    Raises:
        ProfileError: nothing names one.
        ClientError: what is named is none.
    """
    return Client(profile.find(os.environ))


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
