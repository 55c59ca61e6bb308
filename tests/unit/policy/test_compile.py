"""What leaves the compiler: the same bytes everywhere, nothing twice, and refused when damaged."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import random
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import HOLDERS, NETWORKS, mac_of, machines, worlds

from serai.model.address import MAPPED, link_local, packed_length
from serai.model.inventory import (
    AllowedAddress,
    Mac,
    PortSecurity,
    Serves,
    VirtualMachine,
    Vnic,
    VnicId,
    vnic_id,
)
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, Rule, RuleRef, Tier
from serai.model.ruleset import TABLES, GuardedVnic, HostRuleset, Step, rows
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler import numbering
from serai.policy.lookup import Lookup

EXAMPLES = Path(__file__).parents[3] / "examples"
ANYHOW = settings(max_examples=40, deadline=None)
MACHINE = VirtualMachine(
    name="web", scope=Scope("/acme/shop"), labels={}, mode=Mode.ENFORCE,
    vnics=(
        Vnic(
            id=vnic_id(Scope("/acme/shop"), "web", "eth0"), name="eth0", network=NETWORKS["/acme:front"],
            mac=mac_of("/acme:front", 2), addresses=HOLDERS["/acme:front"][2],
        ),
    ),
)  # fmt: skip


def compiled(world: World) -> HostRuleset:
    return compile_host(world, "host", world.vms)


def same(one: HostRuleset, other: HostRuleset) -> bool:
    return (
        (one.host, one.vnics, one.rules) == (other.host, other.vnics, other.rules)
        and one.tables.keys() == other.tables.keys()
        and all(np.array_equal(one.tables[name], other.tables[name]) for name in TABLES)
    )


# Numbers that mean the same everywhere

DIGESTS = """
import sys
from serai.inventory.files import load
from serai.policy.compile import compile_host
from serai.policy.compiler import numbering
world = load(sys.argv[1])
for host in ("a", "b"):
    vms = {path for path, vm in world.vms.items() if vm.host == host}
    print(host, len(vms), compile_host(world, host, vms).digest)
