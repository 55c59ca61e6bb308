"""Batches on the host's disk until a controller keeps them, and beside them what was told so far: both change in one step.

An interval's batches are written under names that nobody reads; then, at once, what was told with them and the number of the last;
then they get their names. Whatever of that an agent that is killed has not done, the next one does or undoes. Nothing is forced to
disk: it survives the agent, not the host, whose flows and counters die with it. After that batches have another spool's name.

    spool              the order, and the name, of the spool that is written
    told               what was told
    0001-NAME-42-7     batch 42 of the first spool that there is, with 7 records
"""

from __future__ import annotations

import contextlib
import re
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from serai.agent.batches import Batch, Made, blocks
from serai.datapath import frames
from serai.datapath.maps import Array
from serai.wire.remote import MessageError, Records, decode_from_agent

_PIECE: Final = struct.Struct("<16sQ")


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in front of what was told."""

    form: str
    """What can read it, and when it means something: the layout, and this boot of the host."""
    spool: str
    number: int
    """The last batch that says so."""
    removed: tuple[int, int]
    """The last batch that was removed unsent, and is counted as lost: its spool's order, and its number."""
    until: float
    """The end of the last interval, in seconds since 1970."""
    volume: int
    """Where the diary goes on (``Metering.memory``)."""
    pieces: int


Told = tuple[Head, list[tuple[str, int, memoryview]]]


