"""The lab's directory: what was made, written down before it is made."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path

import msgspec

from serai.lab.error import LabError
from serai.lab.hostfiles import guest_socket
from serai.lab.plan import LabPlan
from serai.lab.process import ProcessRecord

DEFAULT_STATE_DIRECTORY = Path("/run/serai-lab")
"""Where the lab keeps its state unless told otherwise (in memory: it does not outlive a reboot)."""

# What the kernel takes as the path of a unix socket.
_SOCKET_PATH_MAX = 107
_LONGEST_FIXED_SOCKET = "/run/libvirt/virtlogd-admin-sock"
_REMOVE_TRIES = 20


class LabState:
    """Records of one lab in one directory. Making the object touches nothing."""

    def __init__(self, directory: Path = DEFAULT_STATE_DIRECTORY) -> None:
        """Describe the state kept in directory (made on first use)."""
        self.directory = directory
        self._plan = directory / "plan.json"
        self._namespaces = directory / "namespaces"
        self._processes = directory / "processes"

    def host_directory(self, host: str) -> Path:
        """Directory that holds the private directories of one host."""
        return self.directory / "hosts" / host

    @property
    def pki_directory(self) -> Path:
        """Directory of the lab's certificate authority."""
        return self.directory / "pki"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lab for one command; LabError at once when another command holds it."""
        descriptor = self._open_locked()
        try:
            yield
        finally:
            os.close(descriptor)

    def exists(self) -> bool:
        """Say whether anything of a lab was recorded here and not yet taken down."""
        return self._plan.exists() or self._namespaces.exists() or self._processes.exists()

    def begin(self, plan: LabPlan) -> None:
        """Record the plan, before anything is made. LabError when a lab is recorded already."""
        if self.exists():
            raise LabError(f"a lab is up, or was interrupted, with its state in {self.directory}: take it down first")
        self._check_socket_paths(plan)
        self._namespaces.mkdir(mode=0o700, exist_ok=True)
        self._processes.mkdir(mode=0o700, exist_ok=True)
        _write(self._plan, msgspec.json.encode(plan, enc_hook=str))

    def plan(self) -> LabPlan | None:
        """Return the recorded plan; None when no lab is recorded."""
        try:
            return msgspec.json.decode(self._plan.read_bytes(), type=LabPlan, dec_hook=_decode_address)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise LabError(f"{self._plan} is damaged ({error}): take the lab down") from error

    def record_namespace(self, name: str) -> None:
        """Record that a network namespace of this name is about to be made."""
        _write(self._namespaces / name, b"")

    def namespaces(self) -> tuple[str, ...]:
        """Names of the network namespaces that were, or were about to be, made."""
        return tuple(sorted(path.name for path in _entries(self._namespaces)))

    def record_process(self, name: str, pid: int) -> ProcessRecord:
        """Record a process under a name; an older record of that name is replaced."""
        record = ProcessRecord.of(name, pid)
        _write(self._processes / f"{name}.json", msgspec.json.encode(record))
        return record

    def process(self, name: str) -> ProcessRecord | None:
        """Return the recorded process of that name, alive or not; None when there is none."""
        return next((record for record in self.processes() if record.name == name), None)

    def processes(self) -> tuple[ProcessRecord, ...]:
        """Every recorded process, alive or not."""
        found = []
        for path in sorted(_entries(self._processes)):
            # Written whole or not at all, so a bad one was never finished: nothing was started for it.
            with suppress(msgspec.MsgspecError, FileNotFoundError):
                found.append(msgspec.json.decode(path.read_bytes(), type=ProcessRecord))
        return tuple(found)

    def remove(self) -> None:
        """Remove the directory and all in it. The caller holds the lock and has taken down what is recorded."""
        for _ in range(_REMOVE_TRIES):
            shutil.rmtree(self.directory, ignore_errors=True)
            if not self.directory.exists():
                return
            # A process that was just killed may still have been writing here.
            time.sleep(0.05)
        raise LabError(f"cannot remove {self.directory}: something is still mounted or writing there")

    def _check_socket_paths(self, plan: LabPlan) -> None:
        sockets = [_LONGEST_FIXED_SOCKET, *(guest_socket(guest.domain) for guest in plan.guests)]
        host = max((host.name for host in plan.hosts), key=len)
        longest = f"{self.host_directory(host).absolute()}{max(sockets, key=len)}"
        if len(longest) > _SOCKET_PATH_MAX:
            raise LabError(
                f"state directory {self.directory} makes socket paths of {len(longest)} characters, but "
                f"{_SOCKET_PATH_MAX} is the limit: choose a shorter one"
            )

    def _open_locked(self) -> int:
        while True:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # `down` removes the directory while it holds the lock: then ours is a ghost, take the new one.
                if self.directory.exists() and self.directory.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            except BlockingIOError as error:
                os.close(descriptor)
                raise LabError(
                    f"another lab command is at work in {self.directory}: wait for it to end, or stop it"
                ) from error
            os.close(descriptor)


def _entries(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if not path.name.endswith(".new")]
    except FileNotFoundError:
        return []


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


def _decode_address(kind: type, value: object) -> object:
    if kind in {IPv4Address, IPv4Interface, IPv4Network, IPv6Interface} and isinstance(value, str):
        return kind(value)
    raise NotImplementedError(kind)
