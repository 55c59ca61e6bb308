"""Who the numbers in records are: VMs, vNICs and rules by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pyarrow as pa

from serai.analysis.register import Endpoint


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """Names by number. It may learn more while others look things up."""

    endpoints: dict[int, Endpoint] = dataclasses.field(default_factory=dict)
    """VMs as they were: by ``vm`` and ``peer``."""
    vnics: dict[int, str] = dataclasses.field(default_factory=dict)
    """Paths of vNICs, such as ``/acme/shop:web-1/nic0``."""
    rules: dict[int, str] = dataclasses.field(default_factory=dict)
    """Texts of rules, such as ``/acme/shop:web/ingress/from-users``."""

    def learn(self, tables: Mapping[str, pa.Table]) -> None:
        """Take in rows of the flow store's tables ``endpoints``, ``vnics`` and ``rules``, those of them that are there."""
        if "endpoints" in tables:
            columns = (tables["endpoints"][name].to_pylist() for name in ("number", "path", "labels"))
            for number, path, labels in zip(*columns, strict=True):
                self.endpoints[number] = Endpoint(number=number, path=path, labels=dict(labels or ()))
        for name, key, value, known in (
            ("vnics", "vnic", "path", self.vnics),
            ("rules", "number", "text", self.rules),
        ):
            if name in tables:
                known.update(zip(tables[name][key].to_pylist(), tables[name][value].to_pylist(), strict=True))

    def vm(self, number: int) -> str:
        """Return the path of a VM; empty where it is not known."""
        found = self.endpoints.get(number)
        return found.path if found else ""
