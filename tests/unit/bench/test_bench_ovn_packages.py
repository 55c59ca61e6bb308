from __future__ import annotations

import platform
from pathlib import Path

import pytest

from bench import ovn_packages
from bench.missing import MissingError
from bench.ovn_packages import Programs

APT = """#!/bin/sh
case "$*" in
*indextargets*) printf '%s\\n' 'mirror://updates/ oldie-updates oldie-updates' 'mirror://main/ stable oldie' ;;
*update*) cat sources.list ;;
*install*) printf '%s\\n' 'Inst libc6 (2.36 [amd64])' 'Inst zlib1g (1 [amd64])' 'Inst python3 (3.11 [amd64])' \\
    'Inst libpython3-stdlib (3.11 [amd64])' 'Inst ovn-central (23.03 [amd64]) []' 'Conf libc6 (2.36 [amd64])' ;;
*download*) for word; do case $word in libc6 | zlib1g | *python* | ovn-*) cp sources.list "$word.deb" ;; esac; done ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3" && cp "$2" "$3"
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scripts stand in for the machine's commands, behind which there is nothing but the shell's own."""
    found = tmp_path / "bin"
    found.mkdir()
    for name in ("sh", "cat", "cp", "mkdir"):
        (found / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(found))
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "oldie"})
    return found


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_machine_without_apt_says_so(commands: Path, tmp_path: Path) -> None:
    assert not (commands / "apt-get").exists()
    with pytest.raises(MissingError, match="no apt-get on this machine"):
        ovn_packages.unpacked("oldie", tmp_path / "ovn")


def test_packages_are_unpacked_once_and_only_those_that_are_needed(commands: Path, tmp_path: Path) -> None:
    script(commands / "apt-get", APT)
    script(commands / "dpkg", DPKG)
    home = tmp_path / "ovn"
    programs = ovn_packages.unpacked("newer", home)
    assert programs.root == home / "newer"
    assert sorted(path.name for path in programs.root.iterdir()) == ["libc6.deb", "ovn-central.deb", "zlib1g.deb"]
    line = (programs.root / "libc6.deb").read_text()
    assert line == "deb mirror://main/ newer main\n", "the source of this release, asked for the other one"
    assert [path.name for path in home.iterdir()] == ["newer"], "nothing else stays"
    (commands / "apt-get").unlink()
    assert ovn_packages.unpacked("newer", home) == programs


def test_what_apt_complains_of_is_told_and_nothing_half_done_stays(commands: Path, tmp_path: Path) -> None:
    failing = APT.replace("*update*)", "*install*) echo 'E: Unable to locate package' >&2; exit 100 ;;\n*update*)")
    script(commands / "apt-get", failing)
    script(commands / "dpkg", DPKG)
    with pytest.raises(MissingError, match=r"apt-get failed.*E: Unable to locate package"):
        ovn_packages.unpacked("newer", tmp_path / "ovn")
    assert not list((tmp_path / "ovn").iterdir())


def test_a_release_that_apt_has_no_source_of(commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(commands / "apt-get", APT)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "other"})
    with pytest.raises(MissingError, match="no source"):
        ovn_packages.unpacked("other", tmp_path / "ovn")


def test_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, expected in (("bookworm", "trixie"), ("noble", "")):
        monkeypatch.setattr(platform, "freedesktop_os_release", lambda told=told: {"VERSION_CODENAME": told})
        assert ovn_packages.releases() == (told, expected)
    monkeypatch.setattr(platform, "freedesktop_os_release", dict)
    with pytest.raises(MissingError, match="code name"):
        ovn_packages.releases()


def test_a_program_runs_with_the_libraries_it_came_with(tmp_path: Path) -> None:
    for name in ("lib/x86/ld-linux-x86-64.so.2", "lib/x86/libc.so.6", "usr/lib/x86/libz.so.1", "usr/sbin/ovsdb-server"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert Programs(root=tmp_path).command("ovsdb-server") == [
        f"{tmp_path}/lib/x86/ld-linux-x86-64.so.2",
        "--library-path",
        f"{tmp_path}/lib/x86:{tmp_path}/usr/lib/x86",
        f"{tmp_path}/usr/sbin/ovsdb-server",
    ]


@pytest.mark.parametrize(("told", "version"), [("ovn-northd 23.03.1", 23.03), ("ovn-northd 25.03.0", 25.03)])
def test_the_version_is_what_the_compiler_says(told: str, version: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Programs, "command", lambda _self, name: ["echo", told.replace("ovn-northd", name)])
    assert Programs(root=Path("/nowhere")).version() == version


def test_a_version_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Programs, "command", lambda _self, _name: ["echo", "hello"])
    with pytest.raises(MissingError, match="hello"):
        Programs(root=Path("/nowhere")).version()
