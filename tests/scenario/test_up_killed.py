"""Controller and agent are killed in one, at every step of a ruleset's way into the kernel: no packet meets a mixture."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest
from mortal_up import PLACES
from namespaces import Tap, ip
from test_agent_life import on_its_own, plugged
from test_up import Up, opens, site

from serai.wire import api

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it attaches programs to taps"),
]
MORTAL = Path(__file__).parents[1] / "faults" / "mortal_up.py"


def open_ports(first: Tap, second: Tap, *ports: int) -> list[int]:
    return [port for port in ports if opens(first, second, port)]


@on_its_own
def test_killed_at_every_step_into_the_kernel(tmp_path: Path) -> None:
    ip("link", "set", "lo", "up")
    Path("/run/serai").mkdir(exist_ok=True)
    assert ctypes.CDLL(None).mount(b"none", b"/run/serai", b"tmpfs", 0, None) == 0
    first, second = plugged("t1", "t2")
    place_file = tmp_path / "place"
    up = Up(tmp_path, program=[sys.executable, str(MORTAL), str(place_file)])
    up.ready()
    port = 80
    up.apply(site(port))
    up.guard()
    assert open_ports(first, second, port) == [port]
    for place in PLACES:
        place_file.write_text(place)
        with up.client() as client:
            client.ask("POST", "/v1/apply", api.Applied, body=api.ChangeRequest(files={"site.yaml": site(port + 1)}))
        assert up.process.wait(30) == -signal.SIGKILL, place
        assert open_ports(first, second, port, port + 1) in ([port], [port + 1]), f"{place}: a mixture is in force"
        up.start()
        up.ready()
        assert open_ports(first, second, port, port + 1) == [port + 1], place
        port += 1
    assert up.end(signal.SIGTERM) == 0
