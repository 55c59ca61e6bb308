"""Files that nobody else may read: written whole or not at all, and refused where others could have read them."""

from __future__ import annotations

import os
from pathlib import Path


class PrivateFileError(RuntimeError):
    """A file that must be private cannot be used; the message names it and says what to do."""


def write_private(file: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace ``file``: it has all of ``content``, or what was there before. Its directory is made, for its owner only.

    Raises:
        PrivateFileError: the disk refuses.
    """
    fresh = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)  # whoever else has it open shall not read on
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be written: {error.strerror or error}") from error


def sync_directory(directory: Path) -> None:
    """See to it that the names in ``directory`` outlive a power cut.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(file: Path) -> bytes:
    """Return what is in ``file``.

    Raises:
        PrivateFileError: it cannot be read, or others than its owner may read or change it.
    """
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            if status.st_mode & 0o077:
                raise PrivateFileError(
                    f"{file} can be read or changed by others: 'chmod 600 {file}', and think who has read it"
                )
            if status.st_uid not in {os.geteuid(), 0}:
                raise PrivateFileError(
                    f"{file} belongs to another user: 'chown' it to the one that this program runs as"
                )
            return opened.read()
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be read: {error.strerror or error}") from error
