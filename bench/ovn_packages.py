"""OVN's programs, taken from Debian packages into the checkout: nothing is installed, no service starts.

They run with the C library and all else from the same packages, so that those of another release run here too.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.missing import MissingError

HOME: Final = Path(__file__).parents[1] / "build" / "ovn"

_NEXT: Final = {"bookworm": "trixie", "trixie": "forky"}
"""The release after."""

_NEEDED: Final = re.compile(r"^Inst ((?:lib(?!python)|zlib|ovn-|openvswitch-)\S*)", re.MULTILINE)
"""Of all that the package depends on: libraries and what is its own; not, say, Python or tar."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """An unpacked OVN."""

    root: Path
    """The directory that holds ``usr``."""

    def command(self, name: str) -> list[str]:
        """The words that start a program of it; arguments go behind them."""
        loader = next(self.root.glob("**/ld-linux*.so.*"))
        libraries = ":".join(sorted(map(str, {found.parent for found in self.root.glob("**/lib*/*/lib*.so.*")})))
        return [str(loader), "--library-path", libraries, str(next(self.root.glob(f"usr/*bin/{name}")))]

    def schema(self, name: str) -> bytes:
        """Return the schema of ``northbound`` or ``southbound``."""
        return (self.root / "usr/share/ovn" / f"ovn-{name[0]}b.ovsschema").read_bytes()

    def version(self) -> float:
        """Return year and month, as in 23.03."""
        told = _run(*self.command("ovn-northd"), "--version")
        found = re.match(r"ovn-northd (\d+\.\d+)", told)
        if not found:
            raise MissingError(f"ovn-northd does not tell its version: {told.strip()}")
        return float(found[1])


def releases() -> tuple[str, str]:
    """Code names of this system's release and of the next one; empty where it is not known.

    Raises:
        MissingError: This is not a release of Debian or like one.

    """
    try:
        own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError) as error:
        raise MissingError("this system does not tell its code name: OVN is taken from Debian's packages") from error
    return own, _NEXT.get(own, "")


def unpacked(release: str, home: Path = HOME) -> Programs:
    """Fetch OVN as ``release`` has it, unless it is there.

    Raises:
        MissingError: It cannot be had.

    """
    root = home / release
    if not root.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as name:
            work = Path(name)
            _fetch(release, work)
            (work / "root").rename(root)
    return Programs(root=root)


def _fetch(release: str, work: Path) -> None:
    source = next((uri for uri, *names in _sources() if releases()[0] in names), None)
    if source is None:
        raise MissingError("apt has no source of packages for this release: see its sources.list")
    apt = _own_apt(work, f"deb {source} {release} main\n")
    _run(*apt, "update", where=work)
    needed = _NEEDED.findall(_run(*apt, "--simulate", "install", "--no-install-recommends", "ovn-central", where=work))
    _run(*apt, "download", *needed, where=work)
    for package in sorted(work.glob("*.deb")):
        _run("dpkg", "-x", str(package), "root", where=work)


def _sources() -> Iterator[list[str]]:
    """Address, and names of the release, of each source that the machine's own apt uses."""
    told = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(CODENAME)", "Component: main")
    return map(str.split, told.splitlines())


def _own_apt(work: Path, source: str) -> list[str]:
    """An apt of our own, for which nothing is installed yet; the machine's keys decide whom it believes."""
    (work / "lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(source)
    settings = {
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 20,
    }
    return ["apt-get", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def _run(*command: str, where: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise MissingError(f"no {command[0]} on this machine: OVN is taken from Debian's packages")
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise MissingError(f"OVN cannot be had ({Path(command[0]).name} failed): {last}")
    return done.stdout
