"""The disk of the database is full: changes are refused, with their records, and all else goes on."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from namespaces import enter_new_network, in_a_thread, ip
from sites import resources, site

from serai.wire import api
from serai.wire.client import Client, ClientError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small disk")


def on_a_small_disk(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """Give a test a directory with room for four megabytes, which nobody else sees."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        def body() -> None:
            enter_new_network()
            ip("link", "set", "lo", "up")
            mounted = ctypes.CDLL(None, use_errno=True).mount(b"none", str(tmp_path).encode(), b"tmpfs", 0, b"size=4m")
            assert mounted == 0, os.strerror(ctypes.get_errno())
            test(tmp_path)

        in_a_thread(body)

    return run


def refusal(client: Client) -> ClientError:
    """Make changes until one is refused: what is there already may have some room left."""
    for port in range(1000, 1100):
        request = api.ChangeRequest(files={"all.yaml": resources(port)}, message="x" * 4000)
        try:
            client.ask("POST", "/v1/apply", api.Applied, body=request)
        except ClientError as error:
            return error
    pytest.fail("the disk was never full")


@on_a_small_disk
def test_a_full_disk_refuses_changes_and_loses_nothing(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        assert at.apply(80) == 1
        ballast = tmp_path / "ballast"
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):  # noqa: PT012 (it is full at some time)
            while True:
                os.write(descriptor, bytes(4096))
        os.close(descriptor)
        with at.client() as client:
            error = refusal(client)
            assert error.status == 503, error
            assert "full" in str(error)
            revision = client.ask("GET", "/v1/status", api.Status).revision
            assert client.ask("GET", "/v1/resources", api.Page, params={"kind": "Policy"}).revision == revision
        ballast.unlink()
        at.until(lambda: at.apply(90) == revision + 1, "changes are made again")
        assert at.audit_is_whole()
