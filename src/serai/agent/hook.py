#!/usr/bin/env python3
"""The libvirt hook: asks the agent to have gates on a domain's taps before its vCPUs run.

Installed by ``serai agent hook --install``. It uses the standard library only, so that it
starts in milliseconds and depends on nothing. What it prints on stderr reaches whoever started the domain.
It never lets a domain start whose taps are not guarded.
"""

from __future__ import annotations

import json
import socket
import sys

SOCKET = "/run/serai/agent.sock"
TIMEOUT_SECONDS = 10


def ask(request: dict[str, object]) -> dict[str, object]:
    """Send one request to the agent and return its reply.

    Raises:
        OSError: the agent does not answer.
        RuntimeError: it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(SOCKET)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as replies:
            reply = json.loads(replies.readline() or b'{"error": "the agent went away"}')
    if not isinstance(reply, dict) or "error" in reply:
        raise RuntimeError(reply["error"] if isinstance(reply, dict) else "the agent does not make sense")
    return reply


def main(arguments: list[str]) -> int:
    """Act on one call of libvirt: domain, operation, sub-operation, extra; the definition comes on stdin."""
    domain, operation, step = (*arguments[1:4], "", "", "")[:3]
    try:
        if (operation, step) == ("prepare", "begin"):
            ask({"ask": "status"})  # there is no tap yet, but without an agent it need not come that far
        elif (operation, step) == ("start", "begin"):
            if "guarded" not in ask({"ask": "guard", "definition": sys.stdin.read()}):
                raise RuntimeError("the agent does not say that they are")  # noqa: TRY301  # one way out for all
        elif operation == "release":
            ask({"ask": "release", "domain": domain})
    except (OSError, RuntimeError, ValueError) as error:
        if operation == "release":
            return 0  # the tap is going away: nothing is unguarded
        print(f"serai: {domain} may not start: its gates cannot be made ready ({error}). "
              "Is the agent running? See 'serai agent status'.", file=sys.stderr)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
