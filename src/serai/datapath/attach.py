"""Puts the gate on a tap and keeps it there: tcx links where the kernel has them (6.6), clsact filters before.

A tcx link is pinned, so the gate stays when the agent goes, and a new program replaces the old one in one
step: at no moment is the tap without a gate.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from serai.datapath import libbpf
from serai.datapath.libbpf import check, ffi, lib, object_id

_TCX_INGRESS, _TCX_EGRESS = 46, 47
_TC_INGRESS, _TC_EGRESS = 1, 2
_TC_REPLACE = 1
_MANY = 64  # more programs than anybody puts on one hook
_PRIORITY, _HANDLE = 1, 1  # ours; before whatever else may sit on the tap
_NO_INTERFACE = 0x7FFFFFFF

# A frame from the VM enters the host at the tap's ingress; one to the VM leaves by its egress.
_HOOKS: Final[Mapping[str, tuple[int, int]]] = {
    "from_vm": (_TCX_INGRESS, _TC_INGRESS),
    "to_vm": (_TCX_EGRESS, _TC_EGRESS),
}


class Attacher:
    """Attaches both programs to a tap."""

    def __init__(self, links: Path, programs: Mapping[str, int], *, use_tcx: bool = True) -> None:
        """Keep link pins in ``links`` (on a bpffs). ``use_tcx=False`` takes the older way at once."""
        self._links = links
        self.programs = programs
        """Descriptors by name."""
        self._may_use_tcx = use_tcx

    def attach(self, ifindex: int) -> bool:
        """Put the gate on the tap, or this program in the place of an earlier one; say whether it had none.

        Raises:
            KernelError: ENODEV where the tap is gone; anything else means that there is no gate.
        """
        # Towards the VM first: nothing may reach it ungated while the other side is being attached.
        fresh = [self._attach(ifindex, name) for name in ("to_vm", "from_vm")]
        return any(fresh)

    def adopt(self, older: Attacher, ifindex: int) -> bool:
        """Put these programs in the place of those that ``older`` put on the tap; say whether the tap still lives."""
        # Towards the VM first, as ever: by the old or the new program, both ways are gated all the time.
        lives = [self._adopt(older, ifindex, name) for name in ("to_vm", "from_vm")]
        return all(lives)

    def is_attached(self, ifindex: int) -> bool:
        """Say whether both of these very programs are on the tap, as the kernel has it now."""
        return all(self._has(ifindex, name) for name in _HOOKS)

    def forget(self, ifindex: int) -> None:
        """Remove the pins of a tap that is gone; the gate of a tap that lives is not touched by this."""
        for name in _HOOKS:
            self._pin(ifindex, name).unlink(missing_ok=True)

    def attached(self) -> set[int]:
        """The taps, by ifindex, that carry a gate, and those that are gone but have pins left."""
        if not self._has_tcx:
            return {i for i, _ in socket.if_nameindex() if any(_filter(_hook(i, name)) for name in _HOOKS)}
        if not self._links.is_dir():
            return set()
        return {int(pin.name.split("-")[0]) for pin in self._links.iterdir()}

    @functools.cached_property
    def _program_ids(self) -> Mapping[str, int]:
        return {name: object_id(self.programs[name]) for name in _HOOKS}

    @property
    def has_tcx(self) -> bool:
        """Gates are links."""
        return self._has_tcx

    @functools.cached_property
    def _query(self) -> tuple[Any, Any]:
        """What to ask the kernel with, and where it writes programs' numbers: every gate is looked at every second."""
        query, numbers = libbpf.struct("bpf_prog_query_opts"), ffi.new("__u32[]", _MANY)
        query.prog_ids = numbers
        return query, numbers

    @functools.cached_property
    def _has_tcx(self) -> bool:
        """Whether to use tcx. The kernel is asked, not its version: an interface that is not there is ENODEV to it."""
        if not self._may_use_tcx:
            return False
        refusal = lib.bpf_link_create(self.programs["to_vm"], _NO_INTERFACE, _TCX_EGRESS, libbpf.NULL)
        return -refusal not in {errno.EINVAL, errno.EOPNOTSUPP}

    def _attach(self, ifindex: int, name: str) -> bool:
        return self._attach_tcx(ifindex, name) if self._has_tcx else self._attach_clsact(ifindex, name)

    def _adopt(self, older: Attacher, ifindex: int, name: str) -> bool:
        if not self._has_tcx:
            self._attach_clsact(ifindex, name)
            return True
        before, pin = older._pin(ifindex, name), self._pin(ifindex, name)  # of the same class
        if not before.exists():
            return pin.exists()
        link = check(lib.bpf_obj_get(str(before).encode()), f"open {before.name}")
        try:
            result = lib.bpf_link_update(link, self.programs[name], libbpf.NULL)
            if result != -errno.ENOLINK:
                check(result, f"replace the older gate on interface {ifindex}")
                self._links.mkdir(parents=True, exist_ok=True)
                if not pin.exists():  # it does, where an upgrade was cut short just behind this
                    check(lib.bpf_obj_pin(link, str(pin).encode()), f"pin {pin.name}")
        finally:
            os.close(link)
        before.unlink()
        return bool(result == 0)

    def _has(self, ifindex: int, name: str) -> bool:
        wanted = self._program_ids[name]
        if not self._has_tcx:
            return _filter(_hook(ifindex, name)) == wanted
        query, numbers = self._query
        query.prog_cnt = _MANY
        found = lib.bpf_prog_query_opts(ifindex, _HOOKS[name][0], query) == 0
        return found and wanted in ffi.unpack(numbers, min(query.prog_cnt, _MANY))

    def _pin(self, ifindex: int, name: str) -> Path:
        return self._links / f"{ifindex}-{name}"

    def _attach_tcx(self, ifindex: int, name: str) -> bool:
        pin = self._pin(ifindex, name)
        program = self.programs[name]
        if pin.exists():
            link = check(lib.bpf_obj_get(str(pin).encode()), f"open {pin.name}")
            try:
                result = lib.bpf_link_update(link, program, libbpf.NULL)
            finally:
                os.close(link)
            if result != -errno.ENOLINK:  # ENOLINK: of a tap that had the same number and is gone
                check(result, f"replace the gate on interface {ifindex}")
                return False
            pin.unlink()
        link = check(
            lib.bpf_link_create(program, ifindex, _HOOKS[name][0], libbpf.NULL),
            f"attach the gate to interface {ifindex}",
        )
        try:
            self._links.mkdir(parents=True, exist_ok=True)
            check(lib.bpf_obj_pin(link, str(pin).encode()), f"pin {pin.name}")
        finally:
            os.close(link)
        return True

    def _attach_clsact(self, ifindex: int, name: str) -> bool:
        hook = _hook(ifindex, name)
        result = lib.bpf_tc_hook_create(hook)
        if result != -errno.EEXIST:
            check(result, f"prepare interface {ifindex}")
        options = libbpf.struct(
            "bpf_tc_opts", prog_fd=self.programs[name], flags=_TC_REPLACE, handle=_HANDLE, priority=_PRIORITY
        )
        had_one = bool(_filter(hook))
        check(lib.bpf_tc_attach(hook, options), f"attach the gate to interface {ifindex}")
        return not had_one


def _hook(ifindex: int, name: str) -> Any:  # noqa: ANN401
    return libbpf.struct("bpf_tc_hook", ifindex=ifindex, attach_point=_HOOKS[name][1])


def _filter(hook: Any) -> int:  # noqa: ANN401
    """The kernel's number of the program in our place, 0 where there is none."""
    query = libbpf.struct("bpf_tc_opts", handle=_HANDLE, priority=_PRIORITY)
    return int(query.prog_id) if lib.bpf_tc_query(hook, query) == 0 else 0
