"""What somebody types at a shell that is signed in, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serai.cli.main import main


def sign_in(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> None:
    """Have ``serai`` ask the controller at ``url``, with nothing else that this machine knows."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SERAI_URL", url)
    monkeypatch.setenv("SERAI_TOKEN", "admin-token")


def serai(*words: str, status: int = 0, input_: str | None = None) -> Result:
    """Type this, and have it end with that status."""
    result = CliRunner().invoke(main, list(words), input=input_)
    assert result.exit_code == status, (result.output, result.exception)
    return result


def data(*words: str, status: int = 0) -> Any:
    """What a verb tells programs."""
    return json.loads(serai(*words, "--json", status=status).stdout)
