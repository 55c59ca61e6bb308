"""The compiled gate in the kernel: its maps and programs, pinned so that they outlive the agent."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from serai.datapath import layout, libbpf
from serai.datapath.libbpf import KernelError, check, lib
from serai.datapath.maps import Map

OBJECT: Final = Path(__file__).with_name("gate.o")
"""Where ``serai.datapath.build`` puts the compiled gate."""

PROGRAMS: Final = ("from_vm", "to_vm")
"""Those that stand at taps."""
_CLOCK: Final = "read_clocks"


class GateObject:
    """The gate's programs and maps, ready to use."""

    def __init__(  # what there is in the object
        self,
        handle: Any,  # noqa: ANN401
        maps: Mapping[str, Map],
        ring: int,
        programs: Mapping[str, int],
        clock: int,
    ) -> None:
        """Hold what ``load`` made."""
        self._handle = handle
        self.maps = maps
        self.ring = ring
        """Descriptor of the ring of events; whoever reads it closes it."""
        self.programs = programs
        """Descriptors by name."""
        self.clock = clock
        """Descriptor of the program that reads the clocks, for user space to run."""

    @classmethod
    def load(cls, pins: Path | None, *, sizes: Mapping[str, int] | None = None, path: Path = OBJECT) -> Self:
        """Load the gate; with ``pins`` (a directory on a bpffs) adopt the maps pinned there or pin new ones.

        Raises:
            KernelError: the object is missing, the kernel refuses it, or the pinned maps are of another layout.
        """
        if not path.exists():
            message = f"the compiled gate is missing at {path.name}: run make setup"
            raise KernelError(errno.ENOENT, message)
        handle = lib.bpf_object__open_file(str(path).encode(), libbpf.NULL)
        if handle == libbpf.NULL:
            raise KernelError(errno.EINVAL, f"{path} is not a BPF object")
        try:
            for name, entries in (sizes or {}).items():
                if pins is not None:
                    _require_size(pins / name, entries)
                check(lib.bpf_map__set_max_entries(_map(handle, name), entries), f"size map {name}")
            if pins is not None:
                pins.mkdir(parents=True, exist_ok=True)
                for name in (*layout.MAPS, layout.RING):
                    pin = str(pins / name).encode()
                    check(lib.bpf_map__set_pin_path(_map(handle, name), pin), f"pin map {name}")
            check(lib.bpf_object__load(handle), "load the gate into the kernel")
        except KernelError:
            lib.bpf_object__close(handle)
            raise
        maps = {
            # A descriptor of its own for each: the object closes those that it holds.
            name: Map(os.dup(lib.bpf_map__fd(_map(handle, name))), key, value)
            for name, (key, value) in layout.MAPS.items()
        }
        ring = os.dup(lib.bpf_map__fd(_map(handle, layout.RING)))
        programs = {name: _program(handle, name) for name in PROGRAMS}
        return cls(handle, maps, ring, programs, _program(handle, _CLOCK))

    def close(self) -> None:
        """Let go of the programs and maps; what is pinned or attached goes on working."""
        if self._handle is not None:
            lib.bpf_object__close(self._handle)
            self._handle = None


def _require_size(pin: Path, entries: int) -> None:
    """Maps keep the size that they were made with; the kernel would only say that something is wrong."""
    if pin.name not in layout.MAPS or not pin.exists():
        return
    held = Map.pinned(str(pin), *layout.MAPS[pin.name]).capacity
    if held != entries:
        message = (
            f"{pin} was made for {held} entries, and {entries} are asked for: set map_sizes.{pin.name} to {held}, "
            f"or remove {pin.parent.parent} while no VM runs on this host"
        )
        raise KernelError(errno.EEXIST, message)


def _program(handle: Any, name: str) -> int:  # noqa: ANN401
    return int(lib.bpf_program__fd(lib.bpf_object__find_program_by_name(handle, name.encode())))


def _map(handle: Any, name: str) -> Any:  # noqa: ANN401
    found = lib.bpf_object__find_map_by_name(handle, name.encode())
    if found == libbpf.NULL:
        raise KernelError(errno.ENOENT, f"the gate has no map {name}")
    return found
