"""The compiled form of policy: tables of numbers that one host's gates look things up in.

Every number is derived from content (see ``content_id``), so equal things are equal on every host and a
change renumbers nobody. The records of the tables stand in ``serai.model.records``, the bytes on disk and on the wire in
``serai.model.ruleset_form``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final, Self

import msgspec
import numpy as np

from serai.model.address import Address, pack, unpack
from serai.model.inventory import ORDINARY, Mac, PortSecurity, VnicId
from serai.model.policy import RuleRef
from serai.model.records import (
    DECISION,
    ENDPOINT,
    INTERVALS,
    JUDGED,
    KEYS,
    LIST,
    PAGE,
    PREFIX,
    TABLES,
    Records,
    Step,
    rows,
    table,
)
from serai.model.ruleset_contents import Contents, GuestKey
from serai.model.ruleset_form import (
    VERSION,
    FrozenBook,
    FrozenGuest,
    FrozenPart,
    FrozenRuleset,
    FrozenWhole,
    Version,
    freeze_security,
    thaw_security,
)
from serai.model.ruleset_v1 import FrozenRulesetV1, upgrade
from serai.model.ruleset_v2 import FrozenRulesetV2
from serai.model.tenancy import Mode, content_id

__all__ = [
    "DECISION", "ENDPOINT", "INTERVALS", "LIST", "PAGE", "PREFIX", "TABLES", "GuardedVnic", "HostRuleset", "Records", "Step",
    "rows", "table",
]  # fmt: skip

_NUMBERS = 1 << 64
_NO_BOOK: Final = (0,) * 32
_Judged = tuple[int, int, int, int]
"""View, members, and the rulesets of egress and ingress."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardedVnic:
    """What one gate is told about its vNIC."""

    id: VnicId
    path: str
    """The VM's path and the vNIC's name, e.g. ``/acme/shop:web/eth0``."""
    mac: Mac
    addresses: tuple[Address, ...]
    """All that it holds (see ``Vnic.held``)."""
    security: PortSecurity = ORDINARY
    mode: Mode
    view: int
    """Which endpoints and prefixes it sees: one per routing domain and set of policies in force."""
    members: int
    """Names who is who in the view at the moment."""
    egress: int
    """The ruleset for connections that it opens."""
    ingress: int
    """The ruleset for connections that are opened to it."""

    @property
    def judged_by(self) -> int:
        """What its flows are judged by; a flow that carries another number is judged again."""
        digest = hashlib.blake2b(digest_size=8)
        for number in (self.view, self.members, self.egress, self.ingress):
            digest.update(number.to_bytes(8, "little"))
        digest.update(self.mode.encode())
        return int.from_bytes(digest.digest(), "little") or 1


