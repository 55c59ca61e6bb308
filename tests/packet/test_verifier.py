"""What the gate costs the verifier, and how long its programs are: growth by accident is seen here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from serai.datapath.object import PROGRAMS, GateObject

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("bpftool") is None, reason="needs bpftool, which knows a program's length"),
]

FIGURES = Path(__file__).with_name("verifier.json")
TOLERANCE = 0.20
INSTRUCTION_BYTES = 8
VERIFIER_LIMIT = 1_000_000
"""Instructions that the kernel processes before it refuses a program."""


def measure(descriptor: int) -> dict[str, int]:
    """A loaded program's length after translation, and how many instructions the verifier went through."""
    about = dict(
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines() if ":" in line
    )
    command = ["bpftool", "-j", "prog", "show", "id", about["prog_id"].strip()]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {
        "translated": shown["bytes_xlated"] // INSTRUCTION_BYTES,
        "verified": int(about.get("verified_insns", "0")),
    }


@pytest.fixture(scope="module")
def measured(loaded_gate: GateObject) -> Mapping[str, Mapping[str, int]]:
    return {name: measure(loaded_gate.programs[name]) for name in PROGRAMS}


def test_length(measured: Mapping[str, Mapping[str, int]], record_property: pytest.RecordProperty) -> None:
    written = json.loads(FIGURES.read_text())
    assert written.keys() == measured.keys() == set(PROGRAMS)
    for name, figures in measured.items():
        now, then = figures["translated"], written[name]["translated"]
        record_property(name, figures)
        print(f"{name}: {now} instructions (written down: {then}), {figures['verified']} verified")  # noqa: T201  # the record
        assert abs(now - then) <= TOLERANCE * then, (
            f"{name} has {now} instructions and had {then}. If that is wanted, write into {FIGURES.name}:\n"
            f"{json.dumps(measured, indent=2)}"
        )


def test_there_is_room_in_the_verifier(measured: Mapping[str, Mapping[str, int]]) -> None:
    """Other kernels count differently, and older ones do not say: a quarter of the limit leaves room for that."""
    for name, figures in measured.items():
        assert figures["verified"] < VERIFIER_LIMIT // 4, f"{name} strains the verifier"
