"""Tells systemd, where it has started this program and asks, that it is ready."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


def tell_ready(environment: Mapping[str, str]) -> bool:
    """Say ``READY=1`` to the socket that ``NOTIFY_SOCKET`` names, and return whether anybody was told."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, contextlib.suppress(OSError):
        told.connect("\0" + address[1:] if address.startswith("@") else address)
        told.sendall(b"READY=1")
        return True
    return False
