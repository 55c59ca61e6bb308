"""The lab's controller: the real one, in a namespace on the underlay, with people's door on the machine's own loopback too."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serai.lab.error import LabError
from serai.lab.logs import tail
from serai.lab.namespace import namespace_path
from serai.lab.plan import LabPlan
from serai.lab.process import wait_until_gone
from serai.lab.state import LabState
from serai.model.migration import Receipt
from serai.wire import api, moveapi
from serai.wire.client import Client, ClientError
from serai.wire.profile import Profile, ProfileError, read

_NAME: Final = "controller"
_LOOPBACK: Final = "127.0.0.1"
_PORT: Final = 8743
_AGENTS_PORT: Final = 8744
_START_SECONDS: Final = 60.0
_HOLD_SECONDS: Final = 30.0
_GONE_SECONDS: Final = 20.0
_FREE_SECONDS: Final = 5.0
"""How long a process that was killed may take to let go of its sockets."""
_MOVE_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.05


class LabController:
    """Making the object touches nothing."""

    def __init__(
        self, plan: LabPlan, state: LabState, entry: Mapping[str, str], moves: Mapping[str, float] | None = None
    ) -> None:
        """Describe the controller of the lab of this plan; ``entry``: its settings about VMs that come in, ``moves``: about moves."""
        self._plan, self._state, self._entry, self._moves = plan, state, entry, moves or {}
        self._directory = state.directory / _NAME
        self.log = self._directory / "controller.log"
        """Where it writes."""

    @property
    def url(self) -> str:
        """Where the hosts reach it."""
        return f"https://{self._plan.controller_underlay}:{_PORT}"

    def start(self) -> None:
        """Start it, and wait until it answers. LabError with the end of its log when it does not."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        config = self._directory / "controller.toml"
        config.write_text(self._config())
        with _people_socket(self._known_port()) as door:
            port = door.getsockname()[1]
            command = [
                *("nsenter", f"--net={namespace_path(self._plan.controller_namespace)}", "--"),
                *(sys.executable, "-m", "serai.cli.main", "controller", "run", "--config", str(config)),
                *("--listen-fd", str(door.fileno())),
            ]
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[door.fileno()],
                    start_new_session=True,
                    env={**os.environ, "COLUMNS": "200"},
                )
            self._state.record_process(_NAME, process.pid)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the controller does not answer: {tail(self.log)}")
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it is gone."""
        record = self._state.process(_NAME)
        if record is None or not record.alive():
            raise LabError("the lab has no running controller")
        record.kill()
        if not wait_until_gone([record], timeout_seconds=_GONE_SECONDS):
            raise LabError("the controller does not end")

    def answers(self) -> bool:
        """Say whether it does what it should."""
        try:
            with self.client() as client:
                return client.health().ok
        except (LabError, ClientError):
            return False

    def profile(self) -> Profile:
        """Whom people of this lab talk to, from this machine. LabError when it has never been up."""
        try:
            return read(self._people)
        except ProfileError as error:
            raise LabError("the lab's controller has never been up: take the lab down and bring it up again") from error

    def environment(self) -> Mapping[str, str]:
        """What the shell of somebody must have set who wants to talk to it with `serai`."""
        profile = self.profile()
        return {"SERAI_URL": profile.url, "SERAI_TOKEN": profile.token or "", "SERAI_CA": str(profile.ca)}

    def client(self) -> Client:
        """Return a client, to be used as a context manager. LabError when it has never been up."""
        return Client(self.profile())

    def join_token(self, host: str) -> str:
        """Make a token with which a host may join."""
        with self.client() as client:
            return client.ask("POST", "/v1/join-tokens", api.JoinToken, body=api.JoinTokenRequest(host=host)).token

    def apply(self, files: Mapping[str, str]) -> api.Applied:
        """Put these files, and nothing else, into force. ClientError where they cannot be; LabError where somebody must agree."""
        with self.client() as client:
            body = api.ChangeRequest(files=dict(files), prune="/", message="the lab's policies")
            done = client.either("POST", "/v1/apply", api.Applied, api.Proposed, body=body)
        if isinstance(done, api.Proposed):
            raise LabError(
                f"the policies want somebody else's word for this change: it waits as proposal {done.proposal}; "
                "in the lab, write approval: 1"
            )
        return done

    def wait_held(self, revision: int) -> None:
        """Wait until every host holds what is in force at ``revision``. LabError when one does not in time."""
        with self.client() as client:
            params = {"revision": revision, "timeout": _HOLD_SECONDS}
            status = client.ask("GET", "/v1/wait", api.Status, params=params, seconds=_HOLD_SECONDS + 10)
        behind = [host for host in status.hosts if host.behind or not host.connected]
        if behind:
            raise LabError(
                f"host {', '.join(host.name for host in behind)} does not hold revision {revision} and goes on with what it has: "
                f"{'; '.join(filter(None, (host.trouble for host in behind))) or f'see {self.log}'}"
            )

    def move(self, vm: str, to: str) -> Receipt:
        """Have a VM moved, and wait until that is over. LabError when it stayed where it was, ClientError when it may not be moved."""
        with self.client() as client:
            body = moveapi.MoveRequest(vm=vm, to=to)
            found = client.ask("POST", "/v1/moves", moveapi.Move, body=body)
            deadline = time.monotonic() + _MOVE_SECONDS
            while found.ended is None and time.monotonic() < deadline:
                params = {"seen": found.version, "timeout": 5}
                found = client.ask("GET", f"/v1/moves/{found.id}", moveapi.Move, params=params)
        if found.state != "done" or found.receipt is None:
            raise LabError(f"{vm} has not moved to host {to}: it is {found.state} ({found.why or f'see {self.log}'})")
        return found.receipt

    @property
    def _people(self) -> Path:
        return self._directory / "people.toml"

    def _config(self) -> str:
        entry = "".join(f'{name} = "{value}"\n' for name, value in self._entry.items())
        moves = "".join(f"{name} = {value}\n" for name, value in self._moves.items())
        names = ", ".join(f'"{name}"' for name in (self._plan.controller_underlay, _LOOPBACK))
        return f"""\
database = "sqlite:///{self._directory}/serai.db"
keys = "{self._directory}/keys"
names = [{names}]
address = "{self._plan.controller_underlay}"
port = {_PORT}
agents_port = {_AGENTS_PORT}
client = "{self._directory}/client.toml"

[entry]
{entry}
[moves]
{moves}
[flows]
directory = "{self._directory}/flows"
disk_gigabytes = 0.2
"""

    def _known_port(self) -> int:
        """The port on loopback that it had before; 0: none yet."""
        try:
            return int(self.profile().url.rpartition(":")[2])
        except LabError:
            return 0

    def _ready(self, port: int) -> bool:
        """Say whether it does what it should, and keep who may ask it, once that is known."""
        if not self._people.exists():
            first = self._directory / "client.toml"
            if not first.exists():
                return False
            # The controller's own names are for the underlay; from this machine's namespace it has another.
            made = read(first)
            dataclasses.replace(made, url=f"https://{_LOOPBACK}:{port}").write(self._people)
        return self.answers()


def _people_socket(port: int) -> socket.socket:
    """Open the door for people of this machine. LabError when somebody else has taken the port."""
    deadline = time.monotonic() + _FREE_SECONDS
    while True:
        try:
            return socket.create_server((_LOOPBACK, port))
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(
                    f"port {port} of {_LOOPBACK}, where this lab's controller was, is taken: {error}"
                ) from error
        time.sleep(_POLL_SECONDS)
