"""Every struct as Python sees it, against the BTF of the compiled gate; every constant, against the C sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serai.datapath import build, layout, slots
from serai.datapath.object import OBJECT
from serai.model import flow, inventory, policy, ruleset
from serai.model.flow_record import Sighting
from serai.model.reasons import REASON_SLOTS, Reason
from serai.model.ruleset import Step

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("bpftool") is None, reason="needs bpftool, which reads BTF"),
]

STRUCTS = {
    "serai_vnic": layout.VNIC,
    "serai_address_key": layout.ADDRESS_KEY,
    "serai_mac_key": layout.MAC_KEY,
    "serai_flow_key": layout.FLOW_KEY,
    "serai_flow": layout.FLOW,
    "serai_denial_key": layout.DENIAL_KEY,
    "serai_denial": layout.DENIAL,
    "serai_sighting_key": layout.SIGHTING_KEY,
    "serai_sighting": layout.SIGHTING,
    "serai_fragment_key": layout.FRAGMENT_KEY,
    "serai_fragments": layout.FRAGMENTS,
    "serai_meter": layout.METER,
    "serai_drop_event": layout.DROP_EVENT,
    "serai_ended_event": layout.ENDED_EVENT,
    "serai_settings": layout.SETTINGS,
    "serai_clocks": layout.CLOCKS,
    "serai_decision": ruleset.DECISION,
    "serai_page_key": layout.MAPS["pages"][0],
    "serai_page": layout.MAPS["pages"][1],
    "serai_endpoint_key": layout.MAPS["endpoints"][0],
    "serai_prefix_key": layout.MAPS["prefixes"][0],
    "serai_list_key": layout.MAPS["lists"][0],
}
HASH, ARRAY, LPM_TRIE, ARRAY_OF_MAPS, RINGBUF = 1, 2, 11, 12, 27
KINDS = {
    "addresses": LPM_TRIE, "prefixes": LPM_TRIE, "flows": ARRAY_OF_MAPS,
    **dict.fromkeys(("taps", "vnics", "meters", "blank", "settings", "clocks"), ARRAY),
}  # fmt: skip
"""Maps of a kind of their own; others are hashes. None has a value per CPU: those would be read with too few rows."""

IN_THE_RING = {"serai_drop_event", "serai_ended_event"}
"""Structs that no map names."""

ADDRESS = 16
"""Bytes of an address: in Python they are bytes, in C words."""

Leaf = tuple[str, int, int]
"""A member's name with its index, its offset and its size, in bytes."""


