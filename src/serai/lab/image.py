"""The guests' kernel and file system, built once and kept until one of their inputs changes."""

import hashlib
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from serai.lab.command import run_command
from serai.lab.cpio import Entry, archive, character_device, directory, program
from serai.lab.error import LabError
from serai.lab.kernel import Kernel, extract_elf, module_paths, newest_kernel, read_module

_GUEST_SOURCES = Path(__file__).with_name("guest")
_CHECKOUT = Path(__file__).parents[3]
_COMPILE = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread")
# Raise this when the way of building changes without a change in the sources.
_FORMAT = b"1"
# Type of the ELF program header that names a dynamic loader.
_PT_INTERP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestImage:
    """What a guest boots from."""

    kernel: Path
    """ELF kernel."""
    initramfs: Path


def default_image_directory() -> Path:
    """Where the image is kept: build/lab in a checkout, /var/cache/serai elsewhere."""
    if (_CHECKOUT / "pyproject.toml").exists():
        return _CHECKOUT / "build" / "lab"
    return Path("/var/cache/serai")


def build_image(target: Path, progress: Callable[[str], object]) -> GuestImage:
    """Build the image into target, or return the one that is there already (in milliseconds).

    LabError when a kernel, compiler or busybox is missing.
    """
    kernel = newest_kernel()
    busybox = find_busybox()
    key = _key(kernel, busybox)
    image = GuestImage(kernel=target / f"vmlinux-{key}", initramfs=target / f"initramfs-{key}")
    if image.kernel.exists() and image.initramfs.exists():
        return image
    progress(f"guest image: building from kernel {kernel.release}")
    target.mkdir(parents=True, exist_ok=True)
    for stale in (*target.glob("vmlinux-*"), *target.glob("initramfs-*")):
        stale.unlink(missing_ok=True)
    _write(image.kernel, extract_elf(kernel.image.read_bytes()))
    _write(image.initramfs, _initramfs(kernel, busybox))
    progress("guest image: built")
    return image


def find_busybox() -> Path:
    """Find a busybox that runs without libraries; LabError when there is none."""
    found = shutil.which("busybox")
    if found is None:
        raise LabError("busybox is not installed: install busybox-static, or run tools/setup")
    data = Path(found).read_bytes()
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, table + number * size)[0] for number in range(count)]
    if _PT_INTERP in kinds:
        raise LabError(f"{found} needs shared libraries, which a guest has not: install busybox-static")
    return Path(found)


def module_entries(modules: Iterable[Path]) -> list[Entry]:
    """Put kernel modules into /mod as insmod wants them: unpacked, their loading order in the file /mod/order."""
    plain = {f"{path.name.partition('.')[0]}.ko": read_module(path) for path in modules}
    order = "".join(f"{name}\n" for name in plain).encode()
    files = {"order": order, **plain}
    return [directory("mod"), *(program(f"mod/{name}", data) for name, data in files.items())]


def _initramfs(kernel: Kernel, busybox: Path) -> bytes:
    # Not packed: unpacking would cost an emulated guest more time than reading.
    return archive(
        [
            *(directory(name) for name in ("bin", "dev", "proc", "sys")),
            character_device("dev/console", 5, 1),
            program("init", (_GUEST_SOURCES / "init").read_bytes()),
            program("bin/busybox", busybox.read_bytes()),
            program("bin/labd", _compiled_daemon()),
            *module_entries(module_paths(kernel.release)),
        ]
    )


def _compiled_daemon() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "labd"
        run_command([*_COMPILE, "-o", binary, _GUEST_SOURCES / "labd.c"])
        return binary.read_bytes()


def _key(kernel: Kernel, busybox: Path) -> str:
    digest = hashlib.sha256(_FORMAT)
    for source in (_GUEST_SOURCES / "init", _GUEST_SOURCES / "labd.c"):
        digest.update(source.read_bytes())
    for path in (kernel.image, busybox):
        facts = path.stat()
        digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return f"{kernel.release}-{digest.hexdigest()[:12]}"


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


def main() -> int:
    """Build the image into its default directory: what `tools/setup` calls."""
    try:
        build_image(default_image_directory(), lambda text: sys.stdout.write(f"{text}\n"))
    except LabError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
