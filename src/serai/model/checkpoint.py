"""What a log was at one time, signed: the text of a checkpoint as transparency logs write it (C2SP tlog-checkpoint, signed-note)."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Callable
from typing import Final, Protocol, Self

_ED25519: Final = b"\x01"
"""The kind of signature, as signed notes number it."""
_NOTE: Final = re.compile(
    r"(?P<origin>\S{1,200})\n(?P<size>0|[1-9][0-9]{0,17})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"\n— (?P<signer>\S{1,200}) (?P<signed>[A-Za-z0-9+/]{91}=)\n",
    re.ASCII,
)
_KEY_BYTES: Final = 4
"""How much of a key's hash stands before a signature."""
_NAME: Final = re.compile(r"[^\s+]{1,200}")


class CheckpointError(ValueError):
    """This is no checkpoint, or nobody whom we know has signed it."""


class Signer(Protocol):
    """Signs for a log."""

    @property
    def origin(self) -> str:
        """The name of the log."""
        ...

    @property
    def public(self) -> bytes:
        """Its Ed25519 public key: 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature: 64 bytes."""
        ...


Verify = Callable[[bytes, bytes], bool]
"""Says whether the log's key has signed a message: message, signature."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How large a log was, and the root of its tree."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    def signed(self, by: Signer) -> str:
        """Return the signed note."""
        if not _NAME.fullmatch(self.origin):
            raise CheckpointError(f"{self.origin!r} cannot name a log")
        raw = base64.b64encode(_key_hash(by.origin, by.public) + by.sign(self.text)).decode()
        return f"{self.text.decode()}\n— {by.origin} {raw}\n"

    @classmethod
    def parse(cls, note: str) -> Self:
        """Read a signed note; who has signed it is not looked at.

        Raises:
            CheckpointError: it is none.
        """
        return cls._taken_apart(note)[0]

    @classmethod
    def opened(cls, note: str, verify: Verify) -> Self:
        """Read a signed note, and believe it only if the log's key has signed it.

        Raises:
            CheckpointError: it is none, or the signature is not the log's.
        """
        found, signature = cls._taken_apart(note)
        if not verify(found.text, signature):
            raise CheckpointError(f"the checkpoint of {found.size} records is not signed by this site's audit key")
        return found

    @classmethod
    def _taken_apart(cls, note: str) -> tuple[Self, bytes]:
        found = _NOTE.fullmatch(note)
        if not found or found["origin"] != found["signer"]:
            raise CheckpointError("this is no checkpoint of an audit log")
        try:
            root, signed = (base64.b64decode(found[name], validate=True) for name in ("root", "signed"))
        except (ValueError, binascii.Error):
            raise CheckpointError("this is no checkpoint of an audit log: a letter of it is wrong") from None
        return cls(origin=found["origin"], size=int(found["size"]), root=root), signed[_KEY_BYTES:]


def _key_hash(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_KEY_BYTES]
