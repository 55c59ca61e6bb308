"""How a ruleset is written down: plain values and bytes, equal for equal rulesets on every machine.

A ruleset is a set of *parts*, each named by the hash of its bytes. There is a part for each VM, one for each routing domain that
some of the VMs are in, and *books*: what rules say, with the numbers left open. Domains whose policies have one shape share their
books, and bring the numbers. A part is the same on every host that needs it, and a change replaces some.
"""

from __future__ import annotations

import msgspec

from serai.model.address import pack, packed_length, unpack_prefix
from serai.model.inventory import ETHERTYPES, AllowedAddress, Mac, PortSecurity, Serves

VERSION = 3

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


class FrozenGuest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="guest"):
    """The vNICs of one VM; what there is of each stands one behind the other."""

    path: str
    """The VM's."""
    mode: str
    cards: list[tuple[str, FrozenSecurity]]
    """Name and security of each vNIC."""
    ids: bytes
    """8 bytes each."""
    macs: bytes
    """6 bytes each."""
    held: bytes
    """How many addresses each holds, in 4 bytes."""
    addresses: bytes
    """16 bytes each."""
    kinds: bytes
    """8 bytes each: by which record of ``JUDGED`` it is judged."""


class FrozenDomain(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="domain"):
    """A routing domain."""

    root: str
    """What stands for ``$`` at the beginning of its rules' names."""
    numbers: bytes
    """What the gaps in its books are filled from, 8 bytes each."""
    judged: bytes
    """Records of ``JUDGED``: the books, by kind of vNIC."""
    endpoints: bytes
    prefixes: bytes
    """The records of either table, one behind the other."""


class FrozenForm(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A ``Form``."""

    text: bytes
    gaps: bytes


class FrozenBook(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="book"):
    """What the gates of one kind of vNIC look decisions up in."""

    lists: FrozenForm
    pages: FrozenForm
    rules: list[str]
    """The names of the rules that decide in it."""


class FrozenWhole(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="whole"):
    """Everything in one part."""

    guests: list[FrozenGuest]
    judged: bytes
    """Records of ``JUDGED``, without books."""
    rules: list[str]
    endpoints: bytes
    prefixes: bytes
    lists: bytes
    pages: bytes


FrozenPart = FrozenGuest | FrozenDomain | FrozenBook | FrozenWhole
"""A part of a ruleset."""


class FrozenRuleset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``HostRuleset``."""

    version: int
    host: str
    parts: list[bytes]
    """Each a ``FrozenPart``, in order of their digests."""


class FrozenDelta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``Delta``."""

    version: int
    host: str
    before: bytes
    after: bytes
    drop: list[bytes]
    add: list[bytes]
    bridge: list[bytes]


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
