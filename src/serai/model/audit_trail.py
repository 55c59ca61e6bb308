"""Whether an audit log is whole: from its records alone, wherever they come from, and checkpoints that were signed before."""

from __future__ import annotations

import json
from collections.abc import Iterable

from serai.model.checkpoint import Checkpoint, CheckpointError, Verify
from serai.model.merkle import EMPTY, Frontier, leaf_hash

_MOST_FAULTS = 20


class AuditTrail:
    """Takes records, in the order in which they stand, and compares what comes out with checkpoints."""

    def __init__(self) -> None:
        """Begin with none."""
        self._frontier = Frontier()
        self._expected: dict[int, dict[bytes, str]] = {}
        self._faults: list[str] = []

    @property
    def size(self) -> int:
        """How many records there were."""
        return self._frontier.size

    @property
    def root(self) -> bytes:
        """The root of the tree over them."""
        return self._frontier.root

    def expect(self, checkpoint: Checkpoint) -> None:
        """Compare with this, which somebody trusts; it must come before the records."""
        told = f"the log is not what it was at {checkpoint.size} records, when its checkpoint was signed"
        self._expected.setdefault(checkpoint.size, {})[checkpoint.root] = told

    def append(self, number: int, body: bytes) -> None:
        """Take the next record: the number under which it stands, and what it says."""
        place = self._frontier.size
        if number != place:
            self._fault(f"record {place} is not where it should be: there is record {number}")
        try:
            told = json.loads(body)["seq"]
        except (ValueError, KeyError, TypeError):
            told = None
        if told != number:
            self._fault(f"record {number} says that it is record {told}")
        self._frontier = self._frontier.append(leaf_hash(body))
        self._compare()

    def verdict(self, size: int | None) -> tuple[str, ...]:
        """Return what is wrong, the first first. ``size``: how many records there should be, as the log itself says."""
        if EMPTY not in self._expected.get(0, {EMPTY: ""}):
            self._fault("the log is not what it was at 0 records, when its checkpoint was signed")
        longest = max(self._expected, default=0)
        if longest > self.size:
            self._fault(
                f"there are {self.size} records, and there were {longest} when a checkpoint was signed: the rest is gone"
            )
        if size is not None and size < self.size:
            self._fault(f"there are {self.size} records, and the log's own checkpoint covers {size}")
        return tuple(self._faults)

    def _compare(self) -> None:
        roots = self._expected.get(self.size)
        if roots is None:
            return
        for root, told in roots.items():
            if root != self.root:
                self._fault(told)

    def _fault(self, sentence: str) -> None:
        if len(self._faults) < _MOST_FAULTS and sentence not in self._faults:
            self._faults.append(sentence)


def verify_export(
    lines: Iterable[bytes], trusted: Iterable[str], verify: Verify | None
) -> tuple[int, bytes, tuple[str, ...]]:
    """Look at an exported log: records, one a line, and a checkpoint as the last line.

    Args:
        lines: of the file.
        trusted: checkpoints that were kept elsewhere.
        verify: says whether the log's key has signed something; None: signatures are not looked at, only whether all fits together.

    Returns:
        how many records there are, the root over them, and what is wrong.
    """
    *records, last = [line for line in lines if line.strip()] or [b""]
    faults = []
    trail = AuditTrail()
    size: int | None = None
    try:
        note = json.loads(last)["checkpoint"]
        own = Checkpoint.parse(note) if verify is None else Checkpoint.opened(note, verify)
        size = own.size
        trail.expect(own)
    except (ValueError, KeyError, TypeError) as error:
        faults.append(f"the last line is no checkpoint that can be believed: {error}")
    for note in trusted:
        try:
            trail.expect(Checkpoint.parse(note) if verify is None else Checkpoint.opened(note, verify))
        except CheckpointError as error:
            faults.append(f"a checkpoint cannot be believed: {error}")
    for number, line in enumerate(records):
        trail.append(number, line.rstrip(b"\n"))
    return trail.size, trail.root, (*faults, *trail.verdict(size))
