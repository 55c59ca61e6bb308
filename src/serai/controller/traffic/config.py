"""What a controller is told about traffic: where it is kept, for how long, and in how much room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from serai.flowstore.exporter import ExportSettings
from serai.flowstore.schema import Retention
from serai.flowstore.store import UrlError, address_of

EMBEDDED, OFF = "embedded", "off"

_Days = Annotated[int, msgspec.Meta(ge=1, le=36500)]


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[flows]`` of a controller's config file."""

    store: str = EMBEDDED
    """``embedded``: an engine beside this controller; ``clickhouse://...``: a server or a cluster, for several controllers; ``off``: nowhere."""
    directory: Path = Path("/var/lib/serai/flows")
    """Where the embedded engine keeps its tables, and what has come in and is not in the engine yet."""
    raw_days: _Days = 7
    """How long single records are kept."""
    minute_days: _Days = 60
    """How long sums of a minute are; those of ten seconds a tenth of that."""
    hour_days: _Days = 730
    """How long sums of an hour are."""
    disk_gigabytes: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    """What all of it may take: beyond, the oldest and finest goes first. Of a cluster nothing is removed for that."""
    journal_megabytes: Annotated[int, msgspec.Meta(ge=16)] = 2048
    """What may wait while the engine does not answer; beyond, hosts keep their records until it does."""
    export: ExportSettings = msgspec.field(default_factory=ExportSettings)
    """Who else is told."""

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        if self.store not in {EMBEDDED, OFF}:
            try:
                address_of(self.store)
            except UrlError as error:
                raise ValueError(f"store: {error}; or write 'embedded' or 'off'") from error

    @property
    def retention(self) -> Retention:
        """How long things are kept."""
        return Retention(raw=self.raw_days, minutes=self.minute_days, hours=self.hour_days)

    @property
    def disk_bytes(self) -> int:
        """``disk_gigabytes`` in bytes."""
        return int(self.disk_gigabytes * 1e9)
