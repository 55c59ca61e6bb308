"""An agent as its unit runs it: nobody's user, three capabilities and no way to more. The gates are the kernel's own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from test_agent_life import SERAI, on_its_own, passes, plugged, wait

from serai.wire import local

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives capabilities to others"),
]
NOBODY = 65534
_DETACH = 2
UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "serai-agent.service"


def capabilities() -> list[str]:
    """Those that the unit leaves."""
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("CapabilityBoundingSet=")]
    return [word.removeprefix("CAP_").lower() for word in line.partition("=")[2].split()]


def as_the_unit_does() -> list[str]:
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities())])
    sets = (word for name in ("bounding-set", "inh-caps", "ambient-caps") for word in (f"--{name}", kept))
    user = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs")
    return ["setpriv", "--pdeathsig", "KILL", *user, *sets, "--"]


@on_its_own
def test_three_capabilities_are_enough(tmp_path: Path) -> None:
    assert capabilities() == ["bpf", "net_admin", "perfmon"]
    if subprocess.run([*as_the_unit_does(), *SERAI, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this checkout is not for everybody to read")
    place = Path("/run/serai-test")
    place.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None)
    assert libc.mount(b"none", str(place).encode(), b"tmpfs", 0, f"uid={NOBODY},mode=700".encode()) == 0
    pins = place / "bpf"
    pins.mkdir()
    assert libc.mount(b"bpf", str(pins).encode(), b"bpf", 0, f"uid={NOBODY},mode=700".encode()) == 0
    os.chown(pins, NOBODY, NOBODY)  # before 6.6 the kernel knows no owner of a bpffs
    first, second = plugged("t1", "t2")
    assert passes(first, second), "without gates everything passes"
    socket = place / "agent.sock"
    command = [
        *as_the_unit_does(), *SERAI, "agent", "run", "--host", "a", "--socket", str(socket), "--state", str(place),
        "--bpffs", str(pins), "--libvirt", "test:///default",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(command, stderr=log, stdout=log)

    def gates() -> set[str]:
        assert agent.poll() is None, (tmp_path / "log").read_text()
        try:
            return {gate.tap for gate in local.ask(socket, local.Status(), local.StatusReply).gates}
        except local.AgentError:
            return set()

    wait(lambda: gates() == {"t1", "t2"}, "both taps have gates")
    status = Path(f"/proc/{agent.pid}/status").read_text()
    assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
    assert "NoNewPrivs:\t1" in status
    assert not passes(first, second)
    agent.terminate()
    assert agent.wait(30) == 0
    assert not passes(first, second), "the gates stay"
    libc.umount2(str(place).encode(), _DETACH)
    place.rmdir()


def test_who_may_read_images_is_told_in_a_file_of_its_own(tmp_path: Path) -> None:
    images = UNIT.with_name("images.conf")
    (line,) = [line for line in images.read_text().splitlines() if line.startswith("CapabilityBoundingSet=")]
    assert line == "CapabilityBoundingSet=CAP_DAC_READ_SEARCH"
    file = tmp_path / "image"
    file.write_text("of root")
    file.chmod(0o600)
    without = as_the_unit_does()
    for command, status in ((without, 1), ([word.replace("+bpf", "+bpf,+dac_read_search") for word in without], 0)):
        done = subprocess.run([*command, "cat", str(file)], capture_output=True, check=False)
        assert done.returncode == status, done.stderr
