"""What single fields of a resource may hold. Every check says in one sentence what to write instead."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, PlainValidator
from pydantic_core import PydanticCustomError

from serai.model.inventory import Mac
from serai.model.ports import parse_ports
from serai.model.tenancy import ROOT, Scope, is_name

_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
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


def _address(value: object) -> IPv4Address:
    text = _text(value)
    try:
        return IPv4Address(text)
    except ValueError:
        message = f"{text!r} is not an IPv4 address"
        raise ValueError(message) from None


def _prefix(value: object) -> IPv4Network:
    text = _text(value)
    address, slash, length = text.partition("/")
    try:
        if not slash or not re.fullmatch(r"[0-9]{1,2}", length):
            raise ValueError  # noqa: TRY301
        network = IPv4Network(text, strict=False)
    except ValueError:
        message = f"{text!r} is not an IPv4 prefix: write an address and a length such as 10.0.0.0/24"
        raise ValueError(message) from None
    if str(network.network_address) != address:
        message = f"{text!r} has bits set behind its length: write {network} for the whole prefix"
        if network.prefixlen < network.max_prefixlen:
            message += f", or {address}/32 for the one address"
        raise ValueError(message)
    return network


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


Name = Annotated[str, PlainValidator(_name)]
ScopePath = Annotated[Scope, PlainValidator(_scope)]
RootPath = Annotated[Scope, PlainValidator(_root)]
MacText = Annotated[Mac, PlainValidator(_mac)]
Address = Annotated[IPv4Address, PlainValidator(_address)]
Prefix = Annotated[IPv4Network, PlainValidator(_prefix)]
Reference = Annotated[str, PlainValidator(_reference)]
Ports = Annotated[str, PlainValidator(_ports)]
ServicePort = Annotated[str, PlainValidator(_service_port)]
ServiceName = Annotated[str, PlainValidator(_service_name)]
LabelKey = Annotated[str, PlainValidator(_label_key)]
LabelValue = Annotated[str, PlainValidator(_label_value)]
Bridge = Annotated[str, PlainValidator(_bridge)]
Domain = Annotated[str, PlainValidator(_domain)]
AtLeastOne = AfterValidator(_some)
AtLeastOnePeer = AfterValidator(_some_peer)
AtLeastOnePort = AfterValidator(_some_port)
