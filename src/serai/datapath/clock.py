"""The gate's clock: it counts the kernel's ticks, and is told what makes CLOCK_MONOTONIC of them."""

from __future__ import annotations

from typing import Final

import numpy as np

from serai.datapath import testrun
from serai.datapath.maps import Array, Map

_RATES: Final = (100, 128, 250, 256, 300, 500, 512, 1000, 1024, 1200)
"""Ticks a second that Linux is built with, on one machine or another (CONFIG_HZ)."""
_SAMPLE_TICKS: Final = 8
_ANY_FRAME: Final = bytes(64)


class Clock:
    """Keeps ``settings`` of the gate right about the time."""

    def __init__(self, program: int, clocks: Map, settings: Map) -> None:
        """Use the gate's program ``read_clocks`` and the two maps."""
        self._program = program
        self._clocks = clocks
        self._settings = settings

    def set(self, idle_ns: Array) -> None:
        """Write how long flows may be silent (ns, by class), and the time.

        The first time on a boot it watches some ticks go by, which takes up to a tenth of a second.
        """
        settings = self._read()
        settings["idle_ns"] = idle_ns
        settings["tick_ns"] = int(settings["tick_ns"][0]) or self._measure()
        self._write(settings)

    def adjust(self) -> None:
        """Make up for what the two clocks have drifted apart; in one step for the gate."""
        self._write(self._read())

    def _read(self) -> Array:
        settings = self._settings.get(0)
        assert settings is not None, "an array has all its elements"  # noqa: S101
        return settings

    def _write(self, settings: Array) -> None:
        ticks, now_ns = self._sample()
        settings["offset_ns"] = np.uint64((now_ns - ticks * int(settings["tick_ns"][0])) % (1 << 64))
        self._settings.update(np.zeros(1, "<u4"), settings)

    def _sample(self) -> tuple[int, int]:
        testrun.run(self._program, _ANY_FRAME)
        clocks = self._clocks.get(0)
        assert clocks is not None, "an array has all its elements"  # noqa: S101
        return int(clocks["ticks"][0]), int(clocks["ns"][0])

    def _measure(self) -> int:
        """Nanoseconds of a tick: from one change of tick to another, and the rate that is nearest."""
        first_tick, began = self._next_tick()
        tick, ended = first_tick, began
        while tick < first_tick + _SAMPLE_TICKS:
            tick, ended = self._next_tick()
        measured = (ended - began) / (tick - first_tick)
        rate = min(_RATES, key=lambda rate: abs(1e9 / rate - measured))
        return round(1e9 / rate)

    def _next_tick(self) -> tuple[int, int]:
        before, _ = self._sample()
        while True:
            ticks, now_ns = self._sample()
            if ticks != before:
                return ticks, now_ns