Thawed = tuple[tuple[_Judged | None, ...], tuple[GuardedVnic, ...]]
"""By what the vNICs of a VM are judged, and the vNICs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What has been read of the parts of a ruleset."""

    parts: Mapping[bytes, FrozenPart]
    """By their digest."""
    guests: Mapping[GuestKey, Thawed]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HostRuleset:
    """Everything one host's gates need, and nothing that its VMs cannot meet: a set of parts, read when it is asked for."""

    VERSION: ClassVar[int] = VERSION

    host: str
    parts: Mapping[bytes, bytes]
    """The bytes of each part, by their digest."""
    leaving: frozenset[int] = frozenset()
    """Kinds of vNICs that are no more here: their books are filled in too, where they are among the parts."""
    known: Known | None = None
    """What was read before of parts that are here too: it is not read again."""

    @classmethod
    def of(cls, host: str, parts: Iterable[bytes]) -> Self:
        """Put parts (each a ``FrozenPart``, encoded) together, in whatever order they come."""
        return cls(host=host, parts={digest_of(raw): raw for raw in parts})

    @classmethod
    def whole(
        cls, *, host: str, vnics: Iterable[GuardedVnic], rules: Iterable[str], tables: Mapping[str, Records]
    ) -> Self:
        """Make a ruleset of one part."""
        guarded = sorted(vnics, key=lambda v: (v.path, v.id))
        by_vm = itertools.groupby(guarded, lambda v: (v.path.rpartition("/")[0], v.mode))
        kinds = {(v.view, v.members, v.egress, v.ingress): _kind(v) for v in guarded}
        judged = np.array(sorted((kind, *numbers, _NO_BOOK) for numbers, kind in kinds.items()), JUDGED)
        part = FrozenWhole(
            guests=[_freeze(path, mode, list(group)) for (path, mode), group in by_vm],
            judged=judged.tobytes(),
            rules=sorted(rules),
            **{name: tables[name].tobytes() for name in TABLES},
        )
        return cls.of(host, [msgspec.msgpack.encode(part)])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the host's name and the digests of its parts, in hexadecimal."""
        return manifest_digest(self.host, self.parts).hex()

    @functools.cached_property
    def vnics(self) -> tuple[GuardedVnic, ...]:
        """The vNICs, in order of id.

        Raises:
            ValueError: it is not said by what one of them is judged, or in two ways.
        """
        return tuple(sorted((v for _, vnics in self._thawed.values() for v in vnics), key=lambda v: v.id))

    @functools.cached_property
    def _thawed(self) -> Mapping[GuestKey, Thawed]:
        judged: dict[int, _Judged] = {}
        for kind, *numbers, _ in self._read.judged.tolist():
            if judged.setdefault(kind, tuple(numbers)) != tuple(numbers):
                raise ValueError(f"the kind {kind:#x} is judged in two ways")
        before = self.known.guests if self.known else {}
        guests: dict[GuestKey, Thawed] = {}
        for key, guest in self._read.guests.items():
            numbers = tuple(judged.get(kind) for kind in np.frombuffer(guest.kinds, "<u8").tolist())
            earlier = before.get(key)
            guests[key] = earlier if earlier and earlier[0] == numbers else (numbers, tuple(_thaw(guest, judged)))
        return guests

    @property
    def learned(self) -> Known:
        """What has been read here, for whoever makes another ruleset out of this one.

        Raises:
            ValueError: it cannot be read.
        """
        return Known(parts=self._read.parts, guests=self._thawed)

    @functools.cached_property
    def rules(self) -> Mapping[str, int]:
        """The text of every rule that can decide here, and its number, in order of text.

        Raises:
            ValueError: one number stands for two rules.
        """
        rules = {text: RuleRef(text).id for text in sorted(set(self._read.rules))}
        if len(set(rules.values())) < len(rules):
            raise ValueError("two rules have one number")
        return rules

    @functools.cached_property
    def tables(self) -> Mapping[str, Records]:
        """The four tables by name (see ``TABLES``), each sorted by its bytes, no record twice.

        Raises:
            ValueError: one key stands for two things.
        """
        return {name: _merged(name, pieces) for name, pieces in self._read.tables.items()}

    @functools.cached_property
    def _read(self) -> Contents:
        return Contents.of(self.parts, self.leaving, self.known.parts if self.known else None)

    def bridging(self, books: Mapping[bytes, bytes], leaving: frozenset[int]) -> Self:
        """Return this with books for kinds of vNICs that are no more here; what they leave as it is, is not looked at again.

        Raises:
            ValueError: a book is damaged, or a part is no book.
        """
        bridged = type(self)(host=self.host, parts={**self.parts, **books}, leaving=leaving, known=self.learned)
        read = bridged._read  # noqa: SLF001 (one of ours)
        if not all(isinstance(read.parts.get(digest), FrozenBook) for digest in books):
            raise ValueError("there is more than books")
        mine, its = self._read.tables, read.tables
        tables = {name: self.tables[name] if its[name] == mine[name] else _merged(name, its[name]) for name in its}
        vars(bridged).update(vnics=self.vnics, tables=tables)  # as functools.cached_property would
        bridged.rules  # noqa: B018 (that it can be read is looked at here)
        return bridged

    def kinds_of(self, digest: bytes) -> list[int]:
        """Return the kinds of the vNICs in the part of that digest."""
        part = self._read.parts.get(digest)
        kinds: list[int] = np.frombuffer(part.kinds, "<u8").tolist() if isinstance(part, FrozenGuest) else []
        return kinds

    def encode(self) -> bytes:
        """Write it down; equal rulesets give equal bytes on every machine."""
        parts = [self.parts[digest] for digest in sorted(self.parts)]
        return msgspec.msgpack.encode(FrozenRuleset(version=VERSION, host=self.host, parts=parts))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote, in this version or an earlier one.

        Raises:
            ValueError: the bytes are not a ruleset of a version that is understood.
        """
        try:
            match msgspec.msgpack.decode(raw, type=Version).version:
                case 1:
                    return cls._of_version_2(upgrade(msgspec.msgpack.decode(raw, type=FrozenRulesetV1)))
                case 2:
                    return cls._of_version_2(msgspec.msgpack.decode(raw, type=FrozenRulesetV2))
                case 3:
                    frozen = msgspec.msgpack.decode(raw, type=FrozenRuleset)
                    return cls.of(frozen.host, frozen.parts).checked()
                case other:
                    version = other
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ValueError(f"these bytes are not a ruleset: {error}") from error
        raise ValueError(f"this ruleset is of version {version}, and versions 1 to {VERSION} are understood")

    def checked(self) -> Self:
        """Read all of it.

        Raises:
            ValueError: something in it is not what it should be.
        """
        for each in (self.vnics, self.rules, self.tables):
            del each
        for one, other in itertools.pairwise(self.vnics):
            if one.id == other.id:
                raise ValueError(f"{one.path} and {other.path} have one number")
        return self

    @classmethod
    def _of_version_2(cls, old: FrozenRulesetV2) -> Self:
        if old.tables.keys() != TABLES.keys():
            raise ValueError("tables are missing, or too many")
        numbers = [number for v in old.vnics for number in (v.id, v.view, v.members, v.egress, v.ingress)]
        if not all(0 <= number < _NUMBERS for number in numbers):
            raise ValueError("a number is out of range")
        vnics = [
            GuardedVnic(
                id=VnicId(v.id), path=v.path, mac=Mac(v.mac), addresses=tuple(map(unpack, v.addresses)),
                security=thaw_security(v.security), mode=Mode(v.mode), view=v.view, members=v.members,
                egress=v.egress, ingress=v.ingress,
            )
            for v in old.vnics
        ]  # fmt: skip
        tables = {name: np.frombuffer(old.tables[name], layout) for name, layout in TABLES.items()}
        return cls.whole(host=old.host, vnics=vnics, rules=old.rules, tables=tables).checked()

    def rule_texts(self) -> dict[int, str]:
        """The rules by their number."""
        return {number: text for text, number in self.rules.items()}


def digest_of(part: bytes) -> bytes:
    """Return the 32 bytes that name a part."""
    return hashlib.sha256(part).digest()


def manifest_digest(host: str, parts: Iterable[bytes]) -> bytes:
    """Return the 32 bytes that name the ruleset of ``host`` made of the parts that these digests name."""
    return hashlib.sha256(b"".join((f"serai ruleset {VERSION}\n{host}\n".encode(), *sorted(parts)))).digest()


def _merged(name: str, pieces: Iterable[bytes]) -> Records:
    layout = TABLES[name]
    # Most pieces are sorted already, and of domains that have nothing in common: then it is enough to put them in order.
    found = np.frombuffer(b"".join(sorted(pieces)), f"S{layout.itemsize}")
    if not (found[1:] > found[:-1]).all():
        found = np.unique(found)
    keys = found.view(np.uint8).reshape(len(found), layout.itemsize)[:, : KEYS[name]]
    twice = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1))
    if len(twice):
        raise ValueError(f"the key {keys[twice[0]].tobytes().hex()} of {name} stands for two things")
    return found.view(layout)


def _kind(vnic: GuardedVnic) -> int:
    numbers = (vnic.view, vnic.members, vnic.egress, vnic.ingress)
    return content_id("judged", *(number.to_bytes(8, "little") for number in numbers))


def _freeze(path: str, mode: Mode, vnics: list[GuardedVnic]) -> FrozenGuest:
    return FrozenGuest(
        path=path,
        mode=mode.value,
        cards=[(v.path.rpartition("/")[2], freeze_security(v.security)) for v in vnics],
        ids=np.array([v.id for v in vnics], "<u8").tobytes(),
        macs=b"".join(v.mac.packed for v in vnics),
        held=np.array([len(v.addresses) for v in vnics], "<u4").tobytes(),
        addresses=b"".join(pack(address) for v in vnics for address in v.addresses),
        kinds=np.array([_kind(v) for v in vnics], "<u8").tobytes(),
    )


def _thaw(guest: FrozenGuest, judged: Mapping[int, _Judged]) -> Iterator[GuardedVnic]:
    count = len(guest.cards)
    held = np.frombuffer(guest.held, "<u4")
    sizes = (len(guest.ids), len(guest.macs), len(held), len(guest.kinds), len(guest.addresses))
    if sizes != (8 * count, 6 * count, count, 8 * count, 16 * int(held.sum(dtype=np.uint64))):
        raise ValueError(f"the vNICs of {guest.path} are not whole")
    ids, kinds = (np.frombuffer(raw, "<u8").tolist() for raw in (guest.ids, guest.kinds))
    ends = np.cumsum(held).tolist()
    addresses = [unpack(guest.addresses[at : at + 16]) for at in range(0, len(guest.addresses), 16)]
    mode = Mode(guest.mode)
    for at, (name, security) in enumerate(guest.cards):
        if kinds[at] not in judged:
            raise ValueError(f"nothing says by what {guest.path}/{name} is judged")
        view, members, egress, ingress = judged[kinds[at]]
        yield GuardedVnic(
            id=VnicId(ids[at]),
            path=f"{guest.path}/{name}",
            mac=Mac(guest.macs[6 * at : 6 * at + 6].hex(":")),
            addresses=tuple(addresses[ends[at - 1] if at else 0 : ends[at]]),
            security=thaw_security(security),
            mode=mode,
            view=view,
            members=members,
            egress=egress,
            ingress=ingress,
        )
