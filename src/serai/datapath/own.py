"""By which identities policies know the addresses of this host's own vNICs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from serai.datapath.maps import Array, Map
from serai.model.address import pack
from serai.model.inventory import VnicId
from serai.model.ruleset import GuardedVnic


class OwnIdentities:
    """Looks vNICs up as the gates of others would, in the view that they have themselves."""

    def __init__(self, endpoints: Map) -> None:
        """Use the gate's table of endpoints."""
        self._endpoints = endpoints
        self._guarded: dict[int, tuple[int, tuple[bytes, ...]]] = {}

    def know(self, vnics: Iterable[GuardedVnic]) -> None:
        """Know these vNICs, as they are now."""
        for vnic in vnics:
            self._guarded[vnic.id] = vnic.view, tuple(pack(address) for address in vnic.addresses)

    def forget_others(self, vnics: Iterable[VnicId]) -> None:
        """Know only these."""
        self._guarded = {vnic: self._guarded[vnic] for vnic in vnics if vnic in self._guarded}

    def of(self, vnic: int, local: Array) -> Array:
        """Return the identity behind each of the vNIC's ends of flows (16 bytes each); 0 where nobody tells it apart."""
        found = np.zeros(len(local), "<u8")
        first, second = local.view("<u8").T
        view, addresses = self._guarded.get(vnic, (0, ()))
        for address in addresses:
            one, other = np.frombuffer(address, "<u8")
            mine = (first == one) & (second == other)
            if mine.any():
                record = self._endpoints.get((view, list(address)))
                found[mine] = record["identity"][0] if record is not None else 0
        return found
