"""The agent's config file: limits, and mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serai.agent.config import ConfigError, Limits
from serai.model.flow import IDLE_CLASSES


def read(tmp_path: Path, text: str) -> Limits:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    return Limits.read(file)


def test_what_is_not_said_is_as_always(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Limits()


def test_everything_can_be_said(tmp_path: Path) -> None:
    idle = "\n".join(f"{name.lower()} = {at}" for at, name in enumerate(IDLE_CLASSES, start=1))
    limits = read(
        tmp_path, f"flows_per_vnic = 7\nnew_flows_per_second = 8\n[idle_seconds]\n{idle}\n[map_sizes]\npages = 9\n"
    )
    assert (limits.flows_per_vnic, limits.new_flows_per_second, limits.map_sizes) == (7, 8, {"pages": 9})
    assert limits.idle == {name: at for at, name in enumerate(IDLE_CLASSES, start=1)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flows_per_vnc = 1", "flows_per_vnc"),
        ("flows_per_vnic = 0", "flows_per_vnic"),
        ("flows_per_vnic = 'many'", "flows_per_vnic"),
        ("[idle_seconds]\nudp = 5", "knows no 'udp'"),
        ("[idle_seconds]\nother = 0", "idle_seconds"),
        ("controllers = ['c1']", "https://NAME:PORT"),
        ("agents = ['https://c1:8744']", "wss://NAME:PORT"),
        ("handoff_port = 65536", "handoff_port"),
        ("handoff_address = 'b.example'", "write an IP address of this host"),
        ("migration_uri = 'qemu+tls://{name}/system'", "only {host} and {address}"),
        ("migration_uri = 'qemu+tls://{'", "only {host} and {address}"),
        ("migration_seconds = 0", "migration_seconds"),
        ("flows_per_vnic = =\n", "line 1"),
        ("\xff", "agent.toml"),
    ],
)
def test_mistakes_are_told_with_file_and_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says) as told:
        Limits.read(file)
    assert str(file) in str(told.value)


def test_where_controllers_are_can_be_said(tmp_path: Path) -> None:
    limits = read(tmp_path, 'controllers = ["https://c1:8743"]\nagents = ["wss://c1:8744", "wss://[::1]:8744"]\n')
    assert (limits.controllers, limits.agents) == (["https://c1:8743"], ["wss://c1:8744", "wss://[::1]:8744"])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Limits.read(tmp_path / "none")


def test_how_vms_come_and_go_can_be_said(tmp_path: Path) -> None:
    limits = read(
        tmp_path,
        'handoff_address = "2001:db8::2"\nhandoff_port = 9\nmigration_uri = "qemu+ssh://{address}/system"\nmigration_seconds = 5\n',
    )
    assert (limits.handoff_address, limits.handoff_port, limits.migration_seconds) == ("2001:db8::2", 9, 5)
    assert limits.migration_uri.format(host="b", address="::1") == "qemu+ssh://::1/system"
    assert (Limits().handoff_port, Limits().migration_uri) == (8745, "qemu+tls://{host}/system")
