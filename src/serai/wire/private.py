"""Files that nobody else may read: written whole or not at all, and refused where others could have read them.

A program's directory belongs to the user that it runs as. What root writes there for it (joining, restoring) is the program's too.
"""

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
        _make(file.parent)
        fresh.unlink(missing_ok=True)  # whoever else has it open shall not read on
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as opened:
            hand_over(opened.fileno(), file.parent)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be written: {error.strerror or error}") from error


def hand_over(made: int | Path, like: Path) -> None:
    """Give what root has made to the owner of ``like``; what anybody else has made stays theirs.

    Raises:
        OSError: the disk refuses.
    """
    if os.geteuid() != 0:
        return
    owner = like.stat()
    if isinstance(made, int):
        os.fchown(made, owner.st_uid, owner.st_gid)
    else:
        os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)


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
            if status.st_uid not in _trusted(file):
                raise PrivateFileError(
                    f"{file} belongs to another user: 'chown' it to the one that this program runs as"
                )
            return opened.read()
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be read: {error.strerror or error}") from error


def _make(directory: Path) -> None:
    """Make a directory, and those above it, each for the owner of the one that it is in."""
    if directory.is_dir():
        return
    _make(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    hand_over(directory, directory.parent)


def _trusted(file: Path) -> set[int]:
    """Whose a private file may be: one's own or root's; for root, who looks in for others, also of whom the directory is."""
    return {os.geteuid(), 0} | ({file.parent.stat().st_uid} if os.geteuid() == 0 else set())
