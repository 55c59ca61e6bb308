"""Compiles the gate: ``python -m serai.datapath.build`` (part of ``make setup``).

Only ``struct __sk_buff`` and stable helpers are used, so one object serves every kernel and needs neither
CO-RE nor a vmlinux.h. The object carries BTF: the map layouts are checked against it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from serai.datapath.object import OBJECT
from serai.model import records, tunnels
from serai.model.flow import FRAGMENTS_SECONDS, IDLE_CLASSES, IdleSeconds
from serai.model.flow_record import Sighting
from serai.model.reasons import REASON_SLOTS, Reason

SOURCES = Path(__file__).resolve().parents[3] / "bpf"
_FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-target", "bpf", "-mcpu=v3")


class BuildError(RuntimeError):
    """The gate could not be compiled."""


def model_header() -> str:
    """The C form of the lists that live in ``serai.model``."""
    reasons = [f"\tREASON_{reason.name} = {reason.value}, /* {reason.description} */" for reason in Reason]
    ports = " ".join(f"case swap({port}):" for port in sorted(tunnels.UDP_PORTS))
    protocols = " ".join(f"case {protocol}:" for protocol in sorted(tunnels.PROTOCOLS))
    idle = [f"\tIDLE_{name}," for name in IDLE_CLASSES]
    sightings = [f"\tSIGHTING_{kind.name} = {kind.value}," for kind in Sighting]
    return "\n".join(
        (
            "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */",
            "/* Made from reasons.py, flow.py, flow_record.py, records.py and tunnels.py of serai/model: change those. */",
            "#pragma once",
            f"#define REASON_SLOTS {REASON_SLOTS}",
            "enum serai_reason {",
            *reasons,
            "};",
            "enum serai_idle_class {",
            *idle,
            "\tIDLE_CLASSES,",
            "};",
            "enum serai_sighting_kind {",
            *sightings,
            "};",
            f"#define SIGHTING_KINDS {len(Sighting)}",
            *(f"#define ROOM_{name.upper()} {room}" for name, room in records.CAPACITY.items()),
            f"#define SLOTS {records.VNICS + 1} /* one is nobody's */",
            f"#define FRAGMENTS_SECONDS {FRAGMENTS_SECONDS}",
            f"#define TUNNEL_PORTS(swap) {ports}",
            f"#define TUNNEL_PROTOCOLS {protocols}",
            "",
        )
    )


def build(sources: Path = SOURCES, target: Path = OBJECT, work: Path | None = None) -> bool:
    """Compile the gate unless the object is newer than everything it is made of; say whether it did.

    Raises:
        BuildError: the sources or the compiler are missing, or it refuses the sources.
    """
    if not sources.is_dir():
        message = f"the gate's sources are not at {sources}: build from a checkout"
        raise BuildError(message)
    clang = shutil.which("clang")
    if clang is None:
        message = "clang is missing: install it (apt-get install clang) or run tools/setup"
        raise BuildError(message)
    made_from = (
        sys.modules[part.__module__].__file__
        for part in (Reason, IdleSeconds, Sighting, records.Step, tunnels.is_tunnel)
    )
    inputs = [*sources.glob("*.[ch]"), Path(__file__), *(Path(name) for name in made_from if name)]
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return False
    work = work or sources.parent / "build" / "bpf"
    work.mkdir(parents=True, exist_ok=True)
    (work / "model.h").write_text(model_header())
    fresh = work / "gate.o"
    # Debian keeps asm/ in a directory per architecture, which clang for the bpf target does not look into.
    triplet = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    command = [clang, *_FLAGS, f"-I{work}", f"-I/usr/include/{triplet}", "-c", str(sources / "gate.bpf.c")]
    done = subprocess.run([*command, "-o", str(fresh)], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"clang refuses the gate:\n{done.stderr}"
        raise BuildError(message)
    shutil.copyfile(fresh, target)
    return True


if __name__ == "__main__":
    try:
        made = build()
    except BuildError as error:
        sys.exit(f"error: {error}")
    print("gate compiled" if made else "gate is up to date")
