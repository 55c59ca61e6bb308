"""The kinds of values that fields of a filter take."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Final

from serai.analysis.filter import values
from serai.analysis.filter.values import Value, nearest
from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import PROTOCOLS
from serai.model.tenancy import Scope


class Operator(enum.StrEnum):
    """How a field is compared. Those that begin with ``!`` hold exactly where the others do not."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    LIKE = "~"
    """``*`` stands for any text, ``?`` for one character."""
    UNLIKE = "!~"
    IN = "in"
    """Equal to one of several."""


EQUALITY: Final = (Operator.EQUAL, Operator.UNEQUAL, Operator.IN)
PATTERNS: Final = (Operator.LIKE, Operator.UNLIKE)
LONGEST_VALUE: Final = 500
"""Characters of one value; no name and no rule's text is as long."""
ORDER: Final = (Operator.LESS, Operator.AT_MOST, Operator.MORE, Operator.AT_LEAST)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """A kind of value."""

    takes: str
    """Examples, for a person."""
    operators: tuple[Operator, ...]
    read: Callable[[str], Value]
    """Raises ValueError with a sentence that says what to write instead."""
    write: Callable[[Value], str] = str
    """The one way in which ``read`` reads the same value again."""

    def value(self, operator: Operator, text: str) -> Value:
        """Read what stands behind an operator.

        Raises:
            ValueError: this kind has no such value, or none that can be compared so; the text says what to write instead.
        """
        if not text.isprintable() or "\\" in text:
            raise ValueError("a value has no backslashes and no characters that cannot be seen")
        if len(text) > LONGEST_VALUE:
            raise ValueError(f"a value has at most {LONGEST_VALUE} characters")
        if operator in PATTERNS:
            return _pattern(text)
        if Operator.LIKE in self.operators and ("*" in text or "?" in text):
            raise ValueError(f"{text!r} is a pattern: compare it with ~")
        value = self.read(text)
        if operator in ORDER and isinstance(value, PortRange) and not _is_one_port(value):
            raise ValueError(f"{text!r} has no order: compare a port, such as 1024")
        return value


def _pattern(text: str) -> str:
    if not text:
        raise ValueError("a pattern is not empty: * stands for any text, ? for one character")
    return text


def _is_one_port(ports: PortRange) -> bool:
    return ports.protocol == ANY_PROTOCOL and ports.first == ports.last


def choice(names: Mapping[str, int]) -> Kind:
    """Make the kind whose values are a few names, each for a number."""
    numbers = {number: name for name, number in names.items()}

    def read(text: str) -> int:
        if text.lower() not in names:
            known = nearest(text, names) or f"write one of {', '.join(names)}"
            raise ValueError(f"{text!r} is not known here: {known}")
        return names[text.lower()]

    def write(value: Value) -> str:
        return numbers[value] if isinstance(value, int) else str(value)

    return Kind(takes=", ".join(f"`{name}`" for name in names), operators=EQUALITY, read=read, write=write)


_NAMED = (*EQUALITY, *PATTERNS)

VM: Final = Kind(takes="name or path: `web-1`, `/acme/shop:web-1`", operators=_NAMED, read=values.read_vm)
NETWORK: Final = Kind(takes="name or path: `front`, `/acme:front`", operators=_NAMED, read=values.read_network)
VNIC: Final = Kind(
    takes="path or number: `web-1/nic0`, `/acme/shop:web-1/nic0`, `0x1f`",
    operators=_NAMED,
    read=values.read_vnic,
    write=values.write_vnic,
)
TENANT: Final = Kind(takes='name: `acme`; `""`: the provider', operators=_NAMED, read=values.read_tenant)
SCOPE: Final = Kind(takes="`/`, `/acme`, `/acme/shop`", operators=EQUALITY, read=Scope)
TEXT: Final = Kind(takes="text", operators=_NAMED, read=values.read_text)
ADDRESS: Final = Kind(
    takes="address or prefix: `10.0.0.11`, `2001:db8::/32`",
    operators=EQUALITY,
    read=values.read_address,
    write=values.write_address,
)
END: Final = Kind(
    takes="VM, address or prefix: `web-1`, `10.0.0.0/8`",
    operators=_NAMED,
    read=values.read_end,
    write=values.write_address,
)
PORT: Final = Kind(
    takes="`443`, `8000-8099`", operators=(*EQUALITY, *ORDER), read=values.read_port, write=values.write_ports
)
SERVICE: Final = Kind(
    takes="`tcp/443`, `443`, `tcp`, `icmp/8.0`",
    operators=(*EQUALITY, *ORDER),
    read=values.read_service,
    write=values.write_ports,
)
PROTOCOL: Final = Kind(
    takes=", ".join(f"`{name}`" for name in PROTOCOLS) + ", `0` to `255`",
    operators=EQUALITY,
    read=values.read_protocol,
    write=values.write_protocol,
)
COUNT: Final = Kind(
    takes="`1500`, `20k`, `1.5M`, `2Gi`",
    operators=(Operator.EQUAL, Operator.UNEQUAL, *ORDER),
    read=values.read_count,
    write=values.write_count,
)
TIME: Final = Kind(
    takes="`500us`, `10ms`, `2.5s`, `5m`, `2h`, `1d`", operators=ORDER, read=values.read_time, write=values.write_time
)
FLAG: Final = Kind(
    takes="`yes`, `no`", operators=(Operator.EQUAL, Operator.UNEQUAL), read=values.read_flag, write=values.write_flag
)
