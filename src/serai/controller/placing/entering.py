"""What a controller is told about VMs that are started, or come in from another host."""

from __future__ import annotations

import msgspec

from serai.migration.entry import Demand, Terms


class EntrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[entry]`` of a controller's config file: what is asked of VMs that come in from another host, or are started."""

    tickets: Demand = Demand.WARN
    """``require``: only `serai migrate` moves VMs. Otherwise who comes without a ticket gets one; where that cannot be, ``warn`` tells it."""
    tls: Demand = Demand.WARN
    """That the guest's memory is encrypted on its way; the same."""
    images: Demand = Demand.WARN
    """That it is registered what a VM boots from or is made of; ``off``: what is registered is not looked at."""

    @property
    def terms(self) -> Terms:
        """The same, for whom they are asked of."""
        return Terms(tickets=self.tickets, tls=self.tls, images=self.images)
