"""systemd is told when there is one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from serai.wire.notify import tell_ready


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told(tmp_path: Path, *, abstract: bool) -> None:
    address = f"@serai-{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        manager.settimeout(5)
        assert tell_ready({"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:1:2", "/nonexistent/notify"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    assert not tell_ready({"NOTIFY_SOCKET": address})


def test_without_systemd() -> None:
    assert not tell_ready({})
