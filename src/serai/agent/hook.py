#!/usr/bin/env python3
"""The libvirt hook: asks the agent whether a domain may run here, and to have gates on its taps before its vCPUs run.

Installed by ``serai agent hook --install``. It uses the standard library only, so that it
starts in milliseconds and depends on nothing. What it prints on stderr reaches whoever started the domain.
It never lets a domain start whose taps are not guarded, unless the host's settings say what they say of a host without an agent.
"""

from __future__ import annotations

import json
import socket
import sys
import tomllib
from pathlib import Path

SOCKET = "/run/serai/agent.sock"
SETTINGS = "/etc/serai/agent.toml"
TIMEOUT_SECONDS = 10
ENTER_SECONDS = 45
"""What a domain boots from may have to be read first."""


def ask(request: dict[str, object], seconds: int = TIMEOUT_SECONDS) -> dict[str, object]:
    """Send one request to the agent and return its reply.

    Raises:
        OSError: the agent does not answer.
        RuntimeError: it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(SOCKET)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as replies:
            reply = json.loads(replies.readline() or b'{"error": "the agent went away"}')
    if not isinstance(reply, dict) or "error" in reply:
        raise RuntimeError(reply["error"] if isinstance(reply, dict) else "the agent does not make sense")
    return reply


def without_agent() -> object:
    """What the host's settings say of domains that start while no agent runs."""
    try:
        return tomllib.loads(Path(SETTINGS).read_text()).get("without_agent")
    except (OSError, ValueError):
        return None


def main(arguments: list[str]) -> int:
    """Act on one call of libvirt: domain, operation, sub-operation, extra; the definition comes on stdin."""
    domain, operation, step = (*arguments[1:4], "", "", "")[:3]
    try:
        if (operation, step) in (("migrate", "begin"), ("prepare", "begin")):
            # `migrate` is called where a domain comes to, before its memory; what it prints on stdout would be the domain's XML.
            reply = ask(
                {"ask": "enter", "definition": sys.stdin.read(), "incoming": operation == "migrate"}, ENTER_SECONDS
            )
            objections = reply.get("objections")
            if not isinstance(objections, list):
                raise RuntimeError("the agent does not say whether it may")  # noqa: TRY301  # one way out for all
            for objection in objections:
                print(f"serai: {domain} may not run here: {objection}.", file=sys.stderr)
            return 1 if objections else 0
        if (operation, step) == ("start", "begin"):
            if "guarded" not in ask({"ask": "guard", "definition": sys.stdin.read()}):
                raise RuntimeError("the agent does not say that they are")  # noqa: TRY301  # one way out for all
        elif operation == "release":
            ask({"ask": "release", "domain": domain})
    except (OSError, RuntimeError, ValueError) as error:
        if operation == "release":
            return 0  # the tap is going away: nothing is unguarded
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) and without_agent() == "start":
            return 0
        print(f"serai: {domain} may not start: its gates cannot be made ready ({error}). "
              "Is the agent running? See 'serai agent status'.", file=sys.stderr)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
