"""What is written into a host: its private directories, its configuration and its first process. Pure text."""

import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from serai.lab.plan import LabHost, LabPlan

PKI = "/etc/libvirt/pki"
"""Inside directory of the host's certificate and key."""
HOOK = "/etc/libvirt/hooks/qemu"
"""Inside path of the libvirt hook for QEMU."""
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"
"""Inside path of libvirtd's control socket."""
GUEST_SOCKETS = "/run/guests"
"""Inside directory of the guests' control sockets."""
CONSOLE_LOGS = "/var/log/libvirt/consoles"
"""Inside directory of the guests' boot logs."""
RUN_DIRECTORIES = ("/run/libvirt", "/run/serai", "/run/lock", GUEST_SOCKETS, CONSOLE_LOGS)
"""Inside directories that must be there before anything starts."""
HOSTS_FILE = "etc-hosts"
INIT_SCRIPT = "init.sh"

_HOST_NAMESPACE = uuid.UUID("5e7a1000-0000-4000-8000-000000000001")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A directory of the host that is its own and not the machine's."""

    inside: PurePosixPath
    source: str
    """Name of the directory that is mounted there, below the host's directory."""


# All of /run is the host's own: nothing inside can reach, or leave traces in, the machine's.
MOUNTS = (
    Mount(inside=PurePosixPath("/etc/libvirt"), source="etc"),
    Mount(inside=PurePosixPath("/var/lib/libvirt"), source="lib"),
    Mount(inside=PurePosixPath("/var/log/libvirt"), source="log"),
    Mount(inside=PurePosixPath("/var/cache/libvirt"), source="cache"),
    Mount(inside=PurePosixPath("/run"), source="run"),
)


def outside_path(directory: Path, inside: PurePosixPath) -> Path:
    """Map a path inside a host to the path outside, given the host's directory."""
    for mount in MOUNTS:
        if inside.is_relative_to(mount.inside):
            return directory / mount.source / inside.relative_to(mount.inside)
    return Path(inside)


def console_log(domain: str) -> str:
    """Inside path of the boot log of a guest."""
    return f"{CONSOLE_LOGS}/{domain}.log"


def guest_socket(domain: str) -> str:
    """Inside path of the control socket of a guest."""
    return f"{GUEST_SOCKETS}/{domain}.sock"


def hosts_file(plan: LabPlan) -> str:
    """Contents of /etc/hosts: every host by name."""
    lines = ["127.0.0.1 localhost", *(f"{host.underlay} {host.name}" for host in plan.hosts)]
    return "".join(f"{line}\n" for line in lines)


def libvirtd_conf(plan: LabPlan, host: LabHost) -> str:
    """Contents of libvirtd.conf: control over the unix socket and over TLS, never over plain TCP."""
    return f"""\
host_uuid = "{uuid.uuid5(_HOST_NAMESPACE, plan.prefix + host.name)}"
unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
listen_tls = 1
listen_tcp = 0
listen_addr = "{host.underlay}"
ca_file = "{PKI}/ca-cert.pem"
cert_file = "{PKI}/server-cert.pem"
key_file = "{PKI}/server-key.pem"
min_workers = 2
max_workers = 20
prio_workers = 2
log_filters = "3:qemu"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""


def qemu_conf() -> str:
    """Contents of qemu.conf: no confinement inside the lab's host, and TLS for migration."""
    return f"""\
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
# libvirtd would otherwise make directories on the machine's own huge page mounts.
hugetlbfs_mount = []
migration_address = "0.0.0.0"
default_tls_x509_cert_dir = "{PKI}"
migrate_tls_x509_cert_dir = "{PKI}"
migrate_tls_x509_verify = 1
migrate_tls_force = 1
"""


def init_script(directory: Path, host: str) -> str:
    """Contents of the script that is process 1 of a host.

    It waits for one line on stdin before it does anything, and it never becomes libvirtd itself: libvirtd as
    process 1 does not reap QEMUs and then waits 40 s for each. It expects a mount namespace in which the machine's
    mounts are slaves: what the machine unmounts must not live on in here.
    """
    mounts = "\n".join(f"mount --bind {shlex.quote(str(directory / mount.source))} {mount.inside}" for mount in MOUNTS)
    return f"""\
read -r go || exit 1
exec </dev/null
set -e
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
hostname {shlex.quote(host)}
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount --bind {shlex.quote(str(directory / HOSTS_FILE))} /etc/hosts
{mounts}
set +e
while :; do
    (
        # A distribution's AppArmor profile for libvirtd knows nothing of this host's directories and hooks.
        if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
            echo "exec unconfined" >/proc/self/attr/apparmor/exec || echo "exec unconfined" >/proc/self/attr/exec
        fi
        exec libvirtd --listen --pid-file /run/libvirt/libvirtd.pid
    ) &
    wait $!
    sleep 0.2
done
"""
