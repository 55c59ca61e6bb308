from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import ovn, ovn_compile, ovn_packages
from bench.metric import Metric
from bench.missing import MissingError
from bench.ovn_packages import Programs

OURS = {
    "full_cpu_s": 20,
    "full_wall_s": 21,
    "edit_cpu_ms": 30,
    "edit_wall_ms": 31,
    "move_cpu_ms": 8,
    "global_cpu_ms": 9,
    "rss_mb": 1000,
}


def fake(tmp_path: Path, text: str) -> list[str]:
    """A command in place of our compiler."""
    path = tmp_path / "compile.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def telling(tmp_path: Path) -> list[str]:
    return fake(
        tmp_path, f"import sys\nprint('begins')\nprint({json.dumps(OURS)!r})\nassert sys.argv[1] == '--ports'\n"
    )


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """OVN, twice as expensive as we are, and thrice in its later release."""

    def measure(programs: Programs, ports: int) -> Mapping[str, float]:
        assert ports in ovn.SIZES
        return dict.fromkeys(ovn._FIGURES, 0) | {name: int(programs.root.name) * cost for name, cost in OURS.items()}

    monkeypatch.setattr(ovn_packages, "releases", lambda: ("2", "3"))
    monkeypatch.setattr(ovn_packages, "unpacked", lambda release: Programs(root=Path(release)))
    monkeypatch.setattr(Programs, "version", lambda programs: 20.0 + int(programs.root.name))
    monkeypatch.setattr(ovn_compile, "measure", measure)


def by_name(*, sizes: tuple[int, ...] = ovn.SIZES, ours: list[str]) -> dict[str, Metric]:
    metrics = list(ovn.measure(sizes=sizes, ours=ours))
    found = {metric.name: metric for metric in metrics}
    assert len(found) == len(metrics)
    return found


@pytest.mark.usefixtures("theirs")
def test_ours_is_compared_with_each_release_at_each_size(tmp_path: Path) -> None:
    found = by_name(ours=telling(tmp_path))
    for size in (16_000, 64_000):
        assert found[f"ovn.full_{size}_cpu_s"].value == 40
        assert found[f"ovn_next.full_{size}_cpu_s"].value == 60
        assert found[f"serai.full_{size}_cpu_s"].value == 20
        assert found[f"serai.edit_{size}_wall_ms"].value == 31
        assert found[f"ratio.full_{size}"].value == found[f"ratio.edit_{size}"].value == 0.5
        assert found[f"ratio_next.move_{size}"].value == pytest.approx(1 / 3)
    assert (found["ovn.rss_mb"].value, found["serai.rss_mb"].value, found["ratio.rss"].value) == (2000, 1000, 0.5)
    assert found["serai.rss_16000_mb"].value == 1000
    assert found["ovn.version"].value == 22.0


@pytest.mark.usefixtures("theirs")
def test_what_is_promised_is_to_be_no_worse_than_ovn(tmp_path: Path) -> None:
    found = by_name(ours=telling(tmp_path))
    assert {name for name, metric in found.items() if metric.goal is not None} == {
        *("ratio.full_16000", "ratio.edit_16000", "ratio.rss_16000"),
        *("ratio.full_64000", "ratio.edit_64000", "ratio.rss"),
    }
    assert all(metric.goal in (None, 1) and metric.ok for metric in found.values())


@pytest.mark.usefixtures("theirs")
def test_a_figure_that_ours_need_not_tell_is_not_measured(tmp_path: Path) -> None:
    found = by_name(ours=telling(tmp_path))
    told = found["serai.move_64000_wall_ms"]
    assert (told.value, told.missing) == (None, "not measured")


def test_without_packages_every_figure_of_ovn_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpacked(release: str) -> Programs:
        raise MissingError(f"OVN of {release} cannot be had")

    monkeypatch.setattr(ovn_packages, "releases", lambda: ("oldie", ""))
    monkeypatch.setattr(ovn_packages, "unpacked", unpacked)
    found = by_name(ours=telling(tmp_path))
    for name, metric in found.items():
        column = name.partition(".")[0]
        if column == "serai":
            continue
        assert metric.value is None
        assert (
            metric.missing
            == {
                "ovn": "OVN of oldie cannot be had",
                "ratio": "OVN of oldie cannot be had",
                "ovn_next": "which release comes after oldie is not known here",
                "ratio_next": "which release comes after oldie is not known here",
            }[column]
        )
    assert found["serai.full_64000_cpu_s"].value == 20, "ours is measured all the same"
    assert not found["ratio.full_64000"].ok


@pytest.mark.usefixtures("theirs")
def test_a_compiler_of_ours_that_fails_says_why(tmp_path: Path) -> None:
    found = by_name(sizes=(64_000,), ours=fake(tmp_path, "raise SystemExit('no such policy')\n"))
    assert found["serai.rss_mb"].missing == "our compiler failed: no such policy"
    assert found["ratio.rss"].missing == "our compiler failed: no such policy"
    assert found["ovn.rss_mb"].value == 2000


@pytest.mark.parametrize("told", ["", "done\n", "[1]\n", json.dumps({**OURS, "rss_mb": "much"}), '{"rss_mb": 1}'])
def test_figures_that_cannot_be_read(told: str) -> None:
    with pytest.raises(MissingError, match="does not tell its figures"):
        ovn.figures(told)


def test_figures_are_read_from_the_last_line() -> None:
    assert ovn.figures(f"{{}}\n{json.dumps({**OURS, 'global_wall_ms': 4, 'more': 'of it'})}\n") == OURS | {
        "global_wall_ms": 4
    }
