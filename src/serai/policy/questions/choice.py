"""Which ends of connections a question is about."""

from __future__ import annotations

import dataclasses

from serai.model.address import Address, Prefix, contains
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import InCidr, Peer
from serai.policy.match import Remote, is_peer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Some ends: those that any of the peers means, the VMs and vNICs that are named, the addresses of no VM."""

    peers: tuple[Peer | None, ...] = ()
    """None means everybody."""
    vnics: frozenset[int] = frozenset()
    """By number."""
    outside: bool = False
    """All addresses that no VM holds."""
    inverted: bool = False
    """All others instead."""

    def has(self, vm: VirtualMachine, vnic: Vnic, address: Address) -> bool:
        """Say whether an address that a VM holds is meant."""
        remote = Remote(address=address, holder=(vm, vnic))
        found = vnic.id in self.vnics or any(is_peer(peer, remote) for peer in self.peers)
        return found != self.inverted

    def has_outside(self, prefix: Prefix) -> bool:
        """Say whether addresses of ``prefix`` that no VM holds are meant; ``cuts`` have to tell them apart."""
        found = self.outside or any(
            peer is None or (isinstance(peer, InCidr) and contains(peer.prefix, prefix)) for peer in self.peers
        )
        return found != self.inverted

    @property
    def cuts(self) -> frozenset[Prefix]:
        """The prefixes that have to be told apart."""
        return frozenset(peer.prefix for peer in self.peers if isinstance(peer, InCidr))


EVERYBODY = Choice(peers=(None,))
