"""How single values of a filter are read from text, and written so that they are read again.

Whatever begins with ``read_`` raises ValueError with a sentence that says what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from serai.model import address
from serai.model.address import Prefix
from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import PROTOCOLS, format_ports, parse_ports
from serai.model.tenancy import Scope, is_name

Value = str | int | Prefix | PortRange
"""Texts and names; numbers, choices, yes and no, microseconds; addresses; ports (``ANY_PROTOCOL``: of every protocol that has ports)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Ask ``did you mean 'x'?`` where a known word looks like ``word``; else say nothing."""
    word = word[:100].lower()
    close = difflib.get_close_matches(word, sorted(known), n=3)
    # Of those that are about as near, the one that begins alike: people rarely mistype a first letter.
    close.sort(key=lambda found: found[0] != word[0])
    return f"did you mean {close[0]!r}?" if close else ""


# Texts


def read_text(text: str) -> str:
    """Read anything."""
    return text


def _is_path(text: str) -> bool:
    """Say whether it is ``NAME`` or ``SCOPE:NAME``."""
    scope, colon, name = text.rpartition(":")
    return is_name(name) and (not colon or _is_scope(scope))


def _is_scope(text: str) -> bool:
    try:
        Scope(text)
    except ValueError:
        return False
    return True


def read_vm(text: str) -> str:
    """Read a VM's name or path."""
    if not _is_path(text):
        raise ValueError(f"{text!r} is no VM: write a name, such as web-1, or a path, such as /acme/shop:web-1")
    return text


def read_network(text: str) -> str:
    """Read a network's name or path."""
    if not _is_path(text):
        raise ValueError(f"{text!r} is no network: write a name, such as front, or a path, such as /acme:front")
    return text


def read_vnic(text: str) -> Value:
    """Read a vNIC's path, whole or behind the scope, or its number."""
    if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text):
        return int(text, 16)
    vm, slash, name = text.rpartition("/")
    if not (slash and is_name(name) and _is_path(vm)):
        raise ValueError(f"{text!r} is no vNIC: write /acme/shop:web-1/nic0, web-1/nic0, or its number, such as 0x1f")
    return text


def write_vnic(value: Value) -> str:
    """Write what ``read_vnic`` reads."""
    return f"{value:#x}" if isinstance(value, int) else str(value)


def read_tenant(text: str) -> str:
    """Read a tenant's name; an empty one stands for the provider."""
    if text and not is_name(text):
        raise ValueError(f'{text!r} is no tenant: write a name, such as acme, or "" for what is the provider\'s own')
    return text


# Addresses


def read_address(text: str) -> Prefix:
    """Read an address or a prefix; bits behind its length are cleared."""
    try:
        return address.parse_prefix(text) if "/" in text else address.prefix_of(address.parse(text))
    except address.DisguiseError:
        raise
    except ValueError:
        raise ValueError(
            f"{text!r} is no address and no prefix: write 10.0.0.11, 10.0.0.0/8 or 2001:db8::/32"
        ) from None


def read_end(text: str) -> Value:
    """Read a VM's name or path, an address or a prefix."""
    if _is_path(text):
        return text
    try:
        return read_address(text)
    except address.DisguiseError:
        raise
    except ValueError:
        raise ValueError(
            f"{text!r} is no VM and no address: write web-1, /acme/shop:web-1, 10.0.0.11 or 10.0.0.0/8"
        ) from None


def write_address(value: Value) -> str:
    """Write what ``read_address`` or ``read_end`` reads."""
    if isinstance(value, Prefix) and not address.is_several(value):
        return str(value.network_address)
    return str(value)


# Ports and protocols


_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_LAST_PORT = 65535


def read_port(text: str) -> PortRange:
    """Read a port or a range of ports."""
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last <= _LAST_PORT:
        raise ValueError(f"{text!r} is no port: write 443, or 8000-8099; ports go from 0 to {_LAST_PORT}")
    return PortRange(protocol=ANY_PROTOCOL, first=first, last=last)