"""


def _digests(seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", DIGESTS, str(EXAMPLES / "datacenter")]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_content_is_named_alike_by_every_process() -> None:
    first = _digests("0")
    assert [line.split()[0] for line in first.splitlines()] == ["a", "b"]
    assert all(int(line.split()[1]) for line in first.splitlines()), "hosts without VMs would prove nothing"
    assert {_digests(seed) for seed in ("1", "12345")} == {first}


@ANYHOW
@given(worlds())
def test_a_host_is_named_in_its_ruleset_and_changes_nothing_else(world: World) -> None:
    one, other = (compile_host(world, host, world.vms) for host in ("a", "b"))
    assert (one.host, other.host) == ("a", "b")
    assert one.encode() != other.encode()
    assert same(one, dataclasses.replace(other, host="a"))


@ANYHOW
@given(worlds(), st.data())
def test_relabelling_changes_members_and_no_view(world: World, data: st.DataObject) -> None:
    """Bound gates keep their view and find in it who is who now; flows are judged again where that changed.

    But where a kind of VM comes or goes, the view is another one.
    """
    others = data.draw(machines())
    vms = {
        path: dataclasses.replace(vm, labels=others[path].labels) if path in others else vm
        for path, vm in world.vms.items()
    }
    following = dataclasses.replace(world, vms=vms)
    domains = {vnic.id: vnic.network.routing_domain for _, vnic in world.vnics()}

    def kinds(of: World, domain: str) -> set[tuple[object, ...]]:
        met = [vm for vm, vnic in of.vnics() if vnic.network.routing_domain == domain]
        return {(vm.scope, *sorted(vm.labels.items())) for vm in met}

    one, other = compiled(world), compiled(following)
    for before, after in zip(one.vnics, other.vnics, strict=True):
        assert before.id == after.id
        same = kinds(world, domains[before.id]) == kinds(following, domains[before.id])
        event("the same kinds" if same else "other kinds")
        assert (before.view == after.view) == same
        if not same:
            continue
        seen = [
            {r for r in rows(ruleset.tables["endpoints"]) if r[:8] == before.view.to_bytes(8, "little")}
            for ruleset in (one, other)
        ]
        assert (before.members == after.members) == (seen[0] == seen[1])
        if before.members != after.members:
            assert before.judged_by != after.judged_by


# Nothing twice, nothing loose


@ANYHOW
@given(worlds())
def test_tables_are_sorted_and_hold_no_record_twice(world: World) -> None:
    for records in compiled(world).tables.values():
        found = list(rows(records))
        assert found == sorted(set(found))


@ANYHOW
@given(worlds())
def test_no_key_stands_for_two_things(world: World) -> None:
    tables = compiled(world).tables
    for name, key in (
        ("endpoints", ("view", "address")), ("prefixes", ("length", "view", "address")),
        ("lists", ("ruleset", "identity")), ("pages", ("list", "protocol")),
    ):  # fmt: skip
        keys = [tuple(record[field].tobytes() for field in key) for record in tables[name]]
        assert len(set(keys)) == len(keys)


@ANYHOW
@given(worlds())
def test_equal_lists_are_stored_once(world: World) -> None:
    """Two lists whose pages of one protocol each are all the same are one list."""
    pages = collections.defaultdict(set)
    for record in compiled(world).tables["pages"]:
        pages[int(record["list"])].add(
            (int(record["protocol"]), record["count"], record["decisions"].tobytes(), record["first"].tobytes())
        )
    inner = {
        int(decision["rule"])
        for record in compiled(world).tables["pages"]
        for decision in record["decisions"]
        if decision["step"] == Step.DESCEND
    }
    contents = [frozenset(said) for number, said in pages.items() if number not in inner]
    assert len(set(contents)) == len(contents)


@ANYHOW
@given(worlds())
def test_whatever_is_pointed_at_is_there_and_whatever_is_there_is_pointed_at(world: World) -> None:
    ruleset = compiled(world)
    tables = ruleset.tables
    asked = {number for vnic in ruleset.vnics for number in (vnic.egress, vnic.ingress)}
    assert {int(r["ruleset"]) for r in tables["lists"]} == asked
    assert all((number, 0) in {(int(r["ruleset"]), int(r["identity"])) for r in tables["lists"]} for number in asked)
    decisions = [d for r in tables["pages"] for d in r["decisions"][: int(r["count"])]]
    below = {int(d["rule"]) for d in decisions if d["step"] == Step.DESCEND}
    assert {int(r["list"]) for r in tables["pages"]} == {int(r["list"]) for r in tables["lists"]} | below
    assert all(d["step"] != Step.MISSING for d in decisions)
    spoken = {int(d[f]) for d in decisions if d["step"] != Step.DESCEND for f in ("rule", "staged_rule")}
    assert spoken == set(ruleset.rules.values())
    views = {vnic.view for vnic in ruleset.vnics}
    assert {int(r["view"]) for r in tables["endpoints"]} == views
    assert {int(r["view"][0]) | int(r["view"][1]) << 32 for r in tables["prefixes"]} <= views


def test_vms_that_do_not_exist_are_refused() -> None:
    with pytest.raises(KeyError):
        compile_host(World(), "host", ["/acme/shop:nobody"])


# Written down and read


@ANYHOW
@given(worlds())
def test_there_and_back(world: World) -> None:
    """In parts, and in one piece."""
    ruleset = compiled(world)
    whole = HostRuleset.whole(host="host", vnics=ruleset.vnics, rules=ruleset.rules, tables=ruleset.tables)
    assert same(HostRuleset.decode(whole.encode()), ruleset)
    raw = ruleset.encode()
    back = HostRuleset.decode(raw)
    assert same(back, ruleset)
    assert back.encode() == raw
    assert back.digest == ruleset.digest
    assert [v.judged_by for v in back.vnics] == [v.judged_by for v in ruleset.vnics]


def test_every_field_of_a_vnic_survives() -> None:
    security = PortSecurity(
        allowed=(
            AllowedAddress(prefix=IPv4Network("0.0.0.0/0")),
            AllowedAddress(prefix=IPv4Network("10.0.0.100/32"), mac=Mac("00:00:5e:00:01:01")),
            AllowedAddress(prefix=IPv6Network("2001:db8::/33")),
        ),
        serves=frozenset(Serves), tunnels=True, ethertypes=(0x600, 0xFFFF), max_flows=64, new_flows_per_second=1,
    )  # fmt: skip
    vnic = GuardedVnic(
        id=VnicId(2**64 - 1), path="/a/b:c/eth0", mac=Mac("52:54:00:00:00:01"),
        addresses=(IPv4Address("10.0.0.1"), IPv4Address("255.0.0.1"), IPv6Address("2001:db8::1")), security=security,
        mode=Mode.ISOLATE, view=2**64 - 2, members=2**64 - 3, egress=1, ingress=2**63,
    )  # fmt: skip
    nothing = {name: np.empty(0, dtype) for name, dtype in TABLES.items()}
    ruleset = HostRuleset.whole(host="h", vnics=(vnic,), rules=["r"], tables=nothing)
    assert HostRuleset.decode(ruleset.encode()).vnics == (vnic,)
    for field in ("view", "members", "egress", "ingress"):
        assert dataclasses.replace(vnic, **{field: 77}).judged_by != vnic.judged_by
    assert dataclasses.replace(vnic, mode=Mode.ENFORCE).judged_by != vnic.judged_by
    assert dataclasses.replace(vnic, path="/x/y:z/eth1").judged_by == vnic.judged_by, "a name judges nothing"


SECURITY: list[object] = [[], [], False, [], None, None]
KIND = b"\7" * 8
NUMBERS = bytes(8) + b"\5" * 8
PAGE_TEXT = bytes(8) + b"\0\1\0\0" + bytes(4) + b"\1" + bytes(207)
BOOK = {
    "tag": "book",
    "lists": [bytes(24), struct.pack("<2I", 2, 1)],
    "pages": [PAGE_TEXT, struct.pack("<2I", 0, 1)],
    "rules": ["$:p/r"],
}
GUEST = {
    "tag": "guest", "path": "/a/b:c", "mode": "enforce", "cards": [["eth0", SECURITY]], "ids": bytes(8), "macs": b"\2" * 6,
    "held": b"\1\0\0\0", "addresses": bytes(16), "kinds": KIND,
}  # fmt: skip
DOMAIN = {
    "tag": "domain", "root": "/a", "numbers": NUMBERS, "judged": KIND + bytes(32) + bytes(32), "endpoints": bytes(32), "prefixes": b"",
}  # fmt: skip


def part(form: dict[str, object], **changes: object) -> bytes:
    """A part as it is written down."""
    return msgspec.msgpack.encode(list((form | changes).values()))


def parts(*, guest: object = (), domain: object = (), book: object = ()) -> list[bytes]:
    """A book, a domain that uses it, and a VM there."""
    written = part(BOOK, **dict(book))
    judged = KIND + bytes(32) + hashlib.sha256(written).digest()
    return [written, part(DOMAIN, judged=judged, **dict(domain)), part(GUEST, **dict(guest))]


def form(*written: bytes, **changes: object) -> bytes:
    """A ruleset as it is written down."""
    return msgspec.msgpack.encode({"version": 3, "host": "h", "parts": list(written), **changes})


def test_the_forms_that_are_damaged_below_are_sound() -> None:
    ruleset = HostRuleset.decode(form(*parts()))
    (vnic,) = ruleset.vnics
    assert (vnic.path, vnic.mac, vnic.security) == ("/a/b:c/eth0", "02:02:02:02:02:02", PortSecurity())
    assert list(ruleset.rules) == ["/a:p/r"]
    assert {name: len(records) for name, records in ruleset.tables.items()} == {
        "endpoints": 1, "prefixes": 0, "lists": 1, "pages": 1,
    }  # fmt: skip
    number = int.from_bytes(b"\5" * 8, "little")
    assert (ruleset.tables["lists"]["list"].tolist(), ruleset.tables["pages"]["list"].tolist()) == ([number], [number])
    assert HostRuleset.decode(form()).vnics == ()


def security(at: int, value: object) -> dict[str, object]:
    """A guest whose vNIC may do something else."""
    return {"cards": [["eth0", [*SECURITY[:at], value, *SECURITY[at + 1 :]]]]}


@pytest.mark.parametrize(
    "raw",
    [
        form(version=4), form(version="3"), form(host=5), form(parts={}), form(parts=None), form(more=1), form(parts=[1]),
        form(b""), form(b"\x90"), form(part(BOOK)[:-1]), form(part(BOOK) + b"\0"), form(part(BOOK, tag="look")),
        form(part(BOOK, more=1)), form(part(DOMAIN, more=1)), form(part(GUEST, more=1)), form(part(GUEST)),
        form(*parts()[1:]), form(*parts()[:1], *parts()[2:]),
        form(*parts(), part(DOMAIN, endpoints=bytes(31) + b"\1")), form(*parts(), part(DOMAIN, judged=KIND + b"\1" * 32 + bytes(32))),
        *(
            form(*parts(domain=changes))
            for changes in (
                {"numbers": bytes(8)}, {"numbers": bytes(15)}, {"numbers": b""}, {"endpoints": bytes(33)}, {"prefixes": bytes(35)},
                {"root": 5}, {"endpoints": bytes(32) + bytes(31) + b"\1"},
            )
        ),
        *(
            form(*parts(book=changes))
            for changes in (
                {"pages": [bytes(223), b""]}, {"pages": [bytes(224), bytes(7)]}, {"pages": [bytes(216), b""]}, {"rules": [1]},
                {"pages": [bytes(224), struct.pack("<2I", 28, 1)]}, {"pages": [bytes(224), struct.pack("<2I", 0, 2)]},
                {"lists": [bytes(25), b""]}, {"lists": [bytes(16), b""]}, {"lists": [bytes(24)]},
                {"lists": [bytes(23) + b"\1" + bytes(24), b""]},
            )
        ),
        *(
            form(*parts(guest=changes))
            for changes in (
                {"macs": b"\1" * 6}, {"macs": bytes(6)}, {"macs": b"\2" * 5}, {"mode": "whatever"}, {"ids": bytes(7)},
                {"ids": bytes(16)}, {"held": bytes(4)}, {"held": b"\xff" * 4}, {"addresses": bytes(15)}, {"kinds": b"\6" * 8},
                {"cards": []}, {"cards": [["eth0"]]}, {"cards": [["eth0", [*SECURITY, 1]]]},
                security(0, [[bytes(16), 129, None]]), security(0, [[b"\1" * 16, 0, None]]), security(0, [[bytes(16), 0, "mac"]]),
                security(1, ["dchp"]), security(3, [65536]), security(3, [1, 2, 3, 4, 5]), security(4, 0), security(5, 2**32),
            )
        ),
    ],
    ids=lambda raw: hashlib.sha256(raw).hexdigest()[:8],
)  # fmt: skip
def test_what_is_no_ruleset_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="ruleset"):
        HostRuleset.decode(raw)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_a_ruleset_that_was_cut_is_refused(world: World, choice: random.Random) -> None:
    raw = compiled(world).encode()
    for end in {0, 1, len(raw) - 1, *(choice.randrange(len(raw)) for _ in range(5))}:
        with pytest.raises(ValueError, match="not a ruleset"):
            HostRuleset.decode(raw[:end])
    with pytest.raises(ValueError, match="not a ruleset"):
        HostRuleset.decode(raw + b"\0")


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_a_damaged_ruleset_is_refused_or_another(world: World, choice: random.Random) -> None:
    """Never taken for what it was: its digest tells."""
    ruleset = compiled(world)
    raw = ruleset.encode()
    for _ in range(10):
        at, bit = choice.randrange(len(raw)), 1 << choice.randrange(8)
        damaged = raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]
        try:
            other = HostRuleset.decode(damaged)
        except ValueError:
            continue
        # Nothing that is not what it was goes by its digest; but not all that a part says need matter to this host.
        assert same(other, ruleset) or other.digest != ruleset.digest


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="ruleset"):
        HostRuleset.decode(raw)


# Quarantine


@ANYHOW
@given(worlds(), st.data())
def test_isolating_a_vm_changes_nothing_for_anybody_else(world: World, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(world.vms)))
    one, other = (
        compiled(dataclasses.replace(world, vms={**world.vms, path: dataclasses.replace(world.vms[path], mode=mode)}))
        for mode in (Mode.ENFORCE, Mode.ISOLATE)
    )
    for before, after in zip(one.vnics, other.vnics, strict=True):
        if before.path.startswith(f"{path}/"):
            assert (before.view, before.members) == (after.view, after.members)
            assert (before.egress, before.ingress) != (after.egress, after.ingress)
        else:
            assert before == after
    for name in ("endpoints", "prefixes"):
        assert np.array_equal(one.tables[name], other.tables[name])


@ANYHOW
@given(worlds())
def test_another_quarantine_is_another_view(world: World) -> None:
    some = [compiled(dataclasses.replace(world, quarantine=q)) for q in ((), (IPv4Network("192.0.2.0/24"),))]
    assert {v.view for v in some[0].vnics}.isdisjoint(v.view for v in some[1].vnics)


# Versions


@ANYHOW
@given(worlds())
def test_no_prefix_of_ipv6_covers_ipv4(world: World) -> None:
    ruleset = compiled(world)
    mapped = MAPPED.network_address.packed
    found = {
        (record["view"].tobytes(), int(record["length"]) - 64, record["address"].tobytes()): int(record["identity"])
        for record in ruleset.tables["prefixes"]
    }
    for view, length, raw in found:
        if length < packed_length(MAPPED) and MAPPED.subnet_of(IPv6Network((raw, length))):
            assert (view, packed_length(MAPPED), mapped) in found


def test_all_of_ipv6_says_nothing_of_ipv4() -> None:
    vm = dataclasses.replace(MACHINE, mode=Mode.ENFORCE)
    rule = Rule(
        ref=RuleRef("six"), action=Action.ACCEPT, clauses=(Clause(peer=InCidr(prefix=IPv6Network("::/0"))),)
    )  # fmt: skip
    policy = Policy(
        name="p", scope=vm.scope, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=vm.scope),
        rules={Direction.INGRESS: (rule,)},
    )  # fmt: skip
    ruleset = compiled(World(networks=NETWORKS, vms={vm.path: vm}, policies=(policy,)))
    lookup, (vnic,) = Lookup(ruleset), ruleset.vnics
    for remote, rule_text in (("2a00::8", "six"), ("8.8.8.8", "unmatched/ingress"), ("::1:2", "six")):
        found = lookup.decide(vnic, Direction.INGRESS, ip_address(remote), 6, 80)
        assert found
        assert found.rule == rule_text


def test_a_vnic_guards_its_link_local_address_and_its_security() -> None:
    security = PortSecurity(tunnels=True, max_flows=64)
    card = dataclasses.replace(MACHINE.vnics[0], security=security)
    vm = dataclasses.replace(MACHINE, vnics=(card,))
    (vnic,) = compiled(World(networks=NETWORKS, vms={vm.path: vm})).vnics
    assert vnic.security == security
    assert vnic.addresses == (*card.addresses, link_local(card.mac.packed))


@ANYHOW
@given(worlds())
def test_another_last_word_is_another_ruleset(world: World) -> None:
    words = [dict.fromkeys(Direction, action) for action in (Action.ACCEPT, Action.DENY)]
    one, other = (compiled(dataclasses.replace(world, last_word=word)) for word in words)
    assert {v.egress for v in one.vnics}.isdisjoint(v.egress for v in other.vnics)
    assert {v.ingress for v in one.vnics}.isdisjoint(v.ingress for v in other.vnics)


def test_a_number_that_names_two_things_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = dataclasses.replace(MACHINE, mode=Mode.ENFORCE)
    world = World(networks=NETWORKS, vms={vm.path: vm})
    assert compiled(world).vnics
    given = numbering.give
    monkeypatch.setattr(
        numbering,
        "give",
        lambda kind, contents: [b"\7" * 8 if kind == b"ruleset" else n for n in given(kind, contents)],
    )
    with pytest.raises(numbering.CollisionError, match="two things in the routing domain 'acme' have the same number"):
        compiled(world)
