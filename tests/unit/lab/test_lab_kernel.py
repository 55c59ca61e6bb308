"""Finding a kernel and taking it apart, in every packing that distributions use."""

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from serai.lab.error import LabError
from serai.lab.kernel import extract_elf, newest_kernel, read_module

ELF = b"\x7fELF" + bytes(range(256)) * 40


def installed(tmp_path: Path, *releases: str) -> tuple[Path, Path]:
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    boot.mkdir()
    for release in releases:
        (boot / f"vmlinuz-{release}").touch()
        (modules / release).mkdir(parents=True)
        (modules / release / "modules.dep").touch()
    return boot, modules


@pytest.mark.parametrize(
    ("releases", "chosen"),
    [
        (("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64"), "6.1.0-56-cloud-amd64"),
        (("6.12.0-1-amd64", "6.1.0-9-cloud-amd64"), "6.1.0-9-cloud-amd64"),
        (("6.8.0-31-generic", "5.15.0-1-generic"), "6.8.0-31-generic"),
        (("6.8.0-31-generic", "6.8.0-31-kvm"), "6.8.0-31-kvm"),
    ],
)
def test_newest_kernel_for_virtual_machines(tmp_path: Path, releases: tuple[str, ...], chosen: str) -> None:
    assert newest_kernel(*installed(tmp_path, *releases)).release == chosen


def test_newest_kernel_of_a_series(tmp_path: Path) -> None:
    boot, modules = installed(tmp_path, "6.1.0-9-cloud-amd64", "6.1.0-56-amd64", "6.12.0-1-cloud-amd64", "6.10.3")
    assert newest_kernel(boot, modules, series="6.1").release == "6.1.0-9-cloud-amd64"
    with pytest.raises(LabError, match=r"no kernel 5\.14 with its modules"):
        newest_kernel(boot, modules, series="5.14")


def test_kernel_without_modules_does_not_count(tmp_path: Path) -> None:
    boot, modules = installed(tmp_path)
    (boot / "vmlinuz-6.18.0").touch()
    with pytest.raises(LabError, match="install linux-image"):
        newest_kernel(boot, modules)


@pytest.mark.parametrize("tool", ["xz", "gzip", "zstd", "lz4"])
def test_kernel_is_found_behind_a_false_start(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    options = ["-l"] if tool == "lz4" else []
    packed = subprocess.run([tool, *options, "-c"], input=ELF, capture_output=True, check=True).stdout
    false_start = packed[:6] + b"no payload here"
    assert extract_elf(b"MZ setup code" + false_start + packed + b"more behind it") == ELF


def test_image_without_a_kernel_is_refused() -> None:
    with pytest.raises(LabError, match="no ELF kernel"):
        extract_elf(b"\x1f\x8b\x08 nothing")


def test_modules_are_unpacked(tmp_path: Path) -> None:
    for name, data in (("m.ko", ELF), ("m.ko.xz", lzma.compress(ELF)), ("m.ko.gz", gzip.compress(ELF))):
        (tmp_path / name).write_bytes(data)
        assert read_module(tmp_path / name) == ELF
