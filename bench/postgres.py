"""PostgreSQL for tests: a cluster of one's own in a directory of its own, which listens on a unix socket there and nowhere else.

It ends with the block that it is made in, and with the process that made it, however that ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

_USER: Final = "postgres"
"""Who runs the server where the tests run as root, whom PostgreSQL refuses to run as; also the only role of the cluster."""

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 20.0

_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "logging_collector": "off",
    "autovacuum": "off",
}


class Cluster:
    """A server with its data, which can be stopped, killed and started again."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        """``directory`` is there and belongs to whoever runs the server; nothing is started yet."""
        self.directory = directory
        self._settings = _SETTINGS | ({"fsync": "on", "full_page_writes": "on"} if durable else {})
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The address of the database that is there from the beginning."""
        return self.url_of(_USER)

    def url_of(self, database: str) -> str:
        """Return the address of a database of this cluster."""
        return f"postgresql://{_USER}@/{database}?host={self.directory}"

    def create_database(self, *, template: str = "template0") -> str:
        """Make another database and return its name."""
        name = f"db{next(self._numbers)}"
        self._administer(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, template))))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def connect(self, database: str = _USER) -> psycopg.Connection:
        """Connect past the store: to look, or to tamper."""
        return psycopg.connect(self.url_of(database), autocommit=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = ["postgres", "-D", str(self._data), "-k", str(self.directory), *settings]
        with (self.directory / "log").open("ab") as log:
            # QUIT is PostgreSQL's word for "at once": it reaches the server when this process dies.
            self._process = subprocess.Popen(
                [*_as_server(), "--pdeathsig", "QUIT", *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.stop(kill=True)
                    raise RuntimeError(f"PostgreSQL does not start:\n{(self.directory / 'log').read_text()}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server, or have it and all its processes killed with no time to put anything in order."""
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            backends = _children(process.pid)
            process.kill()
            for pid in backends:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def initialize(self) -> None:
        """Make the files of an empty cluster."""
        subprocess.run(
            [
                *_as_server(), "initdb", "-D", self._data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C",
                "--no-sync", "--no-instructions",
            ],
            check=True, capture_output=True,
        )  # fmt: skip

    def _administer(self, statement: sql.Composed) -> None:
        with contextlib.closing(self.connect()) as connection:
            connection.execute(statement)

    @property
    def _data(self) -> Path:
        return self.directory / "data"


@contextlib.contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Make a cluster that runs until the block ends.

    Args:
        durable: what is committed outlives the machine; tests that kill the server alone need not ask for that.
    """
    directory = Path(tempfile.mkdtemp(prefix="serai-pg-"))
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam(_USER)
            os.chown(directory, account.pw_uid, account.pw_gid)
        made = Cluster(directory, durable=durable)
        made.initialize()
        made.start()
        try:
            yield made
        finally:
            made.stop(kill=not durable)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _as_server() -> list[str]:
    if os.geteuid() != 0:
        return ["setpriv"]
    return ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"]


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
