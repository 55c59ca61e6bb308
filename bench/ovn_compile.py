"""What OVN needs to compile the data center, and to compile it again after one change."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from bench import ovn_content
from bench.ovn_content import ROLES, RULES, TENANT_PORTS, VNICS
from bench.ovn_packages import Programs
from bench.ovn_servers import Servers
from bench.ovsdb import Database, Operation

EDITS: Final = 5
"""Of a kind; the median counts."""

_COMPILER: Final = ("northd", "southbound")
"""Whose CPU time and memory count: what compiles, and what holds the result."""

_BATCH: Final = 20_000
_TENANT: Final = 9
_EDITED: Final = next(rule for rule in RULES if rule.name == "A2")
_MOVED: Final = 1
"""The VM."""


def measure(programs: Programs, ports: int) -> dict[str, float]:
    """Seconds, milliseconds and MiB by what they are of.

    Raises:
        MissingError: Memory runs short, or a server ends.

    """
    with tempfile.TemporaryDirectory(prefix="serai-ovn-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        servers = stack.enter_context(contextlib.closing(Servers(programs, directory)))
        files = {"northbound": ovn_content.records(ports), "southbound": iter(())}
        for database, records in files.items():
            ovn_content.write(directory / f"{database}.db", programs.schema(database), records)
        northbound, southbound = (
            stack.enter_context(contextlib.closing(servers.serve(directory / f"{database}.db", database)))
            for database in files
        )
        compiler = _Compiler(servers, northbound, southbound, ports)
        return compiler.full() | compiler.edits()


class _Compiler:
    """ovn-northd between its two databases."""

    def __init__(self, servers: Servers, northbound: Database, southbound: Database, ports: int) -> None:
        self._servers = servers
        self._northbound = northbound
        self._southbound = southbound
        self._ports = ports
        self._asked = ovn_content.FIRST
        self._chassis: dict[str, object] = {}
        self._bindings: dict[str, object] = {}

    def full(self) -> dict[str, float]:
        """Start it beside a northbound database that is full and a southbound one that knows the hosts only."""
        self._southbound.transact(list(_hosts(ovn_content.hosts(self._ports))))
        self._northbound.watch("NB_Global", "sb_cfg")
        self._servers.settle()
        places = (f"--ovn{name[0]}b-db=unix:{self._servers.socket(name)}" for name in ("northbound", "southbound"))
        before, began = self._servers.cpu_seconds("southbound"), time.monotonic()
        self._servers.start("northd", "ovn-northd", *places)
        self._servers.wait(self._northbound, "sb_cfg", self._asked)
        seconds, used = time.monotonic() - began, self._servers.cpu_seconds(*_COMPILER) - before
        return {"full_cpu_s": used, "full_wall_s": seconds, "rss_mb": self._servers.peak_mb(*_COMPILER)}

    def edits(self) -> dict[str, float]:
        """Let all VMs run on their hosts, then change one thing at a time."""
        self._chassis = {row["name"]: row["_uuid"] for row in self._southbound.select("Chassis", "_uuid", "name")}
        found = self._southbound.select("Port_Binding", "_uuid", "logical_port")
        self._bindings = {row["logical_port"]: row["_uuid"] for row in found}
        if len(self._bindings) != self._ports:
            raise RuntimeError(f"OVN made {len(self._bindings)} ports of {self._ports}")
        self._bind_all()
        edits = {"edit": self._change_rule, "move": self._move_vm, "global": self._grow_set}
        return {name: value for kind, edit in edits.items() for name, value in self._median(kind, edit)}

    def _median(self, kind: str, edit: Callable[[int], None]) -> Iterator[tuple[str, float]]:
        cpu_seconds, wall_seconds = zip(*(self._time(edit, number) for number in range(EDITS)), strict=True)
        yield f"{kind}_cpu_ms", 1000 * statistics.median(cpu_seconds)
        yield f"{kind}_wall_ms", 1000 * statistics.median(wall_seconds)

    def _time(self, edit: Callable[[int], None], number: int) -> tuple[float, float]:
        self._servers.settle()
        before, began = self._servers.cpu_seconds(*_COMPILER), time.monotonic()
        edit(number)
        self._servers.wait(self._northbound, "sb_cfg", self._asked)
        seconds = time.monotonic() - began
        return self._servers.cpu_seconds(*_COMPILER) - before, seconds

    def _change_rule(self, number: int) -> None:
        """Let the web servers of a tenant reach another port of its app servers."""
        rule = _EDITED._replace(match=_EDITED.match.replace("8080", str(8081 + number)))
        where = [["_uuid", "==", ["uuid", ovn_content.row_id("rule", _TENANT, rule.name)]]]
        row = {"match": ovn_content.match(rule, _TENANT)}
        self._northbound.transact([{"op": "update", "table": "ACL", "where": where, "row": row}, self._ask()])

    def _move_vm(self, number: int) -> None:
        """Let a VM run on the next host."""
        host = ovn_content.host(self._ports, _TENANT, _MOVED) + 1 + number
        binds = list(self._binds(_TENANT, _MOVED, host % ovn_content.hosts(self._ports)))
        # Our question is no part of the move: northd would often compute everything once more for it.
        with self._servers.paused("northd"):
            self._southbound.transact(binds)
            self._northbound.transact([self._ask()])
            self._southbound.tell()
            self._northbound.tell()

    def _grow_set(self, number: int) -> None:
        """Deny one more address to everybody."""
        change = ["addresses", "insert", f"203.0.113.{number}"]
        where = [["name", "==", "as_bad"]]
        self._northbound.transact(
            [{"op": "mutate", "table": "Address_Set", "where": where, "mutations": [change]}, self._ask()]
        )

    def _bind_all(self) -> None:
        """What the hosts' own controllers do; not part of the figures."""
        binds = [
            bind
            for tenant in range(self._ports // TENANT_PORTS)
            for vm in range(len(ROLES))
            for bind in self._binds(tenant, vm, ovn_content.host(self._ports, tenant, vm))
        ]
        for first in range(0, len(binds), _BATCH):
            self._southbound.transact(binds[first : first + _BATCH])
        self._northbound.transact([self._ask()])
        self._servers.wait(self._northbound, "sb_cfg", self._asked)

    def _binds(self, tenant: int, vm: int, host: int) -> Iterator[Operation]:
        row = {"chassis": self._chassis[_chassis(host)], "up": True}
        for number in range(VNICS * vm, VNICS * (vm + 1)):
            # By UUID: the server goes through the whole table for any other condition.
            where = [["_uuid", "==", self._bindings[ovn_content.port(tenant, number)]]]
            yield {"op": "update", "table": "Port_Binding", "where": where, "row": row}

    def _ask(self) -> Operation:
        """Ask to be told, as ``sb_cfg``, when the southbound database has all up to now."""
        self._asked += 1
        return {"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": self._asked}}


def _hosts(count: int) -> Iterable[Operation]:
    for host in range(count):
        name = _chassis(host)
        tunnel = {"type": "geneve", "ip": f"192.0.2.{host}", "chassis_name": name}
        yield {"op": "insert", "table": "Encap", "uuid-name": f"e{host}", "row": tunnel}
        row = {"name": name, "hostname": name, "encaps": ["named-uuid", f"e{host}"]}
        yield {"op": "insert", "table": "Chassis", "row": row}


def _chassis(host: int) -> str:
    return f"host{host}"
