"""Services that rules may refer to instead of ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from serai.model.catalog import Catalog
from serai.model.policy import PortRange
from serai.model.ports import format_ports, parse_ports
from serai.model.references import candidates
from serai.model.resources import Service
from serai.model.tenancy import Scope
from serai.policy.traffic.narrow import ranges
from serai.policy.traffic.seen import covers


def services_of(catalog: Catalog) -> dict[str, tuple[PortRange, ...]]:
    """Return the ports of all Services, by path."""
    found = {}
    for key in catalog:
        definition = catalog.get(key) if key.kind == "Service" else None
        if definition is not None and isinstance(definition.resource, Service):
            ports = map(parse_ports, definition.resource.spec.ports)
            found[key.path] = tuple(each for each in ports if each is not None)
    return found


class Offers:
    """The Services that there are."""

    def __init__(self, services: Mapping[str, Sequence[PortRange]]) -> None:
        """Take the ports of each Service by its path."""
        self._services = {path: ranges(ports) for path, ports in services.items()}

    def written(self, services: Sequence[PortRange], ports: Sequence[PortRange], scope: Scope) -> Iterator[str]:
        """Write what a rule of a policy in ``scope`` admits: by Services all of whose ports it admits, the rest in ports.

        Args:
            services: what was seen, in order.
            ports: what is admitted; more, where that is too much to write.
            scope: the policy's.
        """
        if list(ranges(services)) != list(ports):
            yield from map(format_ports, ports)
            return
        left = set(services)
        for path in sorted(
            self._visible(scope), key=lambda path: (-len(self._services[path]), -len(path.partition(":")[0]), path)
        ):
            used = self._used(path, left)
            if used:
                left -= used
                yield self._called(path, scope)
        yield from map(format_ports, ranges(left))

    def _visible(self, scope: Scope) -> Iterable[str]:
        """Return the Services of a scope and those above: no other tenant's are anybody's business."""
        homes = set(scope.lineage)
        return (path for path in self._services if path.partition(":")[0] in homes)

    def _used(self, path: str, left: set[PortRange]) -> set[PortRange]:
        """Return what a Service stands for, where all of its ports are among what is left."""
        used: set[PortRange] = set()
        for ports in self._services[path]:
            inside = {each for each in left if covers(ports, each)}
            if ranges(inside) != (ports,):
                return set()
            used |= inside
        return used

    def _called(self, path: str, scope: Scope) -> str:
        """Return the name of a Service where it means this one in ``scope``, else its path."""
        name = path.rpartition(":")[2]
        nearest = next(each for each in candidates(name, scope) if each in self._services)
        return name if nearest == path else path
