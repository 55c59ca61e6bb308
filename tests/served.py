"""An HTTP API on the loopback, with a service behind it, in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import structlog.testing
import uvicorn

from serai.controller.api.app import make_app
from serai.controller.api.doorkeeper import Limits
from serai.controller.api.facade import Facade


class Stand:
    """Stands for a service, which may be another one for each test: a server takes a while to begin and to end."""

    def __init__(self) -> None:
        self.service: object = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.service, name)


@contextlib.contextmanager
def served(
    service: Facade | Stand, *, limits: Limits | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """Serve until the end of the block; yields the URL. ``tls``: certificate and key."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    cert, key = tls or (None, None)
    config = uvicorn.Config(
        make_app(cast("Facade", service), limits), log_config=None, lifespan="off", ssl_certfile=cert, ssl_keyfile=key,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        with structlog.testing.capture_logs():  # they would stand among the answers
            yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
