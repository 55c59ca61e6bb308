"""What a host is made of."""

from pathlib import Path, PurePosixPath

import pytest

from serai.lab import hostfiles
from unit.lab.lab_plans import plan


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("/run/serai/agent.sock", "/s/a/run/serai/agent.sock"),
        ("/var/log/libvirt/x.log", "/s/a/log/x.log"),
        ("/etc/libvirt/hooks/qemu", "/s/a/etc/hooks/qemu"),
        ("/etc/libvirtd", "/etc/libvirtd"),
        ("/usr/bin/env", "/usr/bin/env"),
    ],
)
def test_inside_paths_map_to_the_host_directory(inside: str, outside: str) -> None:
    assert hostfiles.outside_path(Path("/s/a"), PurePosixPath(inside)) == Path(outside)


def test_control_is_tls_only_and_hosts_differ() -> None:
    made = plan()
    first, second = (hostfiles.libvirtd_conf(made, host) for host in made.hosts)
    assert "listen_tls = 1\nlisten_tcp = 0\n" in first
    assert first.splitlines()[0].startswith("host_uuid = ")
    assert first.splitlines()[0] != second.splitlines()[0]


def test_first_process_waits_for_its_record() -> None:
    assert hostfiles.init_script(Path("/s/a"), "a").startswith("read -r go || exit 1\n")
