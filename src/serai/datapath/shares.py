"""Divides room between vNICs: one that fills it takes none from those that need little."""

from __future__ import annotations

import numpy as np

from serai.datapath.maps import Array


def latest_of_each(vnics: Array, room: int) -> Array:
    """Which records to keep of those that belong to ``vnics`` (oldest first) where there is room for so many.

    Those with the most records lose their oldest.
    """
    kept = np.ones(len(vnics), "?")
    if len(vnics) <= room:
        return kept
    _, owner, counts = np.unique(vnics, return_inverse=True, return_counts=True)
    share = _share(counts, room)
    order = np.argsort(owner, kind="stable")
    behind = np.repeat(np.cumsum(counts), counts) - np.arange(len(vnics))  # 1 is a vNIC's latest
    kept[order] = behind <= share
    left = room - int(kept.sum())
    if left:  # fewer than there are vNICs with more
        kept[order[behind == share + 1][:left]] = True
    return kept


def _share(counts: Array, room: int) -> int:
    """How many each may have at the most, so that all fit."""
    fewest, most = 0, room
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= room:
            fewest = middle
        else:
            most = middle - 1
    return fewest
