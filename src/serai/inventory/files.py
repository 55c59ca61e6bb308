"""Reads the resources that people keep in a directory of YAML files."""

from __future__ import annotations

import os
from pathlib import Path

from serai.model.decode import decode_with_places
from serai.model.places import Places
from serai.model.world import World

MAX_FILE_BYTES = 16 * 1024 * 1024
"""The largest file that is read."""
MAX_TOTAL_BYTES = 256 * 1024 * 1024
"""The most that one directory may hold."""

_SUFFIXES = frozenset({".yaml", ".yml"})


class UnusableDirectoryError(ValueError):
    """The directory is missing, cannot be read, or holds nothing to read."""


def read_directory(path: str | Path) -> dict[str, str]:
    """Return the text of every ``*.yaml`` and ``*.yml`` file below ``path``, by its relative name, in order.

    Hidden files and directories are left out, and so are links that lead out of the directory. Bytes that
    are not UTF-8 come back as lone surrogates, for the decoder to report with file and line.

    Raises:
        UnusableDirectoryError: the directory cannot be used; the text says why and what to do.
    """
    root = Path(path)
    try:
        if not root.is_dir():
            problem = "is not a directory" if root.exists() else "does not exist"
            message = f"{root} {problem}: name a directory of YAML files"
            raise UnusableDirectoryError(message)
        files = _read(root)
    except OSError as error:
        message = f"{error.filename or root} cannot be read: {error.strerror or error}"
        raise UnusableDirectoryError(message) from error
    if not files:
        message = f"{root} holds no YAML: there is no *.yaml or *.yml file in it"
        raise UnusableDirectoryError(message)
    return files


def load(path: str | Path) -> World:
    """Return the world that the files below ``path`` describe.

    Raises:
        UnusableDirectoryError: the directory cannot be used.
        DefinitionErrors: what the files say is wrong; files are named as seen from where ``path`` starts.
    """
    return load_with_places(path)[0]


def load_with_places(path: str | Path) -> tuple[World, Places]:
    """Do as ``load`` does, and say in which file and line each policy and each rule is written.

    Raises:
        UnusableDirectoryError: the directory cannot be used.
        DefinitionErrors: what the files say is wrong; files are named as seen from where ``path`` starts.
    """
    return decode_with_places({str(Path(path) / name): text for name, text in read_directory(path).items()})


def _read(root: Path) -> dict[str, str]:
    real_root = root.resolve()
    files: dict[str, str] = {}
    total = 0
    for name in sorted(_names(root)):
        file = root / name
        # A link out of the directory could make any file on the machine show up in an error message.
        if not file.resolve().is_relative_to(real_root) or not file.is_file():
            continue
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        total += len(raw)
        if len(raw) > MAX_FILE_BYTES or total > MAX_TOTAL_BYTES:
            message = (
                f"{file} is too much: a file may have {MAX_FILE_BYTES >> 20} MiB, "
                f"a directory {MAX_TOTAL_BYTES >> 20} MiB"
            )
            raise UnusableDirectoryError(message)
        files[name] = raw.decode(errors="surrogateescape")
    return files


def _names(root: Path) -> list[str]:
    """List YAML files by relative name; a directory that cannot be listed is an error, not a gap."""

    def fail(error: OSError) -> None:
        raise error

    names: list[str] = []
    for directory, below, files in os.walk(root, onerror=fail, followlinks=False):
        below[:] = [name for name in below if not name.startswith(".")]
        names.extend(
            (Path(directory) / name).relative_to(root).as_posix()
            for name in files
            if Path(name).suffix in _SUFFIXES and not name.startswith(".")
        )
    return names
