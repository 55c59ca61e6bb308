"""What an agent that is killed must still have told: written down before the kernel forgets it.

Counters leave the kernel in steps: they are read, written here, taken out, and (where they had changed) written here again. Of all
that stands in the diary only the last may therefore not have been done. It is not forced to disk: it survives the agent, not the
host, whose flows die with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec
import numpy as np

from serai.datapath import frames
from serai.datapath.layout import DENIAL, DENIAL_KEY, FLOW, FLOW_KEY, METER, Layout
from serai.datapath.maps import Array

_NAME: Final = "diary."


class Entry(
    msgspec.Struct, tag_field="what", frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Something that happened to counters."""

    now_ns: int


class Ended(Entry, tag="ended", frozen=True, kw_only=True):
    """Flows have ended."""

    vnics: bytes
    keys: bytes
    flows: bytes
    done: bool = False
    """They are out of the kernel; else they are about to be."""
    told_by_gate: bool = False
    """It was the gate that ended them: they come from its ring, perhaps once more."""

    @classmethod
    def of(
        cls, vnics: Array, keys: Array, flows: Array, now_ns: int, *, done: bool = False, told_by_gate: bool = False
    ) -> Self:
        """Make an entry of these."""
        return cls(
            now_ns=now_ns, vnics=vnics.astype("<u8").tobytes(), keys=keys.tobytes(), flows=flows.tobytes(), done=done,
            told_by_gate=told_by_gate,
        )  # fmt: skip


class Removed(Entry, tag="removed", frozen=True, kw_only=True):
    """A vNIC is gone, and its table with it."""

    vnic: int
    keys: bytes
    flows: bytes
    meter: bytes
    """Its ``METER``, or nothing."""
    done: bool = False

    @classmethod
    def of(cls, vnic: int, keys: Array, flows: Array, meter: Array, now_ns: int, *, done: bool) -> Self:
        """Make an entry of these."""
        return cls(
            now_ns=now_ns, vnic=vnic, keys=keys.tobytes(), flows=flows.tobytes(), meter=meter.tobytes(), done=done
        )


class Taken(Entry, tag="taken", frozen=True, kw_only=True):
    """Flows of another host are about to be written over those here (``old_keys``, ``old_flows``) that have their keys."""

    vnic: int
    keys: bytes
    flows: bytes
    old_keys: bytes
    old_flows: bytes


class HandedOver(Entry, tag="handed-over", frozen=True, kw_only=True):
    """The flows of a vNIC live on on another host."""

    vnic: int
    keys: bytes
    flows: bytes


class Denied(Entry, tag="denied", frozen=True, kw_only=True):
    """Records of denials go out of the kernel."""

    keys: bytes
    values: bytes
    done: bool = False


AnyEntry = Ended | Removed | Taken | HandedOver | Denied
_DECODER: Final[msgspec.msgpack.Decoder[AnyEntry]] = msgspec.msgpack.Decoder(AnyEntry)


class Diary:
    """Files ``diary.1``, ``diary.2``... in one directory, of which one is being written."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``; nothing is opened yet."""
        self._directory = directory
        self._volume = 0
        self._file: BinaryIO | None = None
        self.trouble = ""
        """Why what happens cannot be written down; empty where it can."""

    def turn(self) -> int:
        """Begin another volume, and return its number: what was written before is in those below."""
        self.close()
        self._volume = max([self._volume, *self._volumes()]) + 1
        return self._volume

    def write(self, entry: AnyEntry) -> None:
        """Write down what happens. A disk that refuses costs exactness should the agent be killed, and nothing else."""
        try:
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._file = self._path(self._volume).open("ab", buffering=0)
            whole = self._file.tell()
            raw = msgspec.msgpack.encode(entry)
            try:
                frames.write(self._file, raw)
            except OSError:
                self._file.truncate(whole)
                raise
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._directory} cannot be written: {error.strerror or error}"

    def read(self, since: int) -> Iterator[AnyEntry]:
        """Go through what was written in the volumes from ``since`` on."""
        for volume in self._volumes():
            if volume >= since:
                for piece in frames.read(self._path(volume).read_bytes()):
                    try:
                        yield _DECODER.decode(piece)
                    except (msgspec.MsgspecError, ValueError):  # of another version
                        return

    def forget(self, before: int) -> None:
        """Remove the volumes below ``before``: what was in them is remembered otherwise."""
        for volume in self._volumes():
            if volume < before:
                with contextlib.suppress(OSError):
                    self._path(volume).unlink()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _volumes(self) -> list[int]:
        names = [path.name.removeprefix(_NAME) for path in self._directory.glob(f"{_NAME}*")]
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def _path(self, volume: int) -> Path:
        return self._directory / f"{_NAME}{volume}"


def flows_of(keys: bytes, flows: bytes) -> tuple[Array, Array]:
    """Flows as they were written."""
    return _read(keys, FLOW_KEY), _read(flows, FLOW)


def denials_of(keys: bytes, values: bytes) -> tuple[Array, Array]:
    """Denials, likewise."""
    return _read(keys, DENIAL_KEY), _read(values, DENIAL)


def meter_of(raw: bytes) -> Array:
    """A vNIC's counters, likewise; none or one."""
    return _read(raw, METER)


def _read(raw: bytes, kind: Layout) -> Array:
    return np.frombuffer(raw, kind)
