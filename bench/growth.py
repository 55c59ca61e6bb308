"""Draws how the compiler's time grows with the data center: ``python -m bench.growth`` writes docs/growth.png."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from bench.compile import GROWTH, growth

mpl.use("Agg")
from matplotlib import pyplot as plt

PICTURE = Path(__file__).parents[1] / "docs" / "growth.png"


def draw(seconds: dict[int, float], picture: Path = PICTURE) -> None:
    """Draw seconds of CPU by number of vNICs."""
    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    sizes = sorted(seconds)
    axes.plot(sizes, [seconds[size] for size in sizes], "o-", color="#1f5fa8", label="full compile, measured")
    middle = GROWTH[2]
    linear = [seconds[middle] * size / middle for size in sizes]
    axes.plot(sizes, linear, "--", color="#999999", label=f"linear, through {middle:,} vNICs")
    for size in sizes:
        axes.annotate(
            f"{seconds[size]:.2f} s", (size, seconds[size]), textcoords="offset points", xytext=(6, -12), fontsize=8
        )
    axes.set(
        xscale="log", yscale="log", xlabel="vNICs (tenants of 41 vNICs, eight rules each)", ylabel="CPU seconds",
        title="Policies of a whole data center, compiled for every host",
    )  # fmt: skip
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    draw(growth())
