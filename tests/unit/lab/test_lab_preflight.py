"""Kernel releases as distributions write them."""

import pytest

from serai.datapath.preflight import kernel_version


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-56-cloud-amd64", (6, 1)), ("5.14.0-503.el9.x86_64", (5, 14)), ("6.18.44", (6, 18)), ("odd", (0, 0))],
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
