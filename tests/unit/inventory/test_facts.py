"""What a host is made of: out of libvirt's XML, out of the kernel's files, and asked of a real libvirt."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.inventory.cpu import CapabilitiesError, cpu_of, describe, element_of
from serai.inventory.facts import LIBRARY, FactsError, baseline, collect
from serai.model.host_facts import Cpu, Nic

HASWELL = Cpu(arch="x86_64", vendor="Intel", model="Haswell", features=[])
SKYLAKE = Cpu(arch="x86_64", vendor="Intel", model="Skylake-Server", features=["invtsc"])
EPYC = Cpu(arch="x86_64", vendor="AMD", model="EPYC", features=[])


def capabilities(cpu: str) -> str:
    return f"<capabilities><host><uuid>x</uuid>{cpu}</host><guest><arch name='i686'/></guest></capabilities>"


XEON = capabilities(
    "<cpu><arch>x86_64</arch><model>Broadwell</model><vendor>Intel</vendor><microcode version='1'/>"
    "<signature family='6' model='79' stepping='1'/><counter name='tsc' frequency='2600000000' scaling='no'/>"
    "<feature name='vme'/><feature name='arat'/><pages unit='KiB' size='4'/></cpu>"
)
ARM = capabilities("<cpu><arch>aarch64</arch><model>cortex-a72</model><vendor>ARM</vendor></cpu>")

CASES = {
    "an Intel": (XEON, Cpu(arch="x86_64", vendor="Intel", model="Broadwell", family=6, number=79, features=["arat", "vme"])),
    "an ARM": (ARM, Cpu(arch="aarch64", vendor="ARM", model="cortex-a72", features=[])),
    "no model": (capabilities("<cpu><arch>i686</arch><features><pae/></features></cpu>"), Cpu(arch="i686", features=[])),
    "odd numbers": (
        capabilities("<cpu><arch>x</arch><signature family='-1' model='six'/><feature/></cpu>"), Cpu(arch="x", features=[]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_cpu_is_read(name: str) -> None:
    text, expected = CASES[name]
    assert cpu_of(text) == expected


def test_features_of_the_model_come_from_libvirt() -> None:
    expanded = "<cpu><model>Broadwell</model><feature policy='require' name='avx2'/><feature policy='require' name='vme'/></cpu>"
    assert cpu_of(XEON, expanded).features == ["arat", "avx2", "vme"]
    assert element_of(ARM) == "<cpu><arch>aarch64</arch><model>cortex-a72</model><vendor>ARM</vendor></cpu>"
    assert element_of(capabilities("<cpu><arch>i686</arch></cpu>")) is None


@pytest.mark.parametrize("text", ["", "<", "<capabilities/>", capabilities(""), capabilities("<cpu><arch/></cpu>")])
def test_what_is_no_capabilities(text: str) -> None:
    with pytest.raises(CapabilitiesError):
        cpu_of(text)


@given(st.text())
def test_whatever_is_read(text: str) -> None:
    with pytest.raises(CapabilitiesError):
        cpu_of(text)


def test_what_is_told_to_libvirt() -> None:
    cpu = Cpu(arch="x86_64", vendor="Intel", model="Haswell", family=6, number=60, features=["aes", "invtsc"])
    assert describe(cpu, without={"invtsc"}) == (
        '<cpu><arch>x86_64</arch><model>Haswell</model><vendor>Intel</vendor><feature name="aes" /></cpu>'
    )


# Libvirt's own library


def test_a_vm_that_moves_has_what_all_hosts_have() -> None:
    assert "<model fallback='allow'>Haswell</model>" in baseline([HASWELL, SKYLAKE])
    alone = baseline([SKYLAKE])
    assert "Skylake-Server" in alone
    assert "invtsc" not in alone


def test_hosts_of_two_makers_have_no_baseline() -> None:
    with pytest.raises(FactsError, match="vendors do not match"):
        baseline([HASWELL, EPYC])


def test_a_libvirt_that_does_not_answer(tmp_path: Path) -> None:
    nowhere = f"qemu+unix:///system?socket={tmp_path}/none"
    with pytest.raises(FactsError, match="does not tell what this host is"):
        collect(nowhere, agent="1", features=[])


# The kernel's files


def nic(net: Path, name: str, speed: str | None = None, *, built_in: bool = True, part: bool = False) -> None:
    (net / name).mkdir()
    if built_in:
        (net / name / "device").mkdir()
    if part:
        (net / name / "device" / "physfn").mkdir()
    if speed is not None:
        (net / name / "speed").write_text(speed)


def test_only_what_is_built_in_is_a_nic(tmp_path: Path) -> None:
    proc, net = tmp_path / "proc", tmp_path / "net"
    proc.mkdir()
    net.mkdir()
    (proc / "meminfo").write_text("MemTotal:       65536000 kB\nMemFree:        1 kB\n")
    nic(net, "ens3", "25000\n")
    nic(net, "ens1", "-1\n")
    nic(net, "ens2")
    nic(net, "ens4v0", "25000\n", part=True)
    nic(net, "br0", "1000\n", built_in=False)
    nic(net, "vnet0", "10\n", built_in=False)
    (net / "bonding_masters").write_text("")
    facts = collect(LIBRARY, agent="1.2", features=["tcx", "jit"], proc=proc, net=net)
    assert facts.nics == [Nic(name="ens1"), Nic(name="ens2"), Nic(name="ens3", speed=25000)]
    assert (facts.memory, facts.agent, facts.features) == (64000, "1.2", ["jit", "tcx"])
    assert facts.kernel
    assert facts.cpu.arch == "i686"  # what libvirt's driver for tests plays


# A real hypervisor: libvirt's driver for QEMU in a process of its own, without a daemon

ASK = """
import sys, threading, libvirt, msgspec
from serai.inventory.cpu import describe
from serai.inventory.facts import baseline, collect
from serai.model.host_facts import Cpu

