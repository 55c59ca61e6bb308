"""A machine with another kernel: emulated, without a disk, with copies of this machine's files at their own paths."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serai.lab.command import run_command
from serai.lab.cpio import Entry, archive, character_device, directory, program, symbolic_link
from serai.lab.error import LabError
from serai.lab.image import find_busybox, module_entries
from serai.lab.kernel import Kernel, extract_elf, module_paths

REPORT_PORT = "/dev/ttyS1"
"""What the commands write here comes back as their report."""

_MEMORY_MIB = 1024  # the first file system may fill half of it
_QEMU = (
    *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem"),
    *("-m", f"{_MEMORY_MIB}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
)
# The kernel must not spend time on what an emulated machine has no use for. panic: QEMU ends, and with it the test.
_KERNEL_WORDS = "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 rcupdate.rcu_expedited=1"

# A line of ldd: `\tlibc.so.6 => /lib/libc.so.6 (0x7f...)`, or without the arrow.
_LIBRARY = re.compile(r"^\t(?:.* => )?(/.*) \(0x", re.MULTILINE)

_INIT = """#!{busybox} sh
b={busybox}
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod /mod/$module || echo "cannot load $module"; done </mod/order
$b ip link set lo up
cd {directory}
{environment} {command}
$b poweroff -f
"""


class Files:
    """Copies of files of this machine, for another one."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, path: Path) -> None:
        """Take a file or a directory without what is in it, and every directory and symbolic link on the way."""
        at = Path("/")
        parts = path.absolute().parts[1:]
        for number, part in enumerate(parts, start=1):
            if part == "..":
                at = at.parent
                continue
            at /= part
            name, facts = str(at)[1:], at.lstat()
            if stat.S_ISLNK(facts.st_mode):
                target = at.readlink()
                self._entries.setdefault(name, symbolic_link(name, str(target)))
                self.add(at.parent.joinpath(target, *parts[number:]))
                return
            if stat.S_ISDIR(facts.st_mode):
                self._entries.setdefault(name, directory(name))
            elif name not in self._entries:
                data = at.read_bytes()
                # With its time: Python tells by it whether byte code fits the source.
                self._entries[name] = Entry(name=name, mode=facts.st_mode, data=data, changed=int(facts.st_mtime))

    def add_tree(self, root: Path, *, without: Collection[str] = ()) -> None:
        """Take a directory with all that is in it, except files and directories of these names."""
        for parent, directories, files in os.walk(root):
            directories[:] = [name for name in directories if name not in without]
            for name in files:
                if name not in without:
                    self.add(Path(parent, name))

    def add_binaries(self, paths: Sequence[Path]) -> None:
        """Take programs or shared objects with the libraries that they need. LabError when one is neither."""
        for path in paths:
            self.add(path)
        for library in _LIBRARY.findall(run_command(["ldd", *paths]).decode()):
            self.add(Path(library))

    def entries(self) -> list[Entry]:
        return list(self._entries.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """What a machine boots from."""

    kernel: Path
    initramfs: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a machine said until it went off."""

    console: str
    report: str


def build(
    target: Path,
    kernel: Kernel,
    files: Files,
    command: Sequence[str],
    *,
    modules: Sequence[str],
    environment: Mapping[str, str],
    directory_there: Path,
) -> Image:
    """Make a machine that loads modules, runs the command and goes off. LabError when something is missing."""
    busybox = find_busybox()
    files.add(busybox)
    init = _INIT.format(
        busybox=busybox.resolve(),
        environment=" ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
        directory=shlex.quote(str(directory_there)),
        command=shlex.join(command),
    )
    entries = [
        *files.entries(),
        *(directory(name) for name in ("dev", "proc", "sys", "tmp")),
        character_device("dev/console", 5, 1),
        *module_entries(module_paths(kernel.release, modules, ())),
        program("init", init.encode()),
    ]
    image = Image(kernel=target / "vmlinux", initramfs=target / "initramfs")
    image.kernel.write_bytes(extract_elf(kernel.image.read_bytes()))
    image.initramfs.write_bytes(archive(entries))
    return image


def boot(image: Image, work: Path, *, variables: Mapping[str, str], timeout_seconds: float) -> Said:
    """Run a machine until it goes off; its command finds the variables in its environment.

    QEMU dies with this thread. LabError when it fails or takes too long.
    """
    work.mkdir(parents=True, exist_ok=True)
    console, report = work / "console", work / "report"
    # The kernel hands words that it does not know, with a value, to its first program.
    words = [_KERNEL_WORDS, *(f"{name}={value}" for name, value in variables.items())]
    try:
        run_command(
            [
                *(*_QEMU, "-kernel", image.kernel, "-initrd", image.initramfs, "-append", " ".join(words)),
                *("-serial", f"file:{console}", "-serial", f"file:{report}"),
            ],
            timeout_seconds=timeout_seconds,
        )
    except LabError as error:
        tail = console.read_text(errors="replace")[-4000:] if console.exists() else ""
        raise LabError(f"{error}; the machine's last words:\n{tail}") from error
    return Said(console=console.read_text(errors="replace"), report=report.read_text(errors="replace"))
