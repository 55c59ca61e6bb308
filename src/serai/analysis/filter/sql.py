"""Writes filters as conditions of ClickHouse.

No text of a filter ever stands in SQL: values and the keys of labels are bound parameters, all else is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final

from serai.analysis.filter.errors import NotKeptError
from serai.analysis.filter.fields import FIELDS
from serai.analysis.filter.kinds import PATTERNS, Operator
from serai.analysis.filter.spans import address_spans, port_span
from serai.analysis.filter.tree import And, Filter, Not, Or, Term
from serai.analysis.filter.values import Value
from serai.model.address import Prefix
from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import FIRST_DYNAMIC, WITH_PORTS

VM_COLUMNS: Final = frozenset({"tenant", "vm", "protocol", "service", "direction", "verdict"})
"""What filters can ask of the rollups by VM."""
PAIR_COLUMNS: Final = VM_COLUMNS | {"peer", "rule"}
"""Likewise of those by pair; their ``remote`` is not that of the records where a VM is at the other end."""
PROTOCOL_COLUMNS: Final = frozenset({"tenant", "protocol", "verdict"})
"""Likewise of those by protocol."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """A condition, true or false for every record."""

    sql: str
    """An expression, in parentheses where it needs them."""
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Texts, numbers and IPv6 addresses, by the names in ``{name:Type}``. No text holds what ClickHouse would want escaped in one."""


def clause(what: Filter, columns: frozenset[str] | None = None) -> Clause:
    """Write a filter as a condition on the table ``flows``, or on a rollup that has no more than ``columns``.

    Raises:
        NotKeptError: the rollup cannot answer it; ``flows`` can.
    """
    writer = _Writer(columns)
    sql = writer.condition(what)
    return Clause(sql=sql, parameters=writer.parameters)


@dataclasses.dataclass(frozen=True, slots=True)
class _Texts:
    """Where the texts of a field stand."""

    within: str
    """The condition on a record, around that on the texts."""
    texts: tuple[str, ...]
    """One of them is compared."""


def _endpoints(who: str) -> str:
    return f"{who} IN (SELECT number FROM endpoints WHERE {{}})"  # noqa: S608 - of names in this file


_OPENER, _OPENED = "if(direction = 0, {0}, {1})", "if(direction = 0, {1}, {0})"
_BEHIND_SCOPE = "substring({0}, position({0}, ':') + 1)"
_TEXTS: Final[Mapping[str, _Texts]] = {
    "vm": _Texts(_endpoints("vm"), ("name", "path")),
    "peer": _Texts(_endpoints("peer"), ("name", "path")),
    "src": _Texts(_endpoints(_OPENER.format("vm", "peer")), ("name", "path")),
    "dst": _Texts(_endpoints(_OPENED.format("vm", "peer")), ("name", "path")),
    "tenant": _Texts("{}", ("tenant",)),
    "peer.tenant": _Texts(_endpoints("peer"), ("tenant",)),
    "scope": _Texts(_endpoints("vm"), ("scope",)),
    "peer.scope": _Texts(_endpoints("peer"), ("scope",)),
    "label": _Texts(_endpoints("vm"), ("labels[{key}]",)),
    "peer.label": _Texts(_endpoints("peer"), ("labels[{key}]",)),
    "network": _Texts("{}", ("network", _BEHIND_SCOPE.format("network"))),
    "vnic": _Texts("vnic IN (SELECT vnic FROM vnics WHERE {})", ("path", _BEHIND_SCOPE.format("path"))),
    "host": _Texts("{}", ("host",)),
    "rule": _Texts("rule IN (SELECT number FROM rules WHERE {})", ("text",)),
}
_ADDRESSES: Final = {
    "src": (_OPENER.format("local", "remote"),),
    "dst": (_OPENED.format("local", "remote"),),
}
"""What addresses are compared, where it is not the columns of the field."""
_NUMBERS: Final = {
    "age": "toUInt64(age_ms) * 1000",
    "begins": "bitTest(event, 0)",
    "ends": "bitTest(event, 1)",
}
"""What numbers are compared, likewise; else the sum of the columns."""
_PATTERN = "replaceAll(replaceAll(replaceAll(replaceAll({}, '%', '\\\\%'), '_', '\\\\_'), '*', '%'), '?', '_')"
"""The pattern of LIKE that means what a pattern of ours means."""
_HAS_PORTS = f"protocol IN ({', '.join(str(protocol) for protocol in sorted(WITH_PORTS))})"


