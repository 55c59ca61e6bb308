"""Find an installed kernel and take out of its package what a guest needs: the ELF image and the NIC driver."""

import gzip
import lzma
import re
import subprocess
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serai.lab.command import run_command
from serai.lab.error import LabError

_ELF = b"\x7fELF"
_FLAVOURS = ("cloud", "virtual", "kvm")
_NEEDED_MODULES = ("virtio_pci", "virtio_net")
_WANTED_MODULES = ("af_packet",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One installed kernel."""

    release: str
    """As in `uname -r` of a machine that runs it."""
    image: Path


def newest_kernel(
    boot: Path = Path("/boot"), modules: Path = Path("/lib/modules"), *, series: str | None = None
) -> Kernel:
    """Choose the newest installed kernel, one made for virtual machines first; with series ("6.1") one of these only.

    LabError when there is none.
    """
    found = [
        Kernel(release=release, image=image)
        for image in boot.glob("vmlinuz-*")
        if (modules / (release := image.name.removeprefix("vmlinuz-")) / "modules.dep").exists()
        and (series is None or release.startswith(f"{series}."))
    ]
    if not found:
        wanted = f"kernel {series}" if series else "kernel"
        raise LabError(
            f"no {wanted} with its modules is installed ({boot}/vmlinuz-* and {modules}): "
            "install linux-image-cloud-amd64 (Debian) or linux-image-virtual (Ubuntu), or run tools/setup"
        )
    return max(found, key=lambda kernel: _rank(kernel.release))


def _rank(release: str) -> tuple[bool, list[int]]:
    return any(flavour in release for flavour in _FLAVOURS), [int(part) for part in re.findall(r"\d+", release)]


def extract_elf(image: bytes) -> bytes:
    """Return the ELF kernel that is compressed inside a bzImage; LabError when none is found.

    QEMU starts an ELF kernel directly (PVH); unpacking it inside an emulated guest would cost seconds.
    """
    for magic, unpack in _PAYLOADS:
        position = image.find(magic)
        while position >= 0:
            if (elf := unpack(image[position:])).startswith(_ELF):
                return elf
            position = image.find(magic, position + 1)
    raise LabError("the kernel image holds no ELF kernel in xz, gzip, zstd or lz4 form (zstd and lz4 need their tools)")


def module_paths(
    release: str, needed: Sequence[str] = _NEEDED_MODULES, wanted: Sequence[str] = _WANTED_MODULES
) -> list[Path]:
    """List these modules (a virtio network card's) and what they need, in loading order; none when they are built in.

    LabError when this kernel lacks one that is needed; without one that is wanted a guest can do.
    """
    paths: dict[Path, None] = {}
    for name in (*needed, *wanted):
        try:
            listing = run_command(["modprobe", "--set-version", release, "--show-depends", name]).decode()
        except LabError as error:
            if name in wanted:
                continue
            raise LabError(
                f"kernel {release} has no module {name}, which a guest needs: "
                "install linux-image-cloud-amd64 (Debian) or linux-image-virtual (Ubuntu)"
            ) from error
        paths.update(dict.fromkeys(_inserted(listing.splitlines())))
    return list(paths)


def read_module(path: Path) -> bytes:
    """Read a kernel module, unpacked if the distribution packs its modules."""
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return run_command(["zstd", "-dc"], input_bytes=data)
        case _:
            return data


def _inserted(lines: Iterable[str]) -> list[Path]:
    return [Path(words[1]) for line in lines if (words := line.split()) and words[0] == "insmod"]


def _unpack_xz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor().decompress(data)
    except lzma.LZMAError:
        return b""


def _unpack_gzip(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data)
    except zlib.error:
        return b""


def _unpack_with(tool: str) -> Callable[[bytes], bytes]:
    def unpack(data: bytes) -> bytes:
        # The payload is followed by other data, so the tool ends with an error after a good result.
        try:
            done = subprocess.run([tool, "-dc"], input=data, capture_output=True, check=False)
        except FileNotFoundError:
            return b""
        return done.stdout

    return unpack


_PAYLOADS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\xfd7zXZ\x00", _unpack_xz),
    (b"\x28\xb5\x2f\xfd", _unpack_with("zstd")),
    (b"\x1f\x8b\x08", _unpack_gzip),
    (b"\x02\x21\x4c\x18", _unpack_with("lz4")),
)
