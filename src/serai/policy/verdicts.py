"""What a ruleset says of many connections of one vNIC at once: what ``Lookup`` says of each, by arrays.

A host that takes over a VM with a hundred thousand flows asks about all of them while packets wait.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serai.model.policy import ANY_PROTOCOL
from serai.model.records import KEYS, Records, Step
from serai.model.ruleset import GuardedVnic, HostRuleset

Array = NDArray[Any]

_VIEW_BITS: Final = 64
_EVERYBODY: Final = 0
_BITS: Final = 128
_PAGE_KEY: Final = np.dtype([("list", "<u8"), ("protocol", "<u4"), ("pad", "<u4")])


class Verdicts:
    """One vNIC's part of a ruleset."""

    def __init__(self, ruleset: HostRuleset, vnic: GuardedVnic) -> None:
        """Look out what concerns ``vnic``."""
        tables = ruleset.tables
        endpoints, prefixes, lists = tables["endpoints"], tables["prefixes"], tables["lists"]
        # Tables are sorted by their bytes: what is picked out by the fields in front is sorted by what follows.
        self._endpoints = endpoints[endpoints["view"] == vnic.view]
        view = np.array([vnic.view], "<u8").view("<u4")
        seen = prefixes[(prefixes["view"] == view).all(axis=1)]
        self._prefixes = [
            seen[seen["length"] == length] for length in sorted(set(seen["length"].tolist()), reverse=True)
        ]
        self._lists = [lists[lists["ruleset"] == ruleset] for ruleset in (vnic.egress, vnic.ingress)]
        self._pages = tables["pages"]
        self._page_keys = _keys(self._pages, KEYS["pages"])

    def accepts(self, origins: Array, remotes: Array, protocols: Array, ports: Array) -> Array:
        """Say which connections are accepted.

        Args:
            origins: 0 where the VM opens it, 1 where it is opened to it.
            remotes: the other ends' addresses, 16 bytes each (``model/address.py``).
            protocols: their numbers.
            ports: that policy judges by, as for ``Lookup.decide``.
        """
        identities = self._identities(remotes)
        lists, known = np.zeros(len(origins), "<u8"), np.zeros(len(origins), "?")
        for origin, table in enumerate(self._lists):
            mine = origins == origin
            lists[mine], known[mine] = _lists_for(table, identities[mine])
        accepted: Array = self._steps(lists, known, protocols, ports) == Step.ACCEPT
        return accepted

    def _identities(self, remotes: Array) -> Array:
        """Who the addresses are; 0 for everybody not told apart."""
        addresses = np.ascontiguousarray(remotes, "u1").reshape(-1, _BITS // 8)
        found = np.full(len(addresses), _EVERYBODY, "<u8")
        left = np.ones(len(addresses), "?")
        _find(self._endpoints, addresses, found, left)
        for table in self._prefixes:
            _find(table, addresses & _mask(int(table["length"][0]) - _VIEW_BITS), found, left)
        return found

    def _steps(self, lists: Array, known: Array, protocols: Array, ports: Array) -> Array:
        """What the decision lists say, page by page; MISSING where one does not."""
        steps = np.full(len(lists), Step.MISSING, "u1")
        lists, left = lists.copy(), np.flatnonzero(known)
        while len(left) and len(self._pages):
            places, there = self._find_pages(lists[left], protocols[left])
            left, pages = left[there], self._pages[places[there]]
            starts = np.arange(pages["first"].shape[1]) < pages["count"][:, np.newaxis].astype("i8") - 1
            at = (starts & (ports[left][:, np.newaxis] >= pages["first"])).sum(axis=1)
            decisions = pages["decisions"][np.arange(len(pages)), at]
            steps[left] = decisions["step"]
            lists[left] = decisions["rule"]
            left = left[decisions["step"] == Step.DESCEND]
        steps[steps == Step.DESCEND] = Step.MISSING
        return steps

    def _find_pages(self, lists: Array, protocols: Array) -> tuple[Array, Array]:
        """Where the page of each is, and whether there is one: of its protocol, else of any."""
        wanted = np.zeros(len(lists), _PAGE_KEY)
        wanted["list"], wanted["protocol"] = lists, protocols
        places, there = _places(self._page_keys, wanted.view(self._page_keys.dtype))
        wanted["protocol"] = ANY_PROTOCOL
        others, either = _places(self._page_keys, wanted.view(self._page_keys.dtype))
        return np.where(there, places, others), there | either


def _lists_for(table: Records, identities: Array) -> tuple[Array, Array]:
    """The decision list of each identity, and whether there is one; its own, else everybody's."""
    if not len(table):
        return np.zeros(len(identities), "<u8"), np.zeros(len(identities), "?")
    table = table[np.argsort(table["identity"])]
    places, there = _places(table["identity"], identities)
    fallback, any_ = _places(table["identity"], np.full(1, _EVERYBODY, "<u8"))
    return table["list"][np.where(there, places, fallback[0])], there | any_[0]


def _find(table: Records, addresses: Array, found: Array, left: Array) -> None:
    """Fill in who those that are left are, as far as the table knows."""
    keys = np.ascontiguousarray(table["address"]).view("S16").reshape(-1)
    wanted = np.flatnonzero(left)
    places, there = _places(keys, np.ascontiguousarray(addresses[wanted]).view("S16").reshape(-1))
    found[wanted[there]] = table["identity"][places[there]]
    left[wanted[there]] = False


def _places(ordered: Array, wanted: Array) -> tuple[Array, Array]:
    """Where each is in an array that is sorted, and whether it is there."""
    if not len(ordered):
        return np.zeros(len(wanted), "i8"), np.zeros(len(wanted), "?")
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return places, ordered[places] == wanted


def _keys(records: Records, size: int) -> Array:
    raw = np.ascontiguousarray(records).view("u1").reshape(len(records), records.dtype.itemsize)
    return np.ascontiguousarray(raw[:, :size]).view(f"S{size}").reshape(-1)


def _mask(length: int) -> Array:
    bits = ((1 << length) - 1) << (_BITS - length)
    return np.frombuffer(bits.to_bytes(_BITS // 8), "u1")
