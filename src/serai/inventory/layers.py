"""The files that a disk consists of: its own, and those below that nobody writes to.

Of a qcow2 file the header is read here, and nothing else: the name of the file below and its format. A tool that does it (``qemu-img info``)
is not on every hypervisor, and opens whatever the file names, sockets and URLs included (docs/adr/0027-what-vms-boot-from.md).
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from serai.inventory.booting import Boot, Layer

MOST_LAYERS: Final = 64
_HEADER: Final = struct.Struct(">4sIQI")
"""Of qcow2: magic, version, where the name of the file below stands, and how long it is."""
_FEATURES_AT, _LENGTH_AT, _LENGTH_V2 = 72, 100, 72
_ELSEWHERE: Final = 1 << 2
"""The feature of keeping the data in another file."""
_FORMAT_OF_BELOW: Final = 0xE2792ACA
_LONGEST_NAME: Final = 1023
_BEGINNING: Final = 65536
"""Headers, extensions and the name stand in the first cluster, of which this much is read."""


class LayerError(ValueError):
    """Nobody can say what a disk consists of; the message says why."""


def same_every_time(boot: Boot) -> list[Layer]:
    """Return the files of something that is booted from to which the guest does not write, the nearest first.

    Raises:
        LayerError: there are none, or nobody can tell.
    """
    if boot.why:
        raise LayerError(boot.why)
    own = Layer(path=boot.path, format=boot.format)
    below = list(_walk(own)) if boot.below is None else list(boot.below)
    found = below if boot.written else [own, *below]
    if not found:
        raise LayerError(
            "the guest writes to it, and nothing lies below that would be the same every time: only the machine definition can be registered"
        )
    if any(not layer.path for layer in found):
        raise LayerError("what lies below is no file")
    return found


def _walk(layer: Layer) -> Iterator[Layer]:
    for _ in range(MOST_LAYERS):
        below = _below(layer)
        if below is None:
            return
        yield below
        layer = below
    raise LayerError(f"it has more than {MOST_LAYERS} layers")


def _below(layer: Layer) -> Layer | None:
    """Return what lies below a file, by its own word; None: nothing."""
    if layer.format == "raw":
        return None
    if layer.format != "qcow2":
        raise LayerError(f"{layer.path} is of the format {layer.format}: only raw and qcow2 can be compared")
    try:
        with open_file(layer.path) as file:
            raw = file.read(_BEGINNING)
    except OSError as error:
        raise LayerError(f"{layer.path} {unreadable(error)}") from error
    try:
        found = _read(raw)
    except (struct.error, UnicodeDecodeError) as error:
        raise LayerError(f"{layer.path} has no header of qcow2") from error
    if found is None:
        return None
    name, form = found
    name = name.removeprefix("file:")
    if ":" in name.partition("/")[0] or "\0" in name:
        raise LayerError(f"below {layer.path} lies no file, but {name[:80]!r}")
    return Layer(path=str(PurePosixPath(layer.path).parent / name), format=form)


def _read(raw: bytes) -> tuple[str, str] | None:
    """Return the name and the format of the file below; None: there is none.

    Raises:
        struct.error, UnicodeDecodeError: that is no header.
        LayerError: there is more to it than can be compared.
    """
    magic, version, at, length = _HEADER.unpack_from(raw)
    if magic != b"QFI\xfb" or version not in {2, 3}:
        raise struct.error
    extensions = _LENGTH_V2
    if version == 3:  # noqa: PLR2004  # of the format
        (features,) = struct.unpack_from(">Q", raw, _FEATURES_AT)
        (extensions,) = struct.unpack_from(">I", raw, _LENGTH_AT)
        if features & _ELSEWHERE:
            raise LayerError("a layer keeps its data in another file")
    if not at:
        return None
    if length > _LONGEST_NAME or at + length > len(raw):
        raise struct.error
    return raw[at : at + length].decode(), _format(raw, extensions, at)


def _format(raw: bytes, at: int, end: int) -> str:
    """The format of the file below; where nobody says, libvirt takes it for raw."""
    while at + 8 <= end:
        kind, length = struct.unpack_from(">II", raw, at)
        if kind == _FORMAT_OF_BELOW:
            return raw[at + 8 : at + 8 + length].decode()
        if kind == 0:
            break
        at += 8 + -(-length // 8) * 8
    return "raw"


def unreadable(error: OSError) -> str:
    """Say that a file cannot be read, and what to do."""
    hint = (
        " by the agent, which has to be given the right to (packaging/systemd/images.conf)"
        if error.errno in {errno.EACCES, errno.EPERM}
        else ""
    )
    return f"cannot be read{hint}: {error.strerror or error}"


def open_file(path: str) -> io.FileIO:
    """Open a file for reading; one that waits for somebody at its other end does not.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return io.FileIO(descriptor)