class _Writer:
    def __init__(self, columns: frozenset[str] | None) -> None:
        self.parameters: dict[str, object] = {}
        self._columns = columns

    def condition(self, what: Filter) -> str:
        match what:
            case And(parts):
                return _joined(" AND ", (self.condition(part) for part in parts)) or "1"
            case Or(parts):
                return _joined(" OR ", (self.condition(part) for part in parts)) or "0"
            case Not(part):
                return f"(NOT {self.condition(part)})"
            case Term():
                return self._term(what)

    def _bound(self, kind: str, value: object) -> str:
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"

    def _need(self, field: str, *columns: str) -> None:
        if self._columns is not None and not self._columns.issuperset(columns):
            raise NotKeptError(field)

    def _term(self, term: Term) -> str:
        match term.operator:
            case Operator.UNEQUAL | Operator.UNLIKE:
                return f"(NOT {self._holds(term)})"
            case _:
                return self._holds(term)

    def _holds(self, term: Term) -> str:
        """Write it as if its operator had no ``!``; several values are alternatives."""
        texts = [value for value in term.values if isinstance(value, str)]
        others = [self._other(term, value) for value in term.values if not isinstance(value, str)]
        return _joined(" OR ", ([self._text(term, texts)] if texts else []) + others)

    def _other(self, term: Term, value: Value) -> str:
        match value:
            case PortRange():
                return self._ports(term, value)
            case int():
                return self._number(term, value)
            case str():
                return self._text(term, [value])
            case _:
                return self._address(term, value)

    def _text(self, term: Term, values: list[str]) -> str:
        """Write that one of the texts of a field is one of ``values``."""
        columns = FIELDS[term.field].columns
        self._need(term.field, *(column for column in columns if column not in {"local", "remote"}))
        where = _TEXTS[term.field]
        found = []
        key = self._bound("String", term.key) if term.key else ""
        for value in values:
            bound = self._bound("String", value)
            if term.field in {"scope", "peer.scope"}:
                below = self._bound("String", value.rstrip("/") + "/")
                found += [f"scope = {bound}", f"startsWith(scope, {below})"]
            elif term.operator in PATTERNS:
                found += [f"{text.format(key=key)} LIKE {_PATTERN.format(bound)}" for text in where.texts]
            else:
                found += [f"{text.format(key=key)} = {bound}" for text in where.texts]
        condition = _joined(" OR ", found)
        return f"({where.within.format(f'mapContains(labels, {key}) AND {condition}' if key else condition)})"

    def _number(self, term: Term, value: int) -> str:
        columns = FIELDS[term.field].columns
        self._need(term.field, *columns)
        compared = _NUMBERS.get(term.field, " + ".join(columns))
        operator = "=" if term.operator in {Operator.UNEQUAL, Operator.IN} else term.operator.value
        condition = f"({compared} {operator} {self._bound('UInt64', value)})"
        # Only one record of a conversation tells its round trip time; in the others it is 0.
        return f"(rtt_us != 0 AND {condition})" if term.field == "rtt" else condition

    def _address(self, term: Term, prefix: Prefix) -> str:
        columns = FIELDS[term.field].columns
        self._need(term.field, *(column for column in columns if column not in {"vm", "peer"}))
        found = []
        for first, last in address_spans(prefix):
            low, high = self._bound("IPv6", str(IPv6Address(first))), self._bound("IPv6", str(IPv6Address(last)))
            found += [f"({a} BETWEEN {low} AND {high})" for a in _ADDRESSES.get(term.field, columns)]
        return _joined(" OR ", found)

    def _ports(self, term: Term, ports: PortRange) -> str:
        if term.field == "service":
            return self._service(term, ports)
        columns = FIELDS[term.field].columns
        self._need(term.field, *columns)
        span = self._span(*port_span(term.operator, ports))
        found = [f"({column} {span})" for column in columns if column.endswith("port")]
        if "service" in columns:
            found.append(f"({_HAS_PORTS} AND service {span})")
        return _joined(" OR ", found)

    def _service(self, term: Term, ports: PortRange) -> str:
        self._need(term.field, "protocol")
        protocol = _HAS_PORTS
        if ports.protocol != ANY_PROTOCOL:
            protocol = f"protocol = {self._bound('UInt8', ports.protocol)}"
        first, last = port_span(term.operator, ports)
        if (first, last) == (0, 0xFFFF):
            return f"({protocol})"
        self._need(term.field, "service")
        if self._columns is not None and (first == 0 or last >= FIRST_DYNAMIC):
            raise NotKeptError(term.field, f" 0, nor from {FIRST_DYNAMIC}")
        return f"({protocol} AND service {self._span(first, last)})"

    def _span(self, first: int, last: int) -> str:
        return f"BETWEEN {self._bound('UInt32', first)} AND {self._bound('UInt32', last)}"


def _joined(word: str, conditions: Iterable[str]) -> str:
    """Join conditions in one pair of parentheses; none give nothing."""
    found = list(conditions)
    return f"({word.join(found)})" if len(found) > 1 else "".join(found)
