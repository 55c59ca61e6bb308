"""Which VM a sign is one of, where hosts report VMs to be, and where they may be: each found out once for what is in force."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from serai.controller.whereabouts import Sign, signs_of
from serai.migration.placement import Placement
from serai.model.inventory import VirtualMachine
from serai.model.world import World


class Owners:
    """The VM of each sign, found out once for the VMs that there are."""

    def __init__(self) -> None:
        """Know of none."""
        self._vms: Mapping[str, VirtualMachine] = {}
        self._owners: Mapping[Sign, str] = {}

    def of(self, vms: Mapping[str, VirtualMachine]) -> Mapping[Sign, str]:
        """Return the path of the VM of each sign. It takes its time when ``vms`` are others than the last time."""
        if self._vms is not vms:
            owners = {sign: path for path, vm in vms.items() for sign in signs_of(vm)}
            self._vms, self._owners = vms, owners
        return self._owners


class Placements:
    """What the resources say about where VMs may run."""

    def __init__(self) -> None:
        """Know of none."""
        self._last: tuple[World, Placement] | None = None

    def of(self, world: World) -> Placement:
        """Answer for ``world``."""
        if self._last is None or self._last[0] is not world:
            self._last = world, Placement.of(world)
        return self._last[1]


class Reported(Mapping[str, str]):
    """The host that each VM is reported on, looked for when it is asked; of several, amid a move, the last by name."""

    def __init__(self, vms: Mapping[str, VirtualMachine], places: Callable[[Iterable[Sign]], Collection[str]]) -> None:
        """``places`` says which hosts have told of any of some signs."""
        self._vms, self._places = vms, places

    def __getitem__(self, path: str) -> str:
        """Return the host.

        Raises:
            KeyError: no host reports the VM, or there is none.
        """
        hosts = self._places(signs_of(self._vms[path]))
        if not hosts:
            raise KeyError(path)
        return max(hosts)

    def __iter__(self) -> Iterator[str]:
        """Go through the VMs that are reported somewhere."""
        return (path for path in self._vms if path in self)

    def __len__(self) -> int:
        """How many those are."""
        return sum(1 for _ in self)
