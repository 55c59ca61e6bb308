"""The benchmark of the control plane, small: real processes, all that it measures is measured."""

from __future__ import annotations

from bench import control
from serai.lab.scale import Scale

SMALL = Scale(hosts=3, vms=2, vnics=2, tenants=2)


def test_everything_that_is_promised_is_measured() -> None:
    found = {metric.name: metric for metric in control.measure(SMALL, edits=3)}
    promised = {"join_512_s", "edit_p99_ms", "global_s", "rss_gb", "takeover_s"}
    assert promised <= {name.removeprefix("control.") for name in found}
    assert all(metric.value is not None and metric.value > 0 for metric in found.values())
    assert {name.removeprefix("control.") for name, metric in found.items() if metric.goal is not None} == promised
