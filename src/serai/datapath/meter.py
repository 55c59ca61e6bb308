"""Tells what is new of flows: remembers what was told of each, and makes records of the rest.

Sums over the records of all hosts are what their gates counted: nothing is told twice, and what cannot be told is counted
(``forgotten``). A flow begins and ends once, wherever its VM was meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

import numpy as np

from serai.datapath.deltas import Deltas, as_seen, of_flows
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.maps import Array, opaque, pick, some, together
from serai.datapath.pending import Pending
from serai.datapath.told import ELSEWHERE, GONE, TOLD, Told, as_told, hashes

REMEMBER: Final = 1 << 19
"""Flows that are remembered at the most, some 100 bytes each; others are told when they end, all at once."""
PENDING_ROOM: Final = 1 << 17
"""Records that wait for the end of their interval, some 160 bytes each: of more live flows the next interval tells."""

_AT_ONCE: Final = 8192
"""Flows that are looked at in one step: what that takes of memory does not grow with a table."""
_NOTHING: Final = opaque(np.zeros(1, TOLD))
_Own = Callable[[int, Array], Array]


def _nobody(_vnic: int, local: Array) -> Array:
    return np.zeros(len(local), "<u8")


class Meter:
    """What was told of every flow of a host, and the records of the interval that has not ended."""

    def __init__(self, own: _Own = _nobody, *, remember: int = REMEMBER, room: int = PENDING_ROOM) -> None:
        """Know nothing yet; ``own`` says by which identity policy knows a vNIC's addresses."""
        self._own = own
        self._remember = remember
        self._room = room
        self._told: dict[int, Told] = {}
        self._pending = Pending()
        self.forgotten = 0
        """Records that there was no room for."""

    def __len__(self) -> int:
        """How many flows are remembered."""
        return sum(map(len, self._told.values()))

    def clear(self) -> None:
        """Know nothing, as in the beginning."""
        self._told, self._pending = {}, Pending()

    # What happens to flows

    def read(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """Tell what is new of the live flows of ``vnic``, which are all these.

        One that was here, is not, and whose end nobody tells until the next reading, has ended with what was last seen of it.
        """
        told = self._told.setdefault(vnic, Told())
        rows, fresh = opaque(told.rows).copy().view(TOLD), [np.empty(0, TOLD)]
        here, changed = np.zeros(len(rows), "?"), False
        for at in range(0, len(keys), _AT_ONCE):
            some_keys, some_flows = keys[at : at + _AT_ONCE], flows[at : at + _AT_ONCE]
            places, before = self._match(vnic, told, some_keys, some_flows, now_ns)
            known = places >= 0
            deltas = of_flows(some_keys, some_flows, before, fresh=~known, over=False, now_ns=now_ns)
            tell = deltas.worth & (np.cumsum(deltas.worth) <= self._room - len(self._pending))
            tell &= known | (np.cumsum(~known) <= self._remember - len(self) - sum(map(len, fresh)))
            self._say(vnic, some_keys, some_flows, deltas, tell)
            moved, new = tell & known, tell & ~known
            now = _now(
                some(some_keys, moved), some(some_flows, moved), some(deltas.flags, moved), some(before["hash"], moved)
            )
            opaque(rows)[some(places, moved)] = opaque(now)
            fresh.append(_now(pick(some_keys, new), pick(some_flows, new), deltas.flags[new]))
            here[places[known]] = True
            changed |= bool(tell.any() or before["missing"].any())
        missing = told.living & ~here
        self._lose(vnic, told, np.flatnonzero(missing & (told.rows["missing"] > 0)), now_ns)
        if changed or missing.any():
            rows["missing"] = missing
            told.change(rows, together(fresh, TOLD))

    def ended(self, vnics: Array, keys: Array, flows: Array, now_ns: int) -> None:
        """Tell the rest of flows that have ended (or have gone on to another host); these are their last counters."""
        for vnic in np.unique(vnics).tolist():
            mine = vnics == vnic
            for some_keys, some_flows in _distinct(some(keys, mine), some(flows, mine)):
                self._ended(vnic, some_keys, some_flows, now_ns)

    def imported(self, vnic: int, keys: Array, flows: Array, here: tuple[Array, Array], now_ns: int) -> None:
        """Know that flows of ``vnic`` were taken over from another host, with what it has counted, and will have told.

        Args:
            vnic: whose they are.
            keys: their keys.
            flows: as they are here from now on.
            here: keys and flows that were here under some of these keys until now: what was counted is told.
            now_ns: CLOCK_MONOTONIC.
        """
        told = self._told.setdefault(vnic, Told())
        before_keys, before_flows = here
        places, before = self._match(vnic, told, before_keys, before_flows, now_ns)
        # What began elsewhere, or lives elsewhere meanwhile, goes on; what began here, and there too, ends here.
        goes_on = before["flags"] & (ELSEWHERE | GONE) != 0
        for over in (False, True):
            deltas = of_flows(before_keys, before_flows, before, fresh=places < 0, over=over, now_ns=now_ns)
            self._say(vnic, before_keys, before_flows, deltas, deltas.worth & (goes_on != over))
        told.forget(places[places >= 0])
        stale = told.find(keys, flows["first_ns"])
        told.forget(stale[stale >= 0])
        told.change(told.rows, _elsewhere(keys, flows, now_ns))

    def handed_over(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """Know that all flows of ``vnic``, which are these, live on on another host."""
        self.read(vnic, keys, flows, now_ns)
        told = self._told[vnic]
        rows = told.alive().copy()
        rows["flags"] |= np.uint8(GONE)
        self._told[vnic] = Told(rows)

    def adopt(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """Tell nothing of what was counted until now."""
        self._told[vnic] = Told(_elsewhere(keys, flows, now_ns))

    def read_others(self, vnics: Collection[int], now_ns: int) -> None:
        """Read what is left of all vNICs but these: they have no tables any more."""
        for vnic in self._told.keys() - set(vnics):
            self.read(vnic, np.empty(0, FLOW_KEY), np.empty(0, FLOW), now_ns)
            if not self._told[vnic].living.any():
                del self._told[vnic]

    def add(self, pending: Array) -> None:
        """Tell these too (``PENDING``)."""
        self._pending.add(pending)
        if len(self._pending) > 2 * self._room:
            self._trim()

    # What is made of it

    def take(self, at: int, now_ns: int) -> list[Array]:
        """Return the records of the interval that ends now (``at``: seconds since 1970), in pieces, and begin another."""
        self._trim()
        return self._pending.take(at, now_ns)

    def written(self) -> Iterator[tuple[int, Array]]:
        """Go through what must be remembered: by vNIC, arrays of ``TOLD`` that do not change any more."""
        for vnic, told in self._told.items():
            yield vnic, told.alive()

    def remember(self, vnic: int, rows: Array) -> None:
        """Take in what ``written`` gave."""
        self._told[vnic] = Told(rows)

    def _ended(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        told = self._told.get(vnic) or Told()
        places, before = self._match(vnic, told, keys, flows, now_ns)
        deltas = of_flows(keys, flows, before, fresh=places < 0, over=True, now_ns=now_ns)
        self._say(vnic, keys, flows, deltas, deltas.worth)
        told.forget(places[places >= 0])

    def _match(self, vnic: int, told: Told, keys: Array, flows: Array, now_ns: int) -> tuple[Array, Array]:
        """Return where flows are in ``told`` (-1: nowhere), and what was told of them."""
        places = told.find(keys, flows["first_ns"])
        before = pick(told.rows, places) if len(told) else np.zeros(len(places), TOLD)
        opaque(before)[places < 0] = _NOTHING
        back = np.zeros(len(keys), "?")
        for counter in ("packets", "bytes"):
            for now, then in zip(flows[counter].T, before[counter].T, strict=True):
                back |= now < then
        if back.any():  # its ports began another connection within one tick of the clock
            self._lose(vnic, told, places[back], now_ns)
            places[back], opaque(before)[back] = -1, _NOTHING
        return places, before

    def _say(self, vnic: int, keys: Array, flows: Array, deltas: Deltas, which: Array) -> None:
        if which.any():
            made = deltas.records(vnic, keys, flows, which)
            made["record"]["own_identity"] = self._own(vnic, some(keys, which)["local"])
            self.add(made)

    def _lose(self, vnic: int, told: Told, places: Array, now_ns: int) -> None:
        """Nobody has said how these ended: their last counters have been told."""
        if len(places):
            rows = pick(told.rows, places)
            seen = as_seen(rows)
            deltas = of_flows(rows["key"], seen, rows, fresh=np.zeros(len(rows), "?"), over=True, now_ns=now_ns)
            self._say(vnic, rows["key"], seen, deltas, deltas.worth)
            told.forget(places)

    def _trim(self) -> None:
        self.forgotten += self._pending.trim(self._room)


def _now(keys: Array, flows: Array, flags: Array, hashed: Array | None = None) -> Array:
    rows = as_told(keys, flows)
    rows["flags"] = flags
    if hashed is not None:
        rows["hash"] = hashed
    return rows


def _elsewhere(keys: Array, flows: Array, now_ns: int) -> Array:
    """Flows of which somebody else tells what was until now."""
    none, nothing = np.zeros(len(keys), "?"), np.zeros(len(keys), TOLD)
    flags = of_flows(keys, flows, nothing, fresh=none, over=False, now_ns=now_ns).flags
    return _now(keys, flows, flags | np.uint8(ELSEWHERE))


def _distinct(keys: Array, flows: Array) -> Iterator[tuple[Array, Array]]:
    """Flows that one tick of the clock began and ended under one key are told one after another."""
    while len(keys):
        _, first = np.unique(hashes(keys, flows["first_ns"]), return_index=True)
        yield pick(keys, first), pick(flows, first)
        left = np.ones(len(keys), "?")
        left[first] = False
        keys, flows = pick(keys, left), pick(flows, left)
