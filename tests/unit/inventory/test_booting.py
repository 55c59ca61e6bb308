"""What a domain boots from: out of its XML, and out of its files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disks import overlay
from serai.inventory import layers
from serai.inventory.booting import Boot, Layer, boots_of
from serai.inventory.layers import MOST_LAYERS, LayerError, open_file, same_every_time


def domain(devices: str = "", os: str = "<boot dev='hd'/>") -> str:
    return f"<domain><name>web</name><os>{os}</os><devices>{devices}</devices></domain>"


def disk(
    target: str, file: str = "/srv/d", *, device: str = "disk", form: str = "qcow2", kind: str = "file", more: str = ""
) -> str:
    source = f"<source {kind}='{file}'/>" if file else ""
    return f"<disk type='{kind}' device='{device}'><driver name='qemu' type='{form}'/>{source}<target dev='{target}'/>{more}</disk>"


def card(more: str = "") -> str:
    return f"<interface type='network'><mac address='52:54:00:00:00:01'/>{more}</interface>"


BELOW = "<backingStore type='file'><format type='qcow2'/><source file='/m'/><backingStore type='file'><source file='/b'/><backingStore/></backingStore></backingStore>"
VDA = Boot(what="disk vda", path="/srv/d", format="qcow2", written=True)
MEDIA = Boot(what="disk sda", path="/srv/d", format="qcow2")
NETWORK = Boot(what="network card 52:54:00:00:00:01", why="nobody can tell what comes from there")

CASES: dict[str, tuple[str, list[Boot]]] = {
    "nothing": (domain(), []),
    "the first disk": (domain(disk("vda") + disk("vdb")), [VDA]),
    "the first disk when nobody says": (domain(disk("vda"), os=""), [VDA]),
    "a kernel, and the disk that it finds": (
        domain(disk("vda"), os="<kernel>/k</kernel><initrd>/i</initrd><dtb>/t</dtb><boot dev='hd'/>"),
        [Boot(what="kernel", path="/k"), Boot(what="initrd", path="/i"), Boot(what="dtb", path="/t"), VDA],
    ),
    "firmware": (domain(os="<loader>/srv/f</loader>"), [Boot(what="loader", path="/srv/f")]),
    "the host's own firmware": (domain(os="<loader>/usr/share/f</loader>"), []),
    "firmware that only seems to be the host's": (
        domain(os="<loader>/usr/../srv/f</loader>"), [Boot(what="loader", path="/usr/../srv/f")],
    ),
    "a medium, and then the disk": (
        domain(disk("vda") + disk("sda", device="cdrom"), os="<boot dev='cdrom'/><boot dev='hd'/>"), [MEDIA, VDA],
    ),
    "a drive with no medium": (domain(disk("sda", "", device="cdrom") + disk("vda"), os="<boot dev='cdrom'/><boot dev='hd'/>"), [VDA]),
    "a drive with no medium, numbered": (
        domain("<disk type='file' device='cdrom'><source index='1'/><target dev='sda'/></disk>" + disk("vda"), os="<boot dev='cdrom'/><boot dev='hd'/>"),
        [VDA],
    ),
    "a disk that nobody writes to": (domain(disk("sda", more="<readonly/>")), [MEDIA]),
    "a disk of which nothing is kept": (domain(disk("sda", more="<transient/>")), [MEDIA]),
    "an order of their own": (
        domain(disk("vda", more="<boot order='10'/>") + disk("vdb") + disk("sda", device="cdrom", more="<boot order='2'/>"), os=""), [MEDIA, VDA],
    ),
    "the network": (domain(disk("vda") + card(), os="<boot dev='network'/><boot dev='hd'/>"), [NETWORK, VDA]),
    "the network, by an order of its own": (domain(card("<boot order='1'/>") + disk("vda")), [NETWORK]),
    "an option ROM": (domain(card("<rom file='/r'/>"), os="<boot dev='fd'/>"), [Boot(what="ROM of network card 52:54:00:00:00:01", path="/r")]),
    "a block device": (
        domain(disk("vda", "/dev/sdb", kind="dev").replace("type='dev'", "type='block'")),
        [Boot(what="disk vda", why="/dev/sdb is of type block: only files can be compared")],
    ),
    "a disk in a cluster": (
        domain(disk("vda", "pool/x", kind="name").replace("type='name'", "type='network'")),
        [Boot(what="disk vda", why="pool/x is of type network: only files can be compared")],
    ),
    "what the definition says lies below": (
        domain(disk("vda", more=BELOW)),
        [Boot(what="disk vda", path="/srv/d", format="qcow2", written=True, below=(Layer(path="/m", format="qcow2"), Layer(path="/b")))],
    ),
    "that nothing does": (domain(disk("vda", more="<backingStore/>")), [Boot(what="disk vda", path="/srv/d", format="qcow2", written=True, below=())]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_domain_boots_from(case: str) -> None:
    definition, boots = CASES[case]
    assert boots_of(definition) == boots


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "base.raw").write_bytes(b"x" * 65536)
    overlay(tmp_path / "mid.qcow2", "base.raw", version="v2")
    return overlay(tmp_path / "top.qcow2", str(tmp_path / "mid.qcow2"), form="qcow2")


def test_layers_are_those_that_qemu_has_written(chain: Path) -> None:
    top, mid, base = (Layer(path=str(chain), format="qcow2"), *_below(chain))
    written = Boot(what="disk vda", path=str(chain), format="qcow2", written=True)
    assert same_every_time(written) == [mid, base]
    kept = Boot(what="disk vda", path=str(chain), format="qcow2")
    assert same_every_time(kept) == [top, mid, base]
    raw = Boot(what="disk vda", path=str(chain))
    assert same_every_time(raw) == [Layer(path=str(chain))], "what is said to be raw is not looked into"
    said = Boot(what="disk vda", path=str(chain), format="qcow2", written=True, below=(Layer(path="/b"),))
    assert same_every_time(said) == [Layer(path="/b")], "the definition has the word"


def _below(chain: Path) -> tuple[Layer, Layer]:
    return Layer(path=str(chain.parent / "mid.qcow2"), format="qcow2"), Layer(path=str(chain.parent / "base.raw"))


def header(
    name: bytes = b"base", *, version: int = 3, features: int = 0, at: int = 200, length: int | None = None
) -> bytes:
    start = struct.pack(">4sIQI", b"QFI\xfb", version, at, len(name) if length is None else length)
    return (start.ljust(72, b"\0") + struct.pack(">Q", features)).ljust(100, b"\0") + struct.pack(">I", 104).ljust(at - 100, b"\0") + name  # fmt: skip


WRITTEN_TO = Boot(what="disk vda", path="top", format="qcow2", written=True)
REFUSED: dict[str, tuple[bytes | None, Boot, str]] = {
    "it is written to, and nothing lies below": (header(at=0), WRITTEN_TO, "the guest writes to it"),
    "a raw file that is written to": (b"", Boot(what="d", path="top", written=True), "only the machine definition"),
    "another format": (b"", Boot(what="d", path="top", format="vmdk"), "of the format vmdk"),
    "no header": (b"QFI", WRITTEN_TO, "no header of qcow2"),
    "another magic": (b"x" * 104, WRITTEN_TO, "no header of qcow2"),
    "a later version": (header(version=4), WRITTEN_TO, "no header of qcow2"),
    "data elsewhere": (header(features=4), WRITTEN_TO, "keeps its data in another file"),
    "a URL below": (header(b"nbd://h/x"), WRITTEN_TO, "lies no file, but 'nbd://h/x'"),
    "a program below": (header(b"json:{}"), WRITTEN_TO, "lies no file"),
    "a name of no end": (header(length=1 << 30), WRITTEN_TO, "no header of qcow2"),
    "a name that ends": (header(b"a\0b"), WRITTEN_TO, "lies no file"),
    "no file": (None, WRITTEN_TO, "cannot be read: No such file"),
    "nothing that can be looked at": (b"", Boot(what="d", why="it is away"), "it is away"),
    "below no file, says the definition": (b"", Boot(what="d", path="top", written=True, below=(Layer(path=""),)), "is no file"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_compared_is_told(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, boot, why = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "top").write_bytes(content)
    with pytest.raises(LayerError, match=why.replace("{", "\\{")):
        same_every_time(boot)


def test_a_file_that_lies_below_itself_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay(tmp_path / "a.qcow2", "b.qcow2", form="qcow2")
    overlay(tmp_path / "b.qcow2", "a.qcow2", form="qcow2")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LayerError, match=f"more than {MOST_LAYERS} layers"):
        same_every_time(Boot(what="d", path="a.qcow2", format="qcow2", written=True))


@given(st.binary(max_size=300), st.integers(0, 120), st.binary(max_size=40))
@settings(max_examples=200)
def test_headers_that_nobody_in_their_senses_writes_are_read_or_refused(noise: bytes, at: int, more: bytes) -> None:
    for raw in (noise, header()[:at] + more + header()[at:]):
        try:
            found = layers._read(raw)
        except (LayerError, struct.error, UnicodeDecodeError):
            continue
        assert found is None or len(found) == 2


def test_pipes_and_directories_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="no file"):
            open_file(str(path))
