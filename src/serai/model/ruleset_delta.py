"""What turns one ruleset of a host into another: parts to drop, parts to add."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Self

import msgspec

from serai.model.ruleset import HostRuleset, digest_of
from serai.model.ruleset_form import VERSION, FrozenDelta

_DIGEST_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The way from one ruleset of a host to the next. It fits that one ruleset only, and leads to that one only."""

    host: str
    before: str
    """The digest of the ruleset that it changes."""
    after: str
    """The digest of what comes out."""
    drop: tuple[bytes, ...]
    """Digests of parts, in order."""
    add: tuple[bytes, ...]
    """Parts, in order of their digests."""
    bridge: tuple[bytes, ...] = ()
    """Books that are needed only until every gate has switched, in order of their digests (see ``bridged``)."""

    @classmethod
    def between(cls, old: HostRuleset, new: HostRuleset) -> Self:
        """Return what makes ``new`` out of ``old``; both are of one host."""
        return cls.over(old.digest, old.parts.keys(), new)

    @classmethod
    def over(cls, before: str, parts: Iterable[bytes], new: HostRuleset) -> Self:
        """Return what makes ``new`` out of the ruleset of that digest which has these parts, by their digests, and no others."""
        old = frozenset(parts)
        return cls(
            host=new.host,
            before=before,
            after=new.digest,
            drop=tuple(sorted(old - new.parts.keys())),
            add=tuple(new.parts[digest] for digest in sorted(new.parts.keys() - old)),
        )

    def bridged(self, old: HostRuleset, new: HostRuleset) -> HostRuleset:
        """Return what the tables must hold while gates switch from ``old`` to ``new``, which ``apply`` made of it.

        Endpoints change before gates switch: until then a gate that goes by a ruleset which the host needs no more must
        find in it whoever is somebody else already. So the books of kinds that VMs leave are filled in once more.

        Raises:
            ValueError: a book of the bridge is damaged, or a part is no book: nothing else may be in force that no digest tells.
        """
        books = {digest_of(raw): raw for raw in self.bridge}
        leaving = frozenset(kind for digest in self.drop for kind in old.kinds_of(digest))
        try:
            return new.bridging(books, leaving)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"what this change needs on the way is damaged: {error}") from error

    def apply(self, old: HostRuleset) -> HostRuleset:
        """Return the ruleset that comes out; ``old`` stays as it is.

        Raises:
            ValueError: ``old`` is not the ruleset that this changes, or something else comes out, or what comes out is damaged.
        """
        if (old.host, old.digest) != (self.host, self.before):
            raise ValueError(
                f"this change is for ruleset {self.before[:12]} of host {self.host}, not for {old.digest[:12]} of {old.host}"
            )
        dropped = frozenset(self.drop)
        kept = {digest: raw for digest, raw in old.parts.items() if digest not in dropped}
        parts = {**kept, **{digest_of(raw): raw for raw in self.add}}
        new = HostRuleset(host=self.host, parts=parts, known=old.learned)
        if new.digest != self.after:
            raise ValueError(f"ruleset {new.digest[:12]} comes out of this change, and {self.after[:12]} should")
        try:
            return new.checked()
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"what comes out of this change is not a ruleset: {error}") from error

    def encode(self) -> bytes:
        """Write it down."""
        return msgspec.msgpack.encode(
            FrozenDelta(
                version=VERSION, host=self.host, before=bytes.fromhex(self.before), after=bytes.fromhex(self.after),
                drop=list(self.drop), add=list(self.add), bridge=list(self.bridge),
            )
        )  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote.

        Raises:
            ValueError: the bytes are no change of a ruleset of this version.
        """
        try:
            frozen = msgspec.msgpack.decode(raw, type=FrozenDelta)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"these bytes are not a change of a ruleset: {error}") from error
        if frozen.version != VERSION:
            raise ValueError(f"this change is of version {frozen.version}, and version {VERSION} is understood")
        if any(len(digest) != _DIGEST_BYTES for digest in (frozen.before, frozen.after, *frozen.drop)):
            raise ValueError("these bytes are not a change of a ruleset: a digest has 32 bytes")
        return cls(
            host=frozen.host, before=frozen.before.hex(), after=frozen.after.hex(),
            drop=tuple(frozen.drop), add=tuple(frozen.add), bridge=tuple(frozen.bridge),
        )  # fmt: skip
