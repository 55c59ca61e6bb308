"""What a filter means, a record at a time: slow, obvious, and written without a look at the SQL. Tests hold the two together."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from serai.analysis.filter.fields import FIELDS
from serai.analysis.filter.kinds import Operator
from serai.analysis.filter.tree import And, Filter, Not, Or, Term
from serai.analysis.filter.values import Value
from serai.model import address
from serai.model.address import Prefix
from serai.model.flow import UNREAD
from serai.model.flow_record import Event
from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import WITH_PORTS
from serai.model.tenancy import Scope

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What the numbers in records stand for."""

    endpoints: Mapping[int, Row]
    """VMs as they were: ``path``, ``name``, ``tenant``, ``scope`` and the dict ``labels``."""
    vnics: Mapping[int, str]
    """Paths."""
    rules: Mapping[int, str]
    """Texts."""


class Records(Protocol):
    """A table of records: pyarrow's, or what gives its rows likewise."""

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return the rows; addresses are 16 bytes."""


def matches(what: Filter, records: Records, inventory: Inventory) -> npt.NDArray[np.bool_]:
    """Say of each record whether the filter holds.

    Args:
        what: the filter.
        records: with the columns of ``model/flow_record.py``, those that the controller adds included.
        inventory: what numbers stand for; those that it does not know have no name.
    """
    return np.array([_holds(what, row, inventory) for row in records.to_pylist()], dtype=bool)


def _holds(what: Filter, row: Row, inventory: Inventory) -> bool:
    match what:
        case And(parts):
            return all(_holds(part, row, inventory) for part in parts)
        case Or(parts):
            return any(_holds(part, row, inventory) for part in parts)
        case Not(part):
            return not _holds(part, row, inventory)
        case Term(operator=Operator.UNEQUAL):
            return not _compares(dataclasses.replace(what, operator=Operator.EQUAL), row, inventory)
        case Term(operator=Operator.UNLIKE):
            return not _compares(dataclasses.replace(what, operator=Operator.LIKE), row, inventory)
        case Term():
            return _compares(what, row, inventory)


def _compares(term: Term, row: Row, inventory: Inventory) -> bool:
    """Say whether one of the things that a field may mean compares so with one of the values."""
    things = _THINGS[term.field](row, inventory, term.key)
    return any(_one(term, thing, value) for thing in things for value in term.values)


def _one(term: Term, thing: Any, value: Value) -> bool:  # noqa: ANN401 - whatever a record may hold
    match thing, value:
        case str(), str() if term.field in {"scope", "peer.scope"}:
            return Scope(value).contains(Scope(thing))
        case str(), str() if term.operator is Operator.LIKE:
            pattern = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in value)
            return re.fullmatch(pattern, thing, re.DOTALL) is not None
        case str(), str():
            return thing == value
        case (int() as protocol, int() as port), PortRange():
            return _is_service(term.operator, protocol, port, value)
        case int(), PortRange():
            return _is_port(term.operator, thing, value)
        case int(), int():
            return _ORDERS[term.operator](thing, value)
        case bytes(), IPv4Network() | IPv6Network():
            return _lies_in(thing, value)
    return False


_ORDERS: Final[Mapping[Operator, Callable[[int, int], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.IN: operator.eq,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.MORE: operator.gt,
    Operator.AT_LEAST: operator.ge,
}


def _is_port(how: Operator, port: int, value: PortRange) -> bool:
    if how in {Operator.EQUAL, Operator.IN}:
        return value.first <= port <= value.last
    return port != 0 and _ORDERS[how](port, value.first)


def _is_service(how: Operator, protocol: int, port: int, value: PortRange) -> bool:
    is_protocol = protocol in WITH_PORTS if value.protocol == ANY_PROTOCOL else protocol == value.protocol
    return is_protocol and _is_port(how, port, value)


def _lies_in(raw: bytes, prefix: Prefix) -> bool:
    where = address.unpack(raw)
    if where == UNREAD:
        return prefix == address.prefix_of(UNREAD)
    return where.version == prefix.version and where in prefix


# What the fields mean: for one record, the things that are compared; where there are none, no comparison holds.


def _vm(number: int, inventory: Inventory) -> list[str]:
    known = inventory.endpoints.get(number)
    return [known["name"], known["path"]] if known else []


def _told(column: str, attribute: str) -> Callable[[Row, Inventory, str], list[Any]]:
    def told(row: Row, inventory: Inventory, _key: str) -> list[Any]:
        known = inventory.endpoints.get(row[column])
        return [known[attribute]] if known else []

    return told


def _label(column: str) -> Callable[[Row, Inventory, str], list[Any]]:
    def label(row: Row, inventory: Inventory, key: str) -> list[Any]:
        known = inventory.endpoints.get(row[column])
        labels = dict(known["labels"]) if known else {}
        return [labels[key]] if key in labels else []

    return label


def _end(own: int) -> Callable[[Row, Inventory, str], list[Any]]:
    """Take the VM's end where the direction is ``own``, else the other one."""

    def end(row: Row, inventory: Inventory, _key: str) -> list[Any]:
        mine = row["direction"] == own
        return [*_vm(row["vm" if mine else "peer"], inventory), row["local" if mine else "remote"]]

    return end