def read_service(text: str) -> PortRange:
    """Read ports of a protocol, all of a protocol, or ports alone."""
    if _PORTS.fullmatch(text):
        return read_port(text)
    protocol, slash, _ = text.partition("/")
    if text in PROTOCOLS or (slash and protocol in PROTOCOLS):
        ports = parse_ports(text)
        if ports:
            return ports
    raise ValueError(f"{text!r} is no service: write tcp/443, 443, 8000-8099, udp or icmp/8.0")


def write_ports(value: Value) -> str:
    """Write what ``read_port`` or ``read_service`` reads."""
    if not isinstance(value, PortRange) or value.protocol != ANY_PROTOCOL:
        return format_ports(value) if isinstance(value, PortRange) else str(value)
    return f"{value.first}" if value.first == value.last else f"{value.first}-{value.last}"


def read_protocol(text: str) -> int:
    """Read the name or the number of a protocol."""
    if text.lower() in PROTOCOLS:
        return PROTOCOLS[text.lower()]
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= 255:  # noqa: PLR2004 - a byte
        return int(text)
    known = nearest(text, PROTOCOLS) or f"write {', '.join(PROTOCOLS)}, or a number from 0 to 255"
    raise ValueError(f"{text!r} is no protocol: {known}")


_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def write_protocol(value: Value) -> str:
    """Write what ``read_protocol`` reads."""
    return _PROTOCOL_NAMES.get(value, str(value)) if isinstance(value, int) else str(value)


# Numbers


_COUNT_UNITS = {
    "": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_TIME_UNITS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
_COUNT = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?([kKMGT]?|[KMGT]i)B?")
_TIME = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?(us|ms|s|m|h|d)")
_LARGEST = 2**64 - 1


def _measured(match: re.Match[str] | None, units: Mapping[str, int]) -> int | None:
    """Return the whole number that was written with a unit; None where there is none, or it is too large."""
    if not match:
        return None
    fraction = match[2] or ""
    number, rest = divmod(int(match[1] + fraction) * units[match[3]], 10 ** len(fraction))
    return number if not rest and number <= _LARGEST else None


def read_count(text: str) -> int:
    """Read a whole number, perhaps with a unit."""
    number = _measured(_COUNT.fullmatch(text), _COUNT_UNITS)
    if number is None:
        raise ValueError(f"{text!r} is no number: write 1500, 20k, 1.5M (millions), 2Gi (times 1024^3)")
    return number


def write_count(value: Value) -> str:
    """Write what ``read_count`` reads, with the largest unit that loses nothing."""
    if isinstance(value, int):
        for unit in ("T", "G", "M", "k"):
            if value and value % _COUNT_UNITS[unit] == 0:
                return f"{value // _COUNT_UNITS[unit]}{unit}"
    return str(value)


def read_time(text: str) -> int:
    """Read a span of time with its unit, in microseconds."""
    number = _measured(_TIME.fullmatch(text), _TIME_UNITS)
    if number is None:
        raise ValueError(f"{text!r} is no span of time: write 500us, 10ms, 2.5s, 5m, 2h or 1d")
    return number


def write_time(value: Value) -> str:
    """Write what ``read_time`` reads, likewise."""
    if isinstance(value, int):
        unit = max((u for u in _TIME_UNITS if value % _TIME_UNITS[u] == 0), key=_TIME_UNITS.__getitem__)
        return f"{value // _TIME_UNITS[unit]}{unit}" if value else "0s"
    return str(value)


def read_flag(text: str) -> int:
    """Read yes or no."""
    if text.lower() not in {"yes", "no"}:
        raise ValueError(f"{text!r} is neither yes nor no")
    return int(text.lower() == "yes")


def write_flag(value: Value) -> str:
    """Write what ``read_flag`` reads."""
    return "yes" if value else "no"