class Btf:
    """The types of a compiled object."""

    def __init__(self, path: Path) -> None:
        command = ["bpftool", "btf", "dump", "file", str(path), "format", "raw", "-j"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        self._types: dict[int, Mapping[str, Any]] = {t["id"]: t for t in json.loads(raw)["types"]}

    def struct(self, name: str) -> Mapping[str, Any]:
        (found,) = (t for t in self._types.values() if t["kind"] == "STRUCT" and t["name"] == name)
        return found

    def structs(self) -> set[str]:
        return {t["name"] for t in self._types.values() if t["kind"] == "STRUCT" and t["name"].startswith("serai_")}

    def maps(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """The members of every map's definition, by the map's name."""
        (section,) = (t for t in self._types.values() if t["kind"] == "DATASEC" and t["name"] == ".maps")
        variables = [self._types[v["type_id"]] for v in section["vars"]]
        return {v["name"]: self.members(self._resolve(v["type_id"])) for v in variables}

    def members(self, struct: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return {m["name"]: self._resolve(m["type_id"]) for m in struct["members"]}

    def number(self, pointer: Mapping[str, Any]) -> int:
        """What ``__uint(name, number)`` says: it is written as a pointer to an array of that length."""
        return int(self._resolve(pointer["type_id"])["nr_elems"])

    def target(self, pointer: Mapping[str, Any]) -> Mapping[str, Any]:
        """What ``__type(name, type)`` says: it is written as a pointer to the type."""
        return self._resolve(pointer["type_id"])

    def inner(self, array: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """What ``__array(values, struct)`` says: an array of pointers to the inner map's definition."""
        return self.members(self.target(self._resolve(array["type_id"])))

    def size(self, kind: Mapping[str, Any]) -> int:
        if kind["kind"] == "ARRAY":
            return int(kind["nr_elems"]) * self.size(self._resolve(kind["type_id"]))
        return int(kind["size"])

    def leaves(self, kind: Mapping[str, Any], name: str = "", offset: int = 0) -> Iterator[Leaf]:
        if kind["kind"] == "STRUCT":
            for member in kind["members"]:
                below = self._resolve(member["type_id"])
                yield from self.leaves(below, f"{name}.{member['name']}", offset + member["bits_offset"] // 8)
        elif kind["kind"] == "ARRAY":
            element = self._resolve(kind["type_id"])
            for at in range(kind["nr_elems"]):
                yield from self.leaves(element, f"{name}[{at}]", offset + at * self.size(element))
        else:
            yield name, offset, int(kind["size"])

    def _resolve(self, number: int) -> Mapping[str, Any]:
        found = self._types[number]
        while found["kind"] in ("TYPEDEF", "CONST", "VOLATILE", "VAR"):
            found = self._types[found["type_id"]]
        return found


def leaves(kind: np.dtype[Any], name: str = "", offset: int = 0) -> Iterator[Leaf]:
    """The same of a layout in Python."""
    if kind.subdtype is not None:
        element, shape = kind.base, kind.shape
        if element == np.dtype("u1") and shape[-1] == ADDRESS:
            element, shape = np.dtype("<u4"), (*shape[:-1], ADDRESS // 4)
        for at, index in enumerate(np.ndindex(*shape)):
            where = "".join(f"[{i}]" for i in index)
            yield from leaves(element, f"{name}{where}", offset + at * element.itemsize)
    elif kind.fields is not None:
        for field in kind.names or ():
            below, start, *_ = kind.fields[field]
            yield from leaves(below, f"{name}.{field}", offset + start)
    else:
        yield name, offset, kind.itemsize


def places(found: Iterable[Leaf]) -> list[Leaf]:
    """A number has a name in a record, and none as the value of a map."""
    listed = list(found)
    return [("", *listed[0][1:])] if len(listed) == 1 else listed


def _compile(source: str, work: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Have clang read what stands in ``source``, behind the gate's own headers."""
    (work / "model.h").write_text(build.model_header())
    (work / "source.c").write_text(f'#include "{build.SOURCES / "conntrack.h"}"\n{source}\n')
    triplet = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    command = ["clang", "-target", "bpf", f"-I{work}", f"-I/usr/include/{triplet}", str(work / "source.c")]
    return subprocess.run([*command, *flags], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(OBJECT)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    """What goes through the ring: the gate's own BTF does not know it."""
    work = tmp_path_factory.mktemp("events")
    source = "\n".join(f"struct {name} a_{name};" for name in IN_THE_RING)
    done = _compile(source, work, "-g", "-O2", "-c", "-o", str(work / "events.o"))
    assert not done.returncode, done.stderr
    return Btf(work / "events.o")


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(btf: Btf, events: Btf, name: str) -> None:
    types = events if name in IN_THE_RING else btf
    struct, expected = types.struct(name), STRUCTS[name]
    assert list(leaves(expected)) == list(types.leaves(struct))
    assert expected.itemsize == struct["size"]


def test_no_struct_is_left_out(btf: Btf) -> None:
    assert (btf.structs() - {"serai_flow_table"}) | IN_THE_RING == STRUCTS.keys()


def test_maps_are_those_of_the_object(btf: Btf) -> None:
    assert btf.maps().keys() == {*layout.MAPS, layout.RING}
    assert btf.number(btf.maps()[layout.RING]["type"]) == RINGBUF


@pytest.mark.parametrize("name", layout.MAPS)
def test_map(btf: Btf, name: str) -> None:
    said = btf.maps()[name]
    key, value = layout.MAPS[name]
    assert btf.number(said["type"]) == KINDS.get(name, HASH)
    assert list(leaves(key)) == list(btf.leaves(btf.target(said["key"])))
    if name == "flows":  # its values are maps, and read as their numbers
        inner = btf.inner(said["values"])
        assert btf.number(inner["type"]) == HASH
        sizes = (layout.FLOW_KEY.itemsize, layout.FLOW.itemsize)
        assert (btf.number(inner["key_size"]), btf.number(inner["value_size"])) == sizes
    else:
        assert places(leaves(value)) == places(btf.leaves(btf.target(said["value"])))


@pytest.mark.parametrize("name", ruleset.TABLES)
def test_a_record_of_a_table_is_its_key_and_its_value(name: str) -> None:
    record = ruleset.TABLES[name]
    key, value = layout.MAPS[name]
    assert key.itemsize + value.itemsize == record.itemsize, "a hole between two fields would be lost"
    fields = record.fields or {}
    assert [fields[n][1] for n in key.names or ()] == [n[1] for n in (key.fields or {}).values()]


def _constants() -> dict[str, int]:
    directions = {"EGRESS": layout.EGRESS, "INGRESS": layout.INGRESS}
    ours = {name: value for name, value in vars(layout).items() if name.startswith(("FLAG_", "EVENT_", "HANDSHAKE_"))}
    return {
        **{f"REASON_{reason.name}": int(reason) for reason in Reason},
        **{f"STEP_{step.name}": int(step) for step in Step},
        **{f"SIGHTING_{kind.name}": int(kind) for kind in Sighting},
        **{f"IDLE_{name}": place for place, name in enumerate(flow.IDLE_CLASSES)},
        **directions,
        **ours,
        "TAPS": layout.TAPS,
        "SCALE_UNKNOWN": layout.SCALE_UNKNOWN,
        "ETHERTYPES": inventory.ETHERTYPES,
        "UNKNOWN_SLOT": slots.UNKNOWN,
        "INTERVALS": ruleset.INTERVALS,
        "REASON_SLOTS": REASON_SLOTS,
        "ANY_PROTOCOL": policy.ANY_PROTOCOL,
        "EVERYBODY": 0,
    }


def _disagreement(constants: Mapping[str, int], work: Path) -> str:
    """What the C compiler says about the claim that its constants are these; nothing when they are."""
    claims = "\n".join(f'_Static_assert({name} == {value}, "{name}");' for name, value in constants.items())
    return _compile(claims, work, "-fsyntax-only").stderr


def test_constants(tmp_path: Path) -> None:
    assert not _disagreement(_constants(), tmp_path)


def test_a_wrong_constant_would_be_seen(tmp_path: Path) -> None:
    for name, value in _constants().items():
        assert name in _disagreement({name: value + 1}, tmp_path)


def test_the_object_shows_the_same_counts(btf: Btf) -> None:
    """It may be older than the sources that ``test_constants`` reads."""
    counted = {name for name, _, _ in btf.leaves(btf.struct("serai_meter")) if name.startswith(".drops")}
    assert counted == {f".drops[{side}][{slot}]" for side in range(2) for slot in range(REASON_SLOTS)}
    assert btf.members(btf.struct("serai_settings"))["idle_ns"]["nr_elems"] == len(flow.IDLE_CLASSES)
    assert btf.members(btf.struct("serai_page"))["decisions"]["nr_elems"] == ruleset.INTERVALS
    table = btf.members(btf.struct("serai_flow_table"))
    assert btf.number(table["key_size"]) == btf.struct("serai_flow_key")["size"]
    assert btf.number(table["value_size"]) == btf.struct("serai_flow")["size"]


def test_reasons_are_numbers_of_their_own() -> None:
    numbers = [reason.value for reason in Reason.__members__.values()]
    assert len(set(numbers)) == len(numbers), "two names for one number"
    assert all(0 <= number < REASON_SLOTS for number in numbers)
    assert REASON_SLOTS & (REASON_SLOTS - 1) == 0, "the gate cuts a reason off with a mask"
    assert ruleset.INTERVALS & (ruleset.INTERVALS - 1) == 0, "and an interval"
    assert all(reason.description for reason in Reason)
