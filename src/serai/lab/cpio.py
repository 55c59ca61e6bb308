"""Write a cpio archive in the `newc` form that the kernel unpacks as its first file system. Pure."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, directory or device node of the archive."""

    name: str
    """Path without a leading slash."""
    mode: int
    """Type and permission bits as in `stat`."""
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""
    changed: int = 0
    """When it was last changed, in seconds of the Unix time."""


def directory(name: str) -> Entry:
    """Make the entry of a directory."""
    return Entry(name=name, mode=stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> Entry:
    """Make the entry of an executable file."""
    return Entry(name=name, mode=stat.S_IFREG | 0o755, data=data)


def symbolic_link(name: str, target: str) -> Entry:
    """Make the entry of a symbolic link."""
    return Entry(name=name, mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """Make the entry of a character device node."""
    return Entry(name=name, mode=stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Write the archive; equal entries give equal bytes."""
    parts = [_record(number, entry) for number, entry in enumerate(entries, start=1)]
    parts.append(_record(0, Entry(name=_TRAILER, mode=0)))
    return b"".join(parts)


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (
        *(inode, entry.mode, 0, 0, 1, entry.changed, len(entry.data)),
        *(0, 0, *entry.device, len(name), 0),
    )
    header = _MAGIC + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