class Spool:
    """One directory. Writing (``write``) may go on in a thread of its own; all else is for one thread."""

    def __init__(self, directory: Path, *, most_bytes: int, form: str) -> None:
        """Use ``directory`` up to so many bytes; ``form`` names what can read what was told, and on which boot."""
        self._directory = directory
        self._most = most_bytes
        self._form = form
        self._name, self._order = "", 0
        self._number = 0
        self._until: float | None = None
        self._removed = (0, 0)
        self._batches: list[Batch] = []
        self._damaged = 0
        self._latest = 0
        self.removed = 0
        """Records that this agent has removed unsent, ever."""
        self.sent = 0
        """Records that controllers have taken from this agent."""

    @property
    def name(self) -> str:
        """What is being written is called so."""
        return self._name

    @property
    def number(self) -> int:
        """Of the latest batch; 0: there was none."""
        return self._number

    @property
    def until(self) -> float | None:
        """The end of the latest interval; None where there was none."""
        return self._until

    @property
    def batches(self) -> Sequence[Batch]:
        """What has not been taken, oldest first."""
        return self._batches

    @property
    def is_ours(self) -> bool:
        """Whether the directory is still the one that was opened: joining another site empties it."""
        with contextlib.suppress(OSError, ValueError):
            return self._read_name() == (self._order, self._name)
        return False

    def open(self) -> Told | None:
        """Find out what there is, and finish what an agent that was killed has begun.

        Returns what was told, or None where nobody knows: then there is a new spool.

        Raises:
            OSError: the directory cannot be used.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        told = self._read_told()
        self._settle(told[0] if told else None)
        self._batches = sorted(batch for path in self._directory.iterdir() if (batch := Batch.of(path)) is not None)
        known = None
        with contextlib.suppress(OSError, ValueError):
            known = self._read_name()
        self._removed, self._damaged = (0, 0), 0
        if told is not None and known is not None and told[0].form == self._form and told[0].spool == known[1]:
            self._order, self._name = known
            self._number, self._removed, self._until = told[0].number, told[0].removed, told[0].until
            return told
        self._order = max([known[0] if known else 0, *(batch.order for batch in self._batches)]) + 1
        self._name, self._number, self._until = secrets.token_hex(8), 0, None
        self._replace("spool", f"{self._order} {self._name}\n".encode())
        return None

    def make_room(self) -> tuple[int, list[Batch]]:
        """Choose what must go for the next interval; return how many records are lost by that, or were found damaged."""
        room = self._most - self._latest
        gone: list[Batch] = []
        left = sum(batch.size for batch in self._batches)
        while self._batches and left > room:
            gone.append(self._batches.pop(0))
            left -= gone[-1].size
        return sum(batch.records for batch in gone) + self._damaged, gone

    def write(
        self, made: Sequence[Made], head: Head, pieces: Sequence[tuple[str, int, Array]], gone: Sequence[Batch]
    ) -> list[Batch]:
        """Write an interval's batches, and what was told with them; return the batches.

        Raises:
            OSError: the disk refuses; nothing has changed.
        """
        fresh = [
            Batch(order=self._order, spool=self._name, number=each.number, records=each.records, size=blocks(len(each.raw)))
            for each in made
        ]  # fmt: skip
        try:
            for batch, each in zip(fresh, made, strict=True):
                with (self._directory / f"{batch.name}.new").open("wb") as file:
                    frames.write(file, each.raw)
            with (self._directory / "told.new").open("wb") as file:
                frames.write(file, msgspec.msgpack.encode(head))
                for name, number, array in pieces:
                    frames.write(file, _PIECE.pack(name.encode(), number), array)
        except OSError:
            for batch in fresh:
                with contextlib.suppress(OSError):
                    (self._directory / f"{batch.name}.new").unlink()
            raise
        (self._directory / "told.new").replace(self._directory / "told")
        for batch in fresh:
            (self._directory / f"{batch.name}.new").rename(self._directory / batch.name)
        for batch in gone:
            (self._directory / batch.name).unlink(missing_ok=True)
        return fresh

    def head(self, made: Sequence[Made], gone: Sequence[Batch], *, until: float, volume: int, pieces: int) -> Head:
        """What to write with these."""
        removed = max([self._removed, *((batch.order, batch.number) for batch in gone)])
        number = made[-1].number if made else self._number
        return Head(
            form=self._form, spool=self._name, number=number, removed=removed, until=until, volume=volume, pieces=pieces
        )

    def written(self, fresh: Sequence[Batch], head: Head, lost: int) -> None:
        """Know that these are written, with so many records lost."""
        self._batches += fresh
        self._latest = sum(batch.size for batch in fresh)
        self._number, self._removed, self._until = head.number, head.removed, head.until
        self._damaged = 0
        self.removed += lost

    def not_written(self, gone: Sequence[Batch]) -> None:
        """Know that nothing came of it."""
        self._batches[:0] = gone

    def after(self, before: tuple[str, int] | None) -> Records | None:
        """Return the batch after that one (its spool and number; None: the oldest); None where there is no other."""
        orders = {batch.spool: batch.order for batch in self._batches} | {self._name: self._order}
        last = (orders.get(before[0], 0), before[1]) if before else (0, 0)
        for batch in list(self._batches):
            if (batch.order, batch.number) > last:
                try:
                    return self._read(batch)
                except (OSError, MessageError):
                    self._batches.remove(batch)
                    self._damaged += batch.records
                    with contextlib.suppress(OSError):
                        (self._directory / batch.name).unlink(missing_ok=True)
        return None

    def taken(self, spool: str, number: int) -> None:
        """Remove the batches of ``spool`` up to ``number``: a controller keeps them."""
        for batch in [batch for batch in self._batches if batch.spool == spool and batch.number <= number]:
            self._batches.remove(batch)
            self.sent += batch.records
            with contextlib.suppress(OSError):  # then it is sent once more, and nobody minds
                (self._directory / batch.name).unlink(missing_ok=True)

    def _read(self, batch: Batch) -> Records:
        for piece in frames.read((self._directory / batch.name).read_bytes()):
            message = decode_from_agent(bytes(piece))
            if isinstance(message, Records) and (message.spool, message.number) == (batch.spool, batch.number):
                return message
        raise MessageError("it is damaged")

    def _read_name(self) -> tuple[int, str]:
        order, _, name = (self._directory / "spool").read_text().strip().partition(" ")
        if not re.fullmatch(r"[0-9a-f]{16}", name):
            raise ValueError("no spool is called so")
        return int(order), name

    def _read_told(self) -> Told | None:
        try:
            first, *rest = frames.read((self._directory / "told").read_bytes())
            head = msgspec.msgpack.decode(first, type=Head)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        if len(rest) != head.pieces or any(len(piece) < _PIECE.size for piece in rest):
            return None
        pieces = []
        for piece in rest:
            name, number = _PIECE.unpack_from(piece)
            pieces.append((name.rstrip(b"\0").decode("ascii", "replace"), number, piece[_PIECE.size :]))
        return head, pieces

    def _settle(self, head: Head | None) -> None:
        """Batches that are told of are whole; others are not."""
        for path in list(self._directory.glob("*.new")):
            batch = Batch.of(path)
            if batch is not None and head is not None and batch.spool == head.spool and batch.number <= head.number:
                path.rename(path.with_suffix(""))
            else:
                path.unlink()
        for path in list(self._directory.iterdir()):
            batch = Batch.of(path)
            if batch is not None and head is not None and (batch.order, batch.number) <= head.removed:
                path.unlink()

    def _replace(self, name: str, content: bytes) -> None:
        fresh = self._directory / f"{name}.new"
        fresh.write_bytes(content)
        fresh.replace(self._directory / name)


def forget(directory: Path) -> None:
    """Remove all that a spool has: this host belongs to another site now, to which it is no business.

    Raises:
        OSError: the disk refuses.
    """
    if directory.is_dir():
        for path in list(directory.iterdir()):
            path.unlink()
