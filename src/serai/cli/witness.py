"""What this machine has seen of a controller's audit log, kept so that it notices if the log is not what it was."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.wire import api, profile

_KEPT: Final = 50
"""Checkpoints that are kept, the latest."""


class WitnessError(ValueError):
    """What was kept cannot be read, or a key is none."""


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one log."""

    key: str = ""
    """Its public key, in base64; empty: it was never told."""
    notes: tuple[str, ...] = ()
    """Signed checkpoints, the oldest first."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what was kept; nothing where nothing was.

        Raises:
            WitnessError: it cannot be read.
        """
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WitnessError(
                f"{file}, which says what this machine has seen of the log, cannot be read: {error}"
            ) from error

    def faults(self, seen: api.Checkpoint) -> list[str]:
        """Say why a checkpoint cannot belong to the log that was seen before."""
        if self.key and seen.key != self.key:
            return ["the log is signed with another key than the one that this machine has seen"]
        try:
            now = self.opened(seen.note, seen.key)
            largest = max((self.opened(note, seen.key).size for note in self.notes), default=0)
        except CheckpointError as error:
            return [str(error)]
        return [f"the log has {now.size} records, and this machine has seen {largest}"] if now.size < largest else []

    def having(self, seen: api.Checkpoint) -> Self:
        """Keep one more checkpoint."""
        notes = (*(note for note in self.notes if note != seen.note), seen.note)
        return type(self)(key=seen.key, notes=notes[-_KEPT:])

    def write(self, file: Path) -> None:
        """Keep this.

        Raises:
            WitnessError: there is no place for it.
        """
        try:
            profile.keep(file, msgspec.json.encode(self).decode())
        except OSError as error:
            raise WitnessError(f"{file} cannot be written: {error.strerror or error}") from error

    @staticmethod
    def opened(note: str, key: str) -> Checkpoint:
        """Read a checkpoint, and believe it only if the key has signed it, where there is one."""
        return Checkpoint.opened(note, verifier(key)) if key else Checkpoint.parse(note)


def verifier(key: str) -> Callable[[bytes, bytes], bool]:
    """Return what says whether a key (in base64) has signed a message.

    Raises:
        WitnessError: it is no key.
    """
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError) as error:
        raise WitnessError(f"{key[:60]!r} is no public key of an audit log: it has 32 bytes, in base64") from error

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify


def kept(environment: Mapping[str, str], url: str) -> Path:
    """Say where it is kept what was seen of a controller's log."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in urlsplit(url).netloc)
    return profile.user_file(environment).with_name(f"seen-{name}.json")
