"""Checkpoints: the text that other tools read too, and whose signature counts."""

from __future__ import annotations

import base64
import dataclasses
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.model.merkle import root_of


class Key:
    """A log's key."""

    def __init__(self, seed: int = 1, origin: str = "example.org/log") -> None:
        self.origin = origin
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._private.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


KEY = Key()
POINT = Checkpoint(origin=KEY.origin, size=7, root=root_of([b"x" * 32]))


def test_the_text_is_what_transparency_logs_write() -> None:
    lines = POINT.signed(KEY).split("\n")
    assert lines[:4] == ["example.org/log", "7", base64.b64encode(POINT.root).decode(), ""]
    dash, name, signed = lines[4].split(" ")
    assert (dash, name, lines[5:]) == ("—", "example.org/log", [""])
    raw = base64.b64decode(signed)
    # C2SP signed-note: SHA-256 over name, newline, algorithm (1 is Ed25519) and key, of which four bytes are kept.
    assert raw[:4] == hashlib.sha256(b"example.org/log\n\x01" + KEY.public).digest()[:4]
    assert raw[4:] == KEY.sign("\n".join([*lines[:3], ""]).encode())


def test_what_was_signed_is_read_back() -> None:
    assert Checkpoint.parse(POINT.signed(KEY)) == Checkpoint.opened(POINT.signed(KEY), KEY.verify) == POINT


@pytest.mark.parametrize(
    "change",
    [{"size": 8}, {"root": root_of([])}],
    ids=str,
)
def test_nothing_can_be_changed_under_a_signature(change: dict[str, object]) -> None:
    other = dataclasses.replace(POINT, **change)  # type: ignore[arg-type]
    forged = other.text.decode() + POINT.signed(KEY)[len(POINT.text.decode()) :]
    assert Checkpoint.parse(forged) == other
    with pytest.raises(CheckpointError, match="not signed"):
        Checkpoint.opened(forged, KEY.verify)


def test_another_key_of_the_same_name_does_not_count() -> None:
    with pytest.raises(CheckpointError, match="not signed"):
        Checkpoint.opened(POINT.signed(Key(2)), KEY.verify)


def test_a_signature_in_another_name_is_none() -> None:
    note = POINT.signed(KEY).replace("— example.org/log", "— example.org/other")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Checkpoint.opened(note, KEY.verify)


NOTE = POINT.signed(KEY)
ROOT = base64.b64encode(POINT.root).decode()


@pytest.mark.parametrize(
    "note",
    [
        "", "\n\n", "7", NOTE.replace("—", "-"), NOTE.replace("\n7\n", "\n-7\n"), NOTE.replace("\n7\n", "\n1e3\n"),
        NOTE.replace("\n7\n", "\n\n"), NOTE.replace("\n7\n", f"\n{'9' * 5000}\n"), NOTE.replace("\n7\n", "\n07\n"),
        NOTE.replace("\n7\n", "\n\u0667\n"), NOTE.replace(ROOT, ROOT[4:]), NOTE.replace(ROOT, "!" + ROOT[1:]),
        NOTE.split("\n\n")[0], NOTE + NOTE, NOTE.replace("\n\n", "\nmore\n\n"),
        NOTE.split("— ")[0] + "— example.org/log AAAA\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint(note: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.opened(note, KEY.verify)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "line\nline"])
def test_what_cannot_name_a_log(origin: str) -> None:
    with pytest.raises(CheckpointError):
        dataclasses.replace(POINT, origin=origin).signed(Key(origin=origin))