libvirt.virEventRegisterDefaultImpl()
libvirt.registerErrorHandler(lambda *_: None, None)
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()
uri = f"qemu:///embed?root={sys.argv[1]}"
facts = collect(uri, agent="1", features=[])
connection = libvirt.openReadOnly(uri)
VERDICTS = {libvirt.VIR_CPU_COMPARE_INCOMPATIBLE: "no", libvirt.VIR_CPU_COMPARE_IDENTICAL: "same", libvirt.VIR_CPU_COMPARE_SUPERSET: "more"}

def compared(cpu):
    return VERDICTS[connection.compareCPU(describe(cpu), 0)]

def expanded(cpu):
    return connection.baselineCPU([describe(cpu)], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)

arch, own = facts.cpu.arch, facts.cpu.features
others = [Cpu(arch=arch, model=name) for name in connection.getCPUModelNames(arch)]
others += [Cpu(arch=arch, model="qemu64", features=[name]) for name in sorted({*own, "vmx", "svm", "sse4a", "avx512f"})]
told = []
for cpu in others:
    try:
        told.append((expanded(cpu), compared(cpu)))
    except libvirt.libvirtError:  # it has no such feature for guests
        continue
found = {"facts": facts, "itself": compared(facts.cpu), "told": told, "baseline": baseline([facts.cpu, facts.cpu])}
print(msgspec.json.encode(found).decode())
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("embedded")
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(root)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_real_libvirt_says_what_this_machine_is(asked: dict[str, Any]) -> None:
    facts, cpu = asked["facts"], asked["facts"]["cpu"]
    flags = set(Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition(":")[2].split("\n")[0].split())
    known = set(cpu["features"])
    assert {"sse2", "cx16", "lahf_lm"} <= flags & known
    assert len(flags & known) > 0.6 * len(known), "most features have the kernel's names"
    assert facts["memory"] > 100
    assert [int(part) for part in facts["libvirt"].split(".")] >= [6]
    assert [int(part) for part in facts["qemu"].split(".")] >= [4]


def test_what_admission_concludes_from_features_is_what_libvirt_says(asked: dict[str, Any]) -> None:
    """``virConnectCompareCPU`` finds a host good enough for a CPU exactly where it has all features of that one."""
    own = set(asked["facts"]["cpu"]["features"])
    assert asked["itself"] == "same"
    verdicts: collections.Counter[str] = collections.Counter()
    for expanded, verdict in asked["told"]:
        features = {each.get("name") for each in ET.fromstring(expanded).findall("feature")}  # noqa: S314 (libvirt's)
        assert (verdict != "no") == (features <= own), features - own
        verdicts[verdict] += 1
    assert min(verdicts["no"], verdicts["more"]) > 10
    assert asked["facts"]["cpu"]["model"] in asked["baseline"]
