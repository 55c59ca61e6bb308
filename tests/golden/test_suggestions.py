"""Folders suggest-*: what there is (in/), what was seen, and exactly the policies and notes that come of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from golden.recordings import recording
from serai.inventory.files import read_directory
from serai.model.catalog import Catalog, read_files
from serai.model.decode import decode
from serai.model.policy import Tier
from serai.model.tenancy import Scope
from serai.policy.traffic.offers import services_of
from serai.policy.traffic.suggest import suggest

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("suggest-*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_recording_gets_the_written_policies(case: Path) -> None:
    files = read_directory(case / "in")
    catalog = Catalog.of(read_files(files))
    seen = (case / "seen.txt").read_text()
    found = suggest(
        catalog.world,
        Scope(seen.partition("\n")[0].removeprefix("# scope ")),
        recording(seen),
        now=datetime(2026, 3, 2, tzinfo=UTC),
        services=services_of(catalog),
    )
    told = found.yaml + "".join(f"# note: {note}\n" for note in found.notes)
    assert told == (case / "expected.yaml").read_text()
    made = decode({**files, "expected.yaml": told})
    assert all(policy.tier is Tier.TENANT for policy in made.policies if policy not in catalog.world.policies)
