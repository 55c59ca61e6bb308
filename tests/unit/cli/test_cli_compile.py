"""``serai compile``."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serai.cli.main import main
from serai.inventory.files import load
from serai.model.ruleset import HostRuleset
from serai.policy.compile import compile_host

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
WORLD = load(str(EXAMPLE))


def run(*arguments: str, directory: Path = EXAMPLE) -> Result:
    return CliRunner().invoke(main, ["compile", str(directory), *arguments])


def expected(host: str) -> HostRuleset:
    return compile_host(WORLD, host, [path for path, vm in WORLD.vms.items() if vm.host == host])


def members(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


@pytest.fixture
def homeless(tmp_path: Path) -> Path:
    """The example, where nobody says on which host some VMs are expected."""
    directory = tmp_path / "files"
    shutil.copytree(EXAMPLE, directory)
    file = directory / "acme.yaml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.strip().startswith("host:")))
    return directory


def test_sizes_and_digests_are_shown_host_by_host() -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["HOST", "VMS", "VNICS", "ENDPOINTS", "PREFIXES", "LISTS", "PAGES", "BYTES", "DIGEST"]
    assert [line.split()[0] for line in lines] == sorted(WORLD.hosts)
    for line in lines:
        host, vms, vnics, *sizes, length, digest = line.split()
        ruleset = expected(host)
        assert int(vms) == int(vnics) == len(ruleset.vnics) > 0
        assert sizes == [str(len(records)) for records in ruleset.tables.values()]
        assert (int(length), digest) == (len(ruleset.encode()), ruleset.digest[:12])


def test_a_program_gets_one_object() -> None:
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["placed_nowhere"] == []
    assert list(answer["hosts"]) == sorted(WORLD.hosts)
    for host, fields in answer["hosts"].items():
        ruleset = expected(host)
        assert fields == {
            "vms": len(ruleset.vnics), "vnics": len(ruleset.vnics), "bytes": len(ruleset.encode()), "digest": ruleset.digest,
            **{name: len(records) for name, records in ruleset.tables.items()},
        }  # fmt: skip


def test_one_host_only(tmp_path: Path) -> None:
    file = tmp_path / "b.ruleset"
    result = run("--host", "b", "--out", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:-1]] == ["b"]
    assert result.stdout.splitlines()[-1] == f"Written to {file}."
    assert file.read_bytes() == expected("b").encode()
    assert list(json.loads(run("--host", "b", "--json").stdout)["hosts"]) == ["b"]


def test_the_archive_has_what_was_shown(tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    result = run("--out", str(file), "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)["hosts"]
    found = members(file.read_bytes())
    assert list(found) == [f"{host}.ruleset" for host in sorted(WORLD.hosts)]
    for name, raw in found.items():
        host = name.removesuffix(".ruleset")
        ruleset = HostRuleset.decode(raw)
        assert (ruleset.host, ruleset.digest, len(raw)) == (host, shown[host]["digest"], shown[host]["bytes"])
        assert raw == expected(host).encode()


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "other place"
    copy.mkdir()
    for number, file in enumerate(sorted(EXAMPLE.iterdir(), reverse=True)):
        shutil.copyfile(file, copy / f"{number}.yaml")
    one, other, moved = (tmp_path / name for name in ("one", "other", "moved"))
    for file in (one, other):
        assert run("--out", str(file)).exit_code == 0
    assert run("--out", str(moved), directory=copy).exit_code == 0
    assert one.read_bytes() == other.read_bytes() == moved.read_bytes()
    with tarfile.open(one) as archive:
        kept = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive.getmembers()}
    assert kept == {(0, 0, 0, "", "", 0o600)}


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("defaults: {ingress: Deny, egress: Accept}", "defaults: {ingress: Deny, egress: Deny}"),
        ("defaults: {ingress: Deny, egress: Accept}", "quarantine: {allow: [192.0.2.0/24]}"),
        ("mode: enforce", "mode: isolate"),
    ],
)
def test_what_the_site_says_is_compiled(tmp_path: Path, before: str, after: str) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    provider = tmp_path / "provider.yaml"
    assert before in provider.read_text()
    provider.write_text(provider.read_text().replace(before, after))
    world, shown = load(str(tmp_path)), json.loads(run("--json", directory=tmp_path).stdout)["hosts"]
    for host in world.hosts:
        mine = [path for path, vm in world.vms.items() if vm.host == host]
        assert shown[host]["digest"] == compile_host(world, host, mine).digest != expected(host).digest


def test_vms_that_are_placed_nowhere_are_told(homeless: Path) -> None:
    nowhere = sorted(path for path, vm in WORLD.vms.items() if vm.scope.tenant == "acme")
    assert json.loads(run("--json", directory=homeless).stdout)["placed_nowhere"] == nowhere
    result = run(directory=homeless)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        f"{len(nowhere)} VMs are placed on no host, and in nobody's ruleset: {', '.join(nowhere[:3])}."
    )


def test_a_host_without_vms_has_an_empty_ruleset(homeless: Path, tmp_path: Path) -> None:
    others = homeless / "globex.yaml"
    others.write_text(
        "\n".join(line for line in others.read_text().splitlines() if not line.strip().startswith("host:"))
    )
    file = tmp_path / "all.tar"
    assert run("--out", str(file), directory=homeless).exit_code == 0
    found = [HostRuleset.decode(raw) for raw in members(file.read_bytes()).values()]
    assert [(ruleset.host, ruleset.vnics) for ruleset in found] == [(host, ()) for host in sorted(WORLD.hosts)]


def refused(result: Result, sentence: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"Error: {sentence}\n"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_unknown_host_is_one_sentence(tmp_path: Path, more: tuple[str, ...]) -> None:
    file = tmp_path / "file"
    refused(run("--host", "c", "--out", str(file), *more), f"there is no host 'c' in {EXAMPLE}: its hosts are a, b")
    assert not file.exists()


def test_a_data_center_without_hosts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: t}}\n")
    refused(run("--host", "a", directory=tmp_path), f"there is no host 'a' in {tmp_path}: its hosts are none")
    assert json.loads(run("--json", directory=tmp_path).stdout) == {"hosts": {}, "placed_nowhere": []}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    refused(run("--out", str(tmp_path)), f"{tmp_path} cannot be written: Is a directory")
    missing = tmp_path / "none" / "file"
    refused(run("--out", str(missing), "--json"), f"{missing} cannot be written: No such file or directory")


def test_wrong_files_are_one_sentence(tmp_path: Path) -> None:
    refused(run(directory=tmp_path / "none"), f"{tmp_path}/none does not exist: name a directory of YAML files")
    (tmp_path / "a.yaml").write_text("kind: Hots\n")
    refused(run(directory=tmp_path), f"{tmp_path}/a.yaml:1: kind: unknown kind 'Hots'; did you mean 'Host'?")


CROWD = """{apiVersion: serai.dev/v1, kind: Host, metadata: {name: a}}
---
{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: t}}
---
{apiVersion: serai.dev/v1, kind: Network, metadata: {name: n, scope: /t}, spec: {subnets: [10.0.0.0/16]}}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: many, scope: /t}
spec:
  host: a
  vnics:
"""


def test_a_host_that_has_no_room_is_one_sentence(tmp_path: Path) -> None:
    cards = (
        f'    - {{name: eth{at}, network: n, mac: "52:54:00:00:{at >> 8:02x}:{at & 255:02x}", addresses: [10.0.{at >> 8}.{at & 255}]}}\n'
        for at in range(1, 4097)
    )
    (tmp_path / "a.yaml").write_text(CROWD + "".join(cards))
    result = run("--out", str(tmp_path / "file"), directory=tmp_path)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("Error: host a would have to hold up to 4096 vnics, and has room for 4095")
    assert not (tmp_path / "file").exists()
