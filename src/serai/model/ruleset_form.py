"""How a ruleset is written down: plain values and bytes, equal for equal rulesets on every machine."""

from __future__ import annotations

import msgspec

from serai.model.address import pack, packed_length, unpack_prefix
from serai.model.inventory import ETHERTYPES, AllowedAddress, Mac, PortSecurity, Serves

VERSION = 2

_LARGEST_SETTING = 1 << 32


class FrozenAllowed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An ``AllowedAddress``."""

    address: bytes
    length: int
    """Of the 128 bits."""
    mac: str | None


class FrozenSecurity(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A ``PortSecurity``."""

    allowed: list[FrozenAllowed] = []
    serves: list[str] = []
    tunnels: bool = False
    ethertypes: list[int] = []
    max_flows: int | None = None
    new_flows_per_second: int | None = None


class FrozenVnic(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A ``GuardedVnic``."""

    id: int
    path: str
    mac: str
    addresses: list[bytes]
    security: FrozenSecurity
    mode: str
    view: int
    members: int
    egress: int
    ingress: int


class FrozenRuleset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``HostRuleset``."""

    version: int
    host: str
    vnics: list[FrozenVnic]
    rules: dict[str, int]
    tables: dict[str, bytes]
    """The records of each table, one behind the other."""


class Version(msgspec.Struct, frozen=True):
    """What all versions have."""

    version: int


def freeze_security(security: PortSecurity) -> FrozenSecurity:
    """Write down what a vNIC may do."""
    return FrozenSecurity(
        allowed=[
            FrozenAllowed(pack(entry.prefix.network_address), packed_length(entry.prefix), entry.mac and str(entry.mac))
            for entry in security.allowed
        ],
        serves=sorted(service.value for service in security.serves),
        tunnels=security.tunnels,
        ethertypes=list(security.ethertypes),
        max_flows=security.max_flows,
        new_flows_per_second=security.new_flows_per_second,
    )


def thaw_security(frozen: FrozenSecurity) -> PortSecurity:
    """Read what ``freeze_security`` wrote.

    Raises:
        ValueError: a value is none of those that it can have.
    """
    limits = [limit for limit in (frozen.max_flows, frozen.new_flows_per_second) if limit is not None]
    in_range = all(0 < limit < _LARGEST_SETTING for limit in limits)
    if len(frozen.ethertypes) > ETHERTYPES:
        raise ValueError("a vNIC has more ethertypes than there is room for")
    if not in_range or not all(0 <= number <= 0xFFFF for number in frozen.ethertypes):  # noqa: PLR2004 (16 bits)
        raise ValueError("a setting of a vNIC is out of range")
    return PortSecurity(
        allowed=tuple(
            AllowedAddress(
                prefix=unpack_prefix(entry.address, entry.length), mac=None if entry.mac is None else Mac(entry.mac)
            )
            for entry in frozen.allowed
        ),
        serves=frozenset(map(Serves, frozen.serves)),
        tunnels=frozen.tunnels,
        ethertypes=tuple(frozen.ethertypes),
        max_flows=frozen.max_flows,
        new_flows_per_second=frozen.new_flows_per_second,
    )
