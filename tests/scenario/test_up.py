"""``serai up`` on a host of its own: from nothing to a policy that a kernel enforces, and what holds when it is killed."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cases import MAC, PEER_MAC, V4
from frames import SYN, TCP, tcp
from namespaces import Tap, ip
from test_agent_life import PATIENCE, SERAI, definition, on_its_own, plugged, wait

from serai.wire import api, local, placementapi
from serai.wire.client import Client, ClientError
from serai.wire.profile import ProfileError, find

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it attaches programs to taps"),
]


def site(port: int) -> str:
    """Two VMs, and what either may open to the other."""
    vms = "".join(
        f"""---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {{name: {name}, scope: /acme}}
spec: {{host: a, vnics: [{{network: front, mac: "{mac}", addresses: [10.0.0.{number}]}}]}}
"""
        for number, (name, mac) in enumerate((("vm", MAC), ("peer", PEER_MAC)), 1)
    )
    return f"""apiVersion: serai.dev/v1
kind: Site
metadata: {{name: site}}
spec: {{mode: enforce}}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {{name: a}}
---
apiVersion: serai.dev/v1
kind: Pool
metadata: {{name: west}}
spec: {{hosts: [a], requires: {{memory: 64}}}}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {{name: acme}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {{name: front, scope: /acme}}
spec: {{subnets: [10.0.0.0/24]}}
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {{name: all, scope: /acme}}
spec:
  tier: Tenant
  ingress: [{{name: some, action: Accept, ports: [tcp/{port}]}}]
{vms}"""


NODE = "<node>{}</node>".format(
    "".join(
        f"<domain type='test'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os><devices>"
        f"<interface type='ethernet'><mac address='{mac}'/><target dev='{tap}'/></interface></devices></domain>"
        for name, tap, mac in (("vm", "t1", MAC), ("peer", "t2", PEER_MAC))
    )
)
"""What libvirt's driver for tests runs: these two, from the beginning."""


class Up:
    """``serai up`` as a process, with all that it keeps in one directory."""

    def __init__(self, directory: Path, program: Sequence[str] = SERAI) -> None:
        self.directory, self.program = directory, program
        self.socket = Path("/run/serai/agent.sock")
        (directory / "controller.toml").write_text(
            f'database = "sqlite:///{directory}/serai.db"\nkeys = "{directory}/keys"\nnames = ["localhost"]\n'
            f'address = "127.0.0.1"\nclient = "{directory}/client.toml"\n'
        )
        (directory / "node.xml").write_text(NODE)
        (directory / "policies").mkdir(exist_ok=True)
        self.start()

    def start(self, *more: str) -> None:
        command = [
            "setpriv", "--pdeathsig", "KILL", "--", *self.program, "up", "--host", "a", "--config", self.directory / "controller.toml",
            "--state", self.directory / "state", "--libvirt", f"test://{self.directory}/node.xml", *more,
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stderr=log, stdout=log)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def client(self) -> Client:
        return Client(find({"XDG_CONFIG_HOME": str(self.directory / "nowhere")}, self.directory / "client.toml"))

    def ready(self) -> None:
        def stands() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                with self.client() as client:
                    status = client.ask("GET", "/v1/status", api.Status)
            except (ClientError, ProfileError):
                return False
            return [(host.connected, host.behind) for host in status.hosts] == [(True, False)]

        wait(stands, "the host holds what it should")

    def apply(self, text: str) -> int:
        """Put a file into force, and wait until the kernel has it."""
        with self.client() as client:
            request = api.ChangeRequest(files={"site.yaml": text})
            applied = client.ask("POST", "/v1/apply", api.Applied, body=request)
            params = {"revision": applied.revision, "timeout": 20}
            assert not client.ask("GET", "/v1/wait", api.Status, params=params, seconds=30).behind
            return applied.revision

    def admission(self) -> placementapi.Admission | None:
        """Return what is said of the host in its pool; None: it has not told what it is made of yet."""
        with self.client() as client:
            try:
                return client.ask("GET", "/v1/pools/west/admission/a", placementapi.Admission)
            except ClientError as error:
                if error.name != "not-found":
                    raise
                return None

    def guard(self) -> None:
        for name, tap, mac in (("vm", "t1", MAC), ("peer", "t2", PEER_MAC)):
            asked = local.Guard(definition=definition(name, tap, mac))
            assert local.ask(self.socket, asked, local.GuardReply).guarded == [tap], self.log()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def opens(source: Tap, target: Tap, port: int) -> bool:
    """Say whether a connection to ``port`` gets through to the other VM."""
    target.received()
    opens.source += 1  # type: ignore[attr-defined]  # each time a flow of its own
    source.send(V4.out(TCP, tcp(opens.source, port, SYN)))  # type: ignore[attr-defined]
    return bool(select.select([target.fd], [], [], 0.1)[0])


opens.source = 2000  # type: ignore[attr-defined]


@on_its_own
def test_from_nothing_to_a_policy_that_is_enforced_and_outlives_it(tmp_path: Path) -> None:
    ip("link", "set", "lo", "up")
    Path("/run/serai").mkdir(exist_ok=True)
    assert ctypes.CDLL(None).mount(b"none", b"/run/serai", b"tmpfs", 0, None) == 0
    first, second = plugged("t1", "t2")
    up = Up(tmp_path)
    up.ready()
    assert not opens(first, second, 80), "nothing is known of these VMs yet"
    assert up.apply(site(80)) == 1
    up.guard()
    assert opens(first, second, 80)
    assert not opens(first, second, 81)
    wait(lambda: up.admission(), "the host tells what it is made of")  # noqa: PLW0108 (that is asked again and again)
    admitted = up.admission()
    assert admitted
    assert (admitted.fits, admitted.connected, admitted.member) == (True, True, True)
    assert up.apply(site(81)) == 2
    assert opens(first, second, 81)
    assert not opens(first, second, 80)

    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    assert opens(first, second, 81), "the gates go on"
    assert not opens(first, second, 80)
    up.start()
    up.ready()
    assert opens(first, second, 81)
    assert up.apply(site(82)) == 3
    assert opens(first, second, 82)
    assert not opens(first, second, 81)

    assert up.end(signal.SIGTERM) == 0
    assert opens(first, second, 82)
    assert not opens(first, second, 80)


@on_its_own
def test_what_it_cannot_do_is_one_sentence(tmp_path: Path) -> None:
    ip("link", "set", "lo", "up")
    (tmp_path / "controller.toml").write_text(f'database = "mysql://x"\nkeys = "{tmp_path}/keys"\n')
    (tmp_path / "odd.toml").write_text("port = 'a'\n")
    for more, sentence in (
        (["--config", tmp_path / "controller.toml"], "mysql"),
        (["--config", tmp_path / "odd.toml"], "port"),
        (["--policies", tmp_path / "missing"], "does not exist"),
    ):
        command = [*SERAI, "up", "--host", "a", "--state", tmp_path / "state", *more]
        told = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE, check=False,
            env={**os.environ, "SERAI_LOG_LEVEL": "error"},
        )  # fmt: skip
        assert told.returncode == 2, told.stderr
        assert sentence in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1, told.stderr
    assert not (tmp_path / "keys").exists()