def _of(*columns: str) -> Callable[[Row, Inventory, str], list[Any]]:
    return lambda row, _inventory, _key: [row[column] for column in columns]


def _sum(*columns: str) -> Callable[[Row, Inventory, str], list[Any]]:
    return lambda row, _inventory, _key: [sum(row[column] for column in columns)]


def _event(event: Event) -> Callable[[Row, Inventory, str], list[Any]]:
    return lambda row, _inventory, _key: [int(event in Event(row["event"]))]


def _network(row: Row, _inventory: Inventory, _key: str) -> list[Any]:
    return [row["network"], row["network"].split(":")[-1]]


def _vnic(row: Row, inventory: Inventory, _key: str) -> list[Any]:
    path = inventory.vnics.get(row["vnic"])
    return [row["vnic"], *([path, path.split(":")[-1]] if path is not None else [])]


def _rule(row: Row, inventory: Inventory, _key: str) -> list[Any]:
    return [inventory.rules[row["rule"]]] if row["rule"] in inventory.rules else []


def _service(row: Row, _inventory: Inventory, _key: str) -> list[Any]:
    return [(row["protocol"], row["service"])]


def _port(row: Row, _inventory: Inventory, _key: str) -> list[Any]:
    service = [row["service"]] if row["protocol"] in WITH_PORTS else []
    return [row["local_port"], row["remote_port"], *service]


def _rtt(row: Row, _inventory: Inventory, _key: str) -> list[Any]:
    return [row["rtt_us"]] if row["rtt_us"] else []


_THINGS: Final[Mapping[str, Callable[[Row, Inventory, str], list[Any]]]] = {
    **{name: _of(*field.columns) for name, field in FIELDS.items() if field.columns == (name,)},
    "vm": lambda row, inventory, _key: _vm(row["vm"], inventory),
    "peer": lambda row, inventory, _key: _vm(row["peer"], inventory),
    "src": _end(0),
    "dst": _end(1),
    "peer.tenant": _told("peer", "tenant"),
    "scope": _told("vm", "scope"),
    "peer.scope": _told("peer", "scope"),
    "label": _label("vm"),
    "peer.label": _label("peer"),
    "network": _network,
    "vnic": _vnic,
    "addr": _of("local", "remote"),
    "service": _service,
    "port": _port,
    "rule": _rule,
    "bytes": _sum("bytes_out", "bytes_in"),
    "packets": _sum("packets_out", "packets_in"),
    "rtt": _rtt,
    "age": lambda row, _inventory, _key: [row["age_ms"] * 1000],
    "begins": _event(Event.BEGINS),
    "ends": _event(Event.ENDS),
}
