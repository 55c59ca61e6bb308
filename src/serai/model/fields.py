"""What single fields of a resource may hold. Every check says in one sentence what to write instead."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, PlainValidator
from pydantic_core import PydanticCustomError

from serai.model import address
from serai.model.inventory import Mac
from serai.model.ports import parse_ports
from serai.model.tenancy import ROOT, Scope, is_name

_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
ETHERTYPE_FIRST, ETHERTYPE_LAST = 0x0600, 0xFFFF
"""Below are lengths of IEEE 802.3 frames."""
LONGEST_LINE = 200
"""How long a description may be."""
_INSPECTED = {
    0x0800: "IPv4", 0x86DD: "IPv6", 0x0806: "ARP", 0x8035: "RARP", 0x8100: "a VLAN tag", 0x88A8: "a VLAN tag",
    0x9100: "a VLAN tag",
}  # fmt: skip
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOMAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]{0,127}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        kind = "string_type"
        raise PydanticCustomError(kind, "must be text")
    return value


def _name(value: object) -> str:
    text = _text(value)
    if not is_name(text):
        message = f"{text!r} is not a name: use 1 to 63 lower-case letters, digits and inner '-'"
        raise ValueError(message)
    return text


def _scope(value: object) -> Scope:
    return Scope(_text(value))


def _root(value: object) -> Scope:
    if _text(value) != ROOT:
        message = f"must be '/' or left out, not {value!r}: this kind belongs to the provider"
        raise ValueError(message)
    return ROOT


def _mac(value: object) -> Mac:
    return Mac(_text(value))


def _address(value: object) -> address.Address:
    text = _text(value)
    try:
        return address.parse(text)
    except address.DisguiseError:
        raise
    except ValueError:
        message = f"{text!r} is not an IP address: write one such as 10.0.0.11 or 2001:db8::11"
        raise ValueError(message) from None


def _station(value: object) -> address.Address:
    """Take an address that one station can send from."""
    found = _address(value)
    if kind := _nobodys(found):
        message = f"{found} is {kind} address: no station can have it"
        raise ValueError(message)
    return found


def _nobodys(place: address.Address | address.Prefix) -> str | None:
    """Say what kind of address it is that stands for no single station; None where there is nothing to say."""
    if place.is_multicast:
        return "a multicast"
    if place.is_unspecified:
        return "the unspecified"
    if place.is_loopback:
        return "a loopback"
    return "the broadcast" if str(place) in {"255.255.255.255", "255.255.255.255/32"} else None


def _prefix(value: object) -> address.Prefix:
    text = _text(value)
    try:
        network = address.parse_prefix(text)
    except address.DisguiseError:
        raise
    except ValueError:
        message = f"{text!r} is not a prefix: write an address and a length such as 10.0.0.0/24 or 2001:db8::/64"
        raise ValueError(message) from None
    written = text.partition("/")[0]
    if network.network_address != address.parse(written):
        message = f"{text!r} has bits set behind its length: write {network} for the whole prefix"
        if address.is_several(network):
            message += f", or {written}/{network.max_prefixlen} for the one address"
        raise ValueError(message)
    return network


def _subnet(value: object) -> address.Prefix:
    prefix = _prefix(value)
    if prefix.version == address.LINK_LOCAL.version and prefix.overlaps(address.LINK_LOCAL):
        message = f"{prefix} has link-local addresses: every link has them, without a subnet"
        raise ValueError(message)
    return prefix


def _allowed_prefix(value: object) -> address.Prefix:
    """Take a prefix, or an address for itself alone."""
    text = _text(value)
    prefix = _prefix(text) if "/" in text else address.prefix_of(_address(text))
    if kind := _nobodys(prefix):
        message = f"{text!r} is {kind} address: no station can have it"
        raise ValueError(message)
    return prefix


def _ethertype(value: object) -> int:
    if type(value) is not int and not isinstance(value, str):
        kind = "int_type"
        raise PydanticCustomError(kind, "must be a whole number")
    number = value if isinstance(value, int) else _hexadecimal(value)
    if number is None or not ETHERTYPE_FIRST <= number <= ETHERTYPE_LAST:
        message = f"{value!r} is not an ethertype: write a number from 0x0600 to 0xffff, such as 0x88cc (LLDP)"
        raise ValueError(message)
    if number in _INSPECTED:
        message = f"{number:#06x} is {_INSPECTED[number]}: the gate looks into it, or drops it, for every vNIC"
        raise ValueError(message)
    return number


def _hexadecimal(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,4}", text) else None


def _reference(value: object) -> str:
    """Take a name to be looked up from the scope upwards, or a full path ``/scope:name``."""
    text = _text(value)
    if not text.startswith("/"):
        return _name(text)
    scope, colon, name = text.partition(":")
    if not colon:
        message = f"{text!r} is not a reference: write a name, or a full path such as /acme:front"
        raise ValueError(message)
    return f"{Scope(scope)}:{_name(name)}"


def _ports(value: object) -> str:
    # An unquoted protocol number is a number to YAML; there is nothing else that it could mean.
    text = str(value) if type(value) is int else _text(value)
    return _reference(text) if parse_ports(text) is None else text


def _service_port(value: object) -> str:
    text = _ports(value)
    if parse_ports(text) is None:
        message = f"{text!r} is not a port: a Service cannot be made of other Services"
        raise ValueError(message)
    return text


def _service_name(value: object) -> str:
    text = _name(value)
    if text.isdecimal() or parse_ports(text) is not None:
        message = f"{text!r} already means something where ports are listed: choose another name"
        raise ValueError(message)
    return text


def _label_key(value: object) -> str:
    text = _text(value)
    if not _LABEL_KEY.fullmatch(text):
        message = (
            f"{text!r} is not a label's name: use 1 to 63 letters, digits, '.', '_', '/' and '-', "
            "with a letter or digit at both ends"
        )
        raise ValueError(message)
    return text


def _label_value(value: object) -> str:
    text = _text(value)
    if not _LABEL_VALUE.fullmatch(text):
        message = (
            f"{text!r} is not a label's value: use up to 63 letters, digits, '.', '_' and '-', "
            "with a letter or digit at both ends"
        )
        raise ValueError(message)
    return text


def _bridge(value: object) -> str:
    text = _text(value)
    if not _BRIDGE.fullmatch(text):
        message = f"{text!r} is not a bridge's name: use 1 to 15 letters, digits, '.', '_' and '-'"
        raise ValueError(message)
    return text


def _domain(value: object) -> str:
    text = _text(value)
    if not _DOMAIN.fullmatch(text):
        message = f"{text!r} is not a domain's name: use 1 to 128 letters, digits and any of '_.+:@-'"
        raise ValueError(message)
    return text


def _version(value: object) -> str:
    text = _text(value)
    if not _VERSION.fullmatch(text):
        message = f"{text!r} is not a version: write up to four numbers with dots between, such as 0.1.0"
        raise ValueError(message)
    return text


def _digest(value: object) -> str:
    """Take a SHA-256, and leave out what says that it is one."""
    text = _text(value)
    if not _DIGEST.fullmatch(text):
        message = f"{text!r} is not a digest: write sha256: and 64 hexadecimal digits in lower case"
        raise ValueError(message)
    return text.removeprefix("sha256:")


def _line(value: object) -> str:
    text = _text(value).strip()
    if len(text) > LONGEST_LINE or not text.isprintable():
        message = f"must be one line of at most {LONGEST_LINE} characters that can be printed"
        raise ValueError(message)
    return text


def _some(value: object) -> object:
    if value == ():
        message = "is empty: name at least one"
        raise ValueError(message)
    return value


def _some_peer(value: object) -> object:
    if value == ():
        message = "is empty, which would match nobody: leave the field out to mean anybody"
        raise ValueError(message)
    return value


def _some_port(value: object) -> object:
    if value == ():
        message = "is empty, which would match nothing: leave the field out to mean every port"
        raise ValueError(message)
    return value


def at_most(number: int) -> AfterValidator:
    """Refuse lists of more than ``number`` different things."""

    def check(value: Collection[object]) -> object:
        if len(set(value)) > number:
            message = f"has {len(set(value))} entries: there is room for {number}"
            raise ValueError(message)
        return value

    return AfterValidator(check)


Name = Annotated[str, PlainValidator(_name)]
ScopePath = Annotated[Scope, PlainValidator(_scope)]
RootPath = Annotated[Scope, PlainValidator(_root)]
MacText = Annotated[Mac, PlainValidator(_mac)]
Address = Annotated[address.Address, PlainValidator(_address)]
Station = Annotated[address.Address, PlainValidator(_station)]
Prefix = Annotated[address.Prefix, PlainValidator(_prefix)]
Subnet = Annotated[address.Prefix, PlainValidator(_subnet)]
AllowedPrefix = Annotated[address.Prefix, PlainValidator(_allowed_prefix)]
Ethertype = Annotated[int, PlainValidator(_ethertype)]
Reference = Annotated[str, PlainValidator(_reference)]
Ports = Annotated[str, PlainValidator(_ports)]
ServicePort = Annotated[str, PlainValidator(_service_port)]
ServiceName = Annotated[str, PlainValidator(_service_name)]
LabelKey = Annotated[str, PlainValidator(_label_key)]
LabelValue = Annotated[str, PlainValidator(_label_value)]
Bridge = Annotated[str, PlainValidator(_bridge)]
Domain = Annotated[str, PlainValidator(_domain)]
Version = Annotated[str, PlainValidator(_version)]
Digest = Annotated[str, PlainValidator(_digest)]
Line = Annotated[str, PlainValidator(_line)]
AtLeastOne = AfterValidator(_some)
AtLeastOnePeer = AfterValidator(_some_peer)
AtLeastOnePort = AfterValidator(_some_port)
