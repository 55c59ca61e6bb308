"""One hypervisor host: a set of namespaces with a libvirtd that believes it owns a machine."""

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from serai.lab import hostfiles
from serai.lab.domain import Hypervisor
from serai.lab.error import LabError
from serai.lab.logs import tail
from serai.lab.namespace import call_in_namespace, namespace_path
from serai.lab.pki import make_host_certificate
from serai.lab.plan import LabPlan
from serai.lab.process import children, outside_pid
from serai.lab.state import LabState

_START_SECONDS = 30.0
# A daemon that cannot start at all ends within this time.
_SETTLE_SECONDS = 0.2
_POLL_SECONDS = 0.02
_TAP = "vnet"
"""What libvirt calls taps that it makes, before a number."""
_TAP_SECONDS = 0.005


class HypervisorHost:
    """A host of the lab. Making the object touches nothing; `start` makes the host."""

    def __init__(self, name: str, *, plan: LabPlan, state: LabState) -> None:
        """Describe the host called name of the plan."""
        self.spec = plan.host(name)
        self.name = name
        self.namespace = plan.host_namespace(name)
        """Name of its network namespace."""
        self.directory = state.host_directory(name)
        """Outside directory that holds its private directories."""
        self._plan = plan
        self._state = state

    @property
    def libvirt_uri(self) -> str:
        """URI of its libvirtd for a client outside (a unix socket; between hosts there is only TLS)."""
        return f"qemu+unix:///system?mode=legacy&socket={self.path(hostfiles.LIBVIRT_SOCKET)}"

    def migration_uri(self) -> str:
        """URI of its libvirtd as the other hosts reach it."""
        return f"qemu+tls://{self.name}/system?pkipath={hostfiles.PKI}"

    def path(self, inside: str | PurePosixPath) -> Path:
        """Map a path inside the host to the path outside; paths that hosts share are returned unchanged."""
        return hostfiles.outside_path(self.directory, PurePosixPath(inside))

    def install_hook(self, script: str) -> None:
        """Make script the host's libvirt hook for QEMU (before or after `start`)."""
        hook = self.path(hostfiles.HOOK)
        hook.parent.mkdir(parents=True, exist_ok=True)
        fresh = hook.with_name(".qemu.new")
        fresh.write_text(script)
        fresh.chmod(0o755)
        fresh.replace(hook)

    def prepare(self) -> None:
        """Write its private directories, certificate and configuration."""
        for mount in hostfiles.MOUNTS:
            (self.directory / mount.source).mkdir(parents=True, exist_ok=True)
        for inside in hostfiles.RUN_DIRECTORIES:
            self.path(inside).mkdir(parents=True, exist_ok=True)
        make_host_certificate(self._state.pki_directory, self.spec, self.path(hostfiles.PKI))
        self.path("/etc/libvirt/libvirtd.conf").write_text(hostfiles.libvirtd_conf(self._plan, self.spec))
        self.path("/etc/libvirt/qemu.conf").write_text(hostfiles.qemu_conf())
        (self.directory / hostfiles.HOSTS_FILE).write_text(hostfiles.hosts_file(self._plan))
        (self.directory / hostfiles.INIT_SCRIPT).write_text(hostfiles.init_script(self.directory, self.name))
        if not self.path(hostfiles.HOOK).exists():
            # libvirtd looks for the hook once, when it starts: there must be one to replace later.
            self.install_hook("#!/bin/sh\nexit 0\n")

    def start(self) -> None:
        """Start the host and wait until its libvirtd listens. LabError with its log when it does not."""
        log = self.directory / "init.log"
        go_read, go_write = os.pipe()
        try:
            pid = _start_outer(self.namespace, self.directory / hostfiles.INIT_SCRIPT, stdin=go_read, log=log)
            # The host waits for this word: had we died before the record was written, it would read the
            # end of the pipe and vanish, so there is no moment at which a host runs unrecorded.
            self._state.record_process(self._record_name("init"), pid)
            os.write(go_write, b"go\n")
        finally:
            os.close(go_read)
            os.close(go_write)
        self._wait_for_libvirtd(log)

    def running(self) -> bool:
        """Say whether the host's first process runs."""
        return self._init_pid() is not None

    def taps(self) -> set[str]:
        """Return the names of its guests' taps."""
        return call_in_namespace(
            self.namespace, lambda: {name for _, name in socket.if_nameindex() if name.startswith(_TAP)}
        )

    def next_tap(self, known: Collection[str], *, timeout_seconds: float) -> str:
        """Wait for a tap that is none of those known, and return its name at once. LabError when none comes."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if fresh := self.taps() - set(known):
                return fresh.pop()
            time.sleep(_TAP_SECONDS)
        raise LabError(f"no tap has come to host {self.name} within {timeout_seconds:.0f} s")

    def run(self, argv: Sequence[str], *, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host, wait for it, and return its status and output (text)."""
        try:
            return subprocess.run(
                self._nsenter(argv),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"`{shlex.join(argv)}` on host {self.name} took over {timeout_seconds:.0f} s") from error

    def spawn(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, name: str = "") -> int:
        """Start a daemon inside the host and return its pid as seen from outside.

        It belongs to the host's process namespace, ends with the host and outlives the caller. Its output is
        appended to log (an outside path). env is added to the caller's environment. It is recorded under name
        (default: the program's name). LabError with the end of its log when it ends at once.
        """
        # The shell ends right after the start, so the host's first process adopts the daemon and reaps it.
        launcher = 'setsid "$@" </dev/null >&2 & echo $!'
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            before = output.tell()
            done = subprocess.run(
                self._nsenter(["sh", "-c", launcher, "spawn", *argv]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **(env or {})},
                check=False,
                timeout=_START_SECONDS,
            )
        init = self._init_pid()
        inner = done.stdout.strip()
        pid = outside_pid(int(inner), init=init) if init is not None and inner.isdigit() else None
        record = self._state.record_process(self._record_name(name or PurePosixPath(argv[0]).name), pid or 0)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while record.alive() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not record.alive():
            raise LabError(f"{argv[0]} did not stay alive on host {self.name}: {tail(log, before)}")
        return record.pid

    def pid_in(self, inside: str) -> int:
        """Return the pid, as seen from outside, of the process whose number stands in a file of the host. LabError when it does not run."""
        init, inner = self._init_pid(), self.path(inside).read_text().strip()
        pid = outside_pid(int(inner), init=init) if init is not None and inner.isdigit() else None
        if pid is None:
            raise LabError(f"no process of host {self.name} has the number in {inside}")
        return pid

    def _record_name(self, what: str) -> str:
        return f"{self.name}.{what}"

    def _init_pid(self) -> int | None:
        record = self._state.process(self._record_name("init"))
        if record is None or not record.alive():
            return None
        inner = children(record.pid)
        return inner[0] if inner else None

    def _nsenter(self, argv: Sequence[str]) -> list[str]:
        init = self._init_pid()
        if init is None:
            raise LabError(f"host {self.name} is not running: bring the lab up first")
        # Not `ip netns exec`: that mounts a fresh /sys and so hides the host's bpffs.
        return ["nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--", *argv]

    def _wait_for_libvirtd(self, log: Path) -> None:
        hypervisor = Hypervisor(self.name, self.libvirt_uri)
        record = self._state.process(self._record_name("init"))
        deadline = time.monotonic() + _START_SECONDS
        while not hypervisor.alive():
            dead = record is None or not record.alive()
            if dead or time.monotonic() > deadline:
                what = "ended at once" if dead else f"does not answer after {_START_SECONDS:.0f} s"
                logs = (log, self.path("/var/log/libvirt/libvirtd.log"))
                raise LabError(f"libvirtd on host {self.name} {what}: {' | '.join(tail(each) for each in logs)}")
            time.sleep(_POLL_SECONDS)


def _start_outer(namespace: str, script: Path, *, stdin: int, log: Path) -> int:
    """Start the process that holds the host; killing it kills the host's pid 1 and so everything inside."""
    argv = [
        *("nsenter", f"--net={namespace_path(namespace)}"),
        *(
            "unshare",
            "--mount",
            "--propagation=slave",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ),
        *("bash", str(script)),
    ]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # Not subprocess: this process is to outlive us, and nobody waits for it.
        return os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # ignored by Python, and not to be by others
        )
    except FileNotFoundError as error:
        raise LabError("nsenter is not installed; run tools/setup") from error
    finally:
        os.close(output)
