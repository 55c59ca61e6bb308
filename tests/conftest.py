"""What all tests share: how hypothesis runs, and which files begin first when two processes share the work."""

from __future__ import annotations

from typing import Final

import hypothesis
import pytest

# No test fails for being slow: machines are shared, and two test processes are at work.
hypothesis.settings.register_profile("serai", deadline=None)
hypothesis.settings.load_profile("serai")

_LONGEST: Final = ("test_old_kernel.py", "test_data_center.py", "test_lab_truth.py", "test_controller_killed.py")
"""Whoever gets one of these last keeps everybody waiting, so they come first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the rest stays in order."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))
