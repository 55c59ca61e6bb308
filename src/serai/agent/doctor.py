"""Looks at a host: can it carry gates, who tells it what to enforce, and does it?"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from serai.agent.config import Config
from serai.agent.identity import Identity, IdentityError
from serai.agent.install import HOOK, hook_script
from serai.agent.lastgood import LastGood
from serai.datapath.preflight import find_problems
from serai.model.check import Check
from serai.wire import local

LEAST_BYTES: Final = 256 * 1024 * 1024
"""Less room than this on a disk that something is kept on is told."""
_TIME_ERROR: Final = 5
_SKEW_SECONDS: Final = 300
_HALF_LIFE: Final = timedelta(hours=12)


def examine(config: Config, *, hook: Path = HOOK) -> Iterator[Check]:
    """Look at everything that an agent on this host needs, with these settings."""
    yield kernel(config.bpffs)
    yield _libvirt(config.libvirt)
    yield _hook(hook)
    yield clock()
    yield disk("disk of the agent", config.state)
    yield from identity(config.state, datetime.now(UTC))
    yield last_ruleset(config.state)
    yield from _agent(config.socket)


def kernel(bpffs: Path) -> Check:
    """Say whether gates can be loaded, attached and pinned."""
    problems = find_problems(bpffs)
    if problems:
        return Check(name="kernel", ok=False, finding="; ".join(problems), remedy="see what stands behind each")
    return Check(name="kernel", ok=True, finding=f"carries gates, pinned below {bpffs}")


def _libvirt(uri: str) -> Check:
    import libvirt  # noqa: PLC0415 (slow to load, and not everywhere)

    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.openReadOnly(uri)
        try:
            domains = len(connection.listAllDomains())
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        return Check(
            name="libvirt",
            ok=False,
            finding=str(error),
            remedy="start libvirtd, or name another with --libvirt; until then gates go on",
        )
    return Check(name="libvirt", ok=True, finding=f"answers, with {domains} domains")


def _hook(hook: Path) -> Check:
    remedy = "run `serai agent hook --install`, and restart libvirtd once"
    try:
        installed = hook.read_text()
    except OSError:
        return Check(
            name="hook",
            ok=False,
            finding=f"{hook} is missing: VMs start without waiting for their gates",
            remedy=remedy,
        )
    if installed != hook_script():
        return Check(name="hook", ok=False, finding=f"{hook} is of another version", remedy=remedy)
    return Check(name="hook", ok=True, finding="is installed, and current")


def clock() -> Check:
    """Say whether the kernel thinks that its clock is kept by somebody."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if state == _TIME_ERROR:
        return Check(
            name="clock",
            ok=False,
            finding="nobody keeps it (NTP)",
            remedy="run chrony or systemd-timesyncd: certificates go by it",
        )
    return Check(name="clock", ok=state >= 0 or None, finding="is kept" if state >= 0 else "the kernel does not tell")


def disk(name: str, directory: Path) -> Check:
    """Say whether there is room where something is kept."""
    there = next((each for each in (directory, *directory.parents) if each.exists()), Path("/"))
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        return Check(name=name, ok=None, finding=f"{there}: {error.strerror}")
    free = f"{usage.free // 2**20} MiB free at {there}"
    if usage.free < LEAST_BYTES:
        return Check(
            name=name, ok=False, finding=free, remedy=f"make room: less than {LEAST_BYTES // 2**20} MiB are left"
        )
    return Check(name=name, ok=True, finding=free)


def identity(state: Path, now: datetime) -> Iterator[Check]:
    """Say whether this host has joined, and how long its certificate is good."""
    known = Identity(state / "identity")
    if not known.joined:
        yield Check(
            name="identity", ok=False, finding="this host has joined no site",
            remedy="run what `serai host token NAME` prints on the controller",
        )  # fmt: skip
        return
    try:
        joined = known.read()
    except (IdentityError, OSError, ValueError) as error:
        yield Check(name="identity", ok=False, finding=str(error), remedy="let this host join again")
        return
    until = joined.certificate.until
    left = until - now
    told = f"host {joined.certificate.host}, certificate until {until:%F %H:%M} UTC"
    if left <= timedelta(0):
        yield Check(
            name="identity", ok=False, finding=f"{told}: it is over",
            remedy="let the agent reach a controller: it renews it for 30 days; after that, let this host join again",
        )  # fmt: skip
    elif left < _HALF_LIFE / 2:
        yield Check(
            name="identity", ok=False, finding=f"{told}: it should have been renewed", remedy="see what the link says"
        )
    else:
        yield Check(name="identity", ok=True, finding=told)


def last_ruleset(state: Path) -> Check:
    """Say whether there is something to start from with no controller in reach."""
    try:
        ruleset = LastGood(state / "ruleset").read()
    except (OSError, ValueError) as error:
        return Check(
            name="last ruleset", ok=False, finding=str(error), remedy="remove the file: the controller sends another"
        )
    if ruleset is None:
        return Check(
            name="last ruleset", ok=None, finding="there is none yet: gates are closed until a controller has sent one"
        )
    return Check(name="last ruleset", ok=True, finding=f"{ruleset.digest[:12]}, {len(ruleset.vnics)} vNICs")


def _agent(socket: Path) -> Iterator[Check]:
    try:
        status = local.ask(socket, local.Status(), local.StatusReply, timeout_seconds=5)
    except local.AgentError as error:
        yield Check(
            name="agent", ok=False, finding=str(error), remedy="start it: gates go on, but nothing new is learned"
        )
        return
    closed = sum(gate.vnic is None for gate in status.gates)
    yield Check(name="agent", ok=True, finding=f"runs, with {len(status.gates)} gates, {closed} of them closed")
    link = status.link
    if link is None:
        yield Check(name="link", ok=False, finding="to no controller", remedy="let this host join")
        return
    skew = link.clock_skew_seconds or 0.0
    if link.fenced:
        yield Check(
            name="link", ok=False, finding="a newer agent of this host has come, and this one is silent",
            remedy="find out who else has this host's key; then restart the one that shall be",
        )  # fmt: skip
    elif not link.connected or link.trouble:
        yield Check(
            name="link",
            ok=link.connected and None,
            finding=link.trouble or f"tries {link.url}",
            remedy="see the agent's log",
        )
    else:
        yield Check(name="link", ok=True, finding=f"to {link.url}")
    if abs(skew) > _SKEW_SECONDS:
        yield Check(
            name="clocks",
            ok=False,
            finding=f"the controller's clock is {skew:+.0f} s from this host's",
            remedy="keep both by NTP",
        )
