"""``serai scale``, and the data centers on paper that it compiles."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import re

import pytest
from click.testing import CliRunner, Result

from serai.cli.main import main
from serai.lab.scale import ROLES, SUBNET, DataCenter, Scale, ScaleError, build
from serai.lab.trial import Trial
from serai.model.address import unpack
from serai.model.columns import MODES, Columns
from serai.model.inventory import Mac, VirtualMachine, Vnic, VnicId
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler.datacenter import Compiler

TINY = Scale(hosts=3, vms=4, vnics=2, tenants=2)
SCALES = (
    TINY, Scale(hosts=2, vms=5, vnics=1, tenants=10, seed=7), Scale(hosts=1, vms=9, vnics=3, tenants=1, seed=0),
    Scale(hosts=4, vms=6, vnics=2, tenants=5, seed=3, shapes=True),
)  # fmt: skip
ARGUMENTS = ("--hosts", "3", "--vms", "4", "--vnics", "2", "--tenants", "2", "--changes", "3")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["scale", *arguments])


def machines(columns: Columns) -> list[VirtualMachine]:
    """The VMs that columns tell of, as objects."""
    found = []
    for at, path in enumerate(columns.paths):
        vnics = []
        first, last = columns.vm_vnics[at : at + 2].tolist()
        for place, (name, security) in zip(range(first, last), columns.cards[columns.vm_cards[at]], strict=True):
            begin, end = columns.vnic_addresses[place : place + 2].tolist()
            vnics.append(
                Vnic(
                    id=VnicId(int(columns.ids[place])), name=name, security=security,
                    network=columns.networks[columns.vnic_network[place]],
                    mac=Mac(columns.macs[place].tobytes().hex(":")),
                    addresses=tuple(unpack(raw.tobytes()) for raw in columns.addresses[begin:end]),
                )
            )  # fmt: skip
        found.append(
            VirtualMachine(
                name=path.partition(":")[2], scope=columns.scopes[columns.vm_scope[at]],
                labels=columns.labels[columns.vm_labels[at]], mode=MODES[columns.vm_mode[at]], vnics=tuple(vnics),
            )
        )  # fmt: skip
    return found


def world_of(center: DataCenter) -> World:
    return World(vms={vm.path: vm for vm in machines(center.columns)}, policies=tuple(center.policies))


def digests(center: DataCenter) -> dict[str, str]:
    compiler = Compiler.of(center.policies, center.columns, {path: (host,) for path, host in center.places.items()})
    return {host: compiler.ruleset(host).digest for host in sorted(compiler.hosts)}


def told(columns: Columns) -> dict[str, object]:
    """Every column, for comparing."""
    fields = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    return {name: value.tobytes() if hasattr(value, "tobytes") else value for name, value in fields.items()}


# On paper


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_it_is_as_large_as_it_should_be(scale: Scale) -> None:
    center = build(scale)
    vms = machines(center.columns)
    assert collections.Counter(center.places.values()) == {f"host-{at}": scale.vms for at in range(scale.hosts)}
    assert center.places.keys() == {vm.path for vm in vms}
    assert len(vms) == scale.hosts * scale.vms
    assert {len(vm.vnics) for vm in vms} == {scale.vnics}
    by_tenant = collections.Counter(vm.scope for vm in vms)
    assert len(by_tenant) == scale.tenants
    assert max(by_tenant.values()) - min(by_tenant.values()) <= 1
    for number in range(scale.tenants):
        own = [p for p in center.policies if p.scope == f"/t{number}"]
        assert sum(len(side) for policy in own for side in policy.rules.values()) == 8
    provider = [side for p in center.policies if p.scope == "/" for side in p.rules.values()]
    assert sum(map(len, provider)) == 4
    assert len({(p.scope, p.name) for p in center.policies}) == len(center.policies) == 4 * scale.tenants + 1


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_no_number_is_given_twice(scale: Scale) -> None:
    vms = machines(build(scale).columns)
    vnics = [(vm, vnic) for vm in vms for vnic in vm.vnics]
    assert len({vnic.id for _, vnic in vnics}) == len({vnic.mac for _, vnic in vnics}) == len(vnics)
    held = [(vnic.network.routing_domain, address) for _, vnic in vnics for address in vnic.addresses]
    assert len(set(held)) == len(held) == len(vnics)
    assert all(address in SUBNET for _, address in held)
    assert all(vnic.network.scope == vm.scope and vnic.network.routing_domain == vm.scope[1:] for vm, vnic in vnics)
    for tenant in {vm.scope for vm in vms}:
        roles = collections.Counter(vm.labels["role"] for vm in vms if vm.scope == tenant)
        assert set(roles) <= set(ROLES)
        assert roles["web"] >= max(roles.values()), "in turn, beginning with web"


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_same_seed_gives_the_same_bytes(scale: Scale) -> None:
    one, other = build(scale), build(scale)
    assert told(one.columns) == told(other.columns)
    assert (one.places, one.policies) == (other.places, other.policies)
    assert digests(one) == digests(other)


def test_another_seed_places_vms_elsewhere() -> None:
    one, other = (build(dataclasses.replace(TINY, seed=seed)) for seed in (1, 2))
    assert one.places != other.places
    assert (told(one.columns), one.policies) == (told(other.columns), other.policies)


def test_shapes_make_tenants_different_and_stay_the_same_for_a_seed() -> None:
    plain, one, again, other = (
        build(dataclasses.replace(TINY, shapes=shapes, seed=seed)).policies
        for shapes, seed in ((False, 1), (True, 1), (True, 1), (True, 2))
    )
    assert one == again
    assert len([p for p, q in zip(plain, one, strict=True) if p != q]) == 4 * TINY.tenants
    assert one != other


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_its_columns_compile_to_what_a_world_of_the_same_vms_does(scale: Scale) -> None:
    center = build(scale)
    world = world_of(center)
    for host, digest in digests(center).items():
        mine = [path for path, place in center.places.items() if place == host]
        assert compile_host(world, host, mine).digest == digest


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"hosts": 0}, "hosts, VMs, vNICs and tenants are at least one each"),
        ({"vms": -1}, "hosts, VMs, vNICs and tenants are at least one each"),
        ({"vnics": 0}, "hosts, VMs, vNICs and tenants are at least one each"),
        ({"tenants": 0}, "hosts, VMs, vNICs and tenants are at least one each"),
        ({"tenants": 13}, "13 tenants cannot share 12 VMs: each needs one at least"),
        (
            {"vms": 30_000, "tenants": 1},
            "a tenant's vNICs do not fit into 10.0.0.0/16: take more tenants, or fewer VMs or vNICs",
        ),
        ({"seed": -1}, "-1 is no seed: take a number from 0 on"),
    ],
)
def test_sizes_that_cannot_be_are_one_sentence(sizes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ScaleError, match=f"^{re.escape(sentence)}$"):
        dataclasses.replace(TINY, **sizes)
    result = run(*ARGUMENTS, *(word for name, size in sizes.items() for word in (f"--{name}", str(size))))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {sentence}\n")


# The verb


def test_a_program_gets_one_object() -> None:
    result = run(*ARGUMENTS, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    center = build(TINY)
    assert {field: answer[field] for field in ("hosts", "vms", "vnics", "tenants", "seed", "shapes")} == {
        "hosts": 3, "vms": 4, "vnics": 2, "tenants": 2, "seed": 1, "shapes": False
    }  # fmt: skip
    assert (answer["vnics_in_all"], answer["policies"]) == (24, 9)
    full = answer["full"]
    assert full["digest"] == hashlib.sha256("".join(digests(center).values()).encode()).hexdigest()
    assert full["taken"]["hosts"] == answer["rule_for_all"]["hosts"] == 3
    assert full["largest"] in center.places.values()
    assert full["largest_bytes"] > 1000
    assert answer["edit"]["count"] == answer["move"]["count"] == 3
    assert all(answer[what]["median_ms"] <= answer[what]["p99_ms"] for what in ("edit", "move"))


def test_what_it_took_is_told_in_sentences() -> None:
    result = run(*ARGUMENTS)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "24 vNICs of 2 tenants on 3 hosts, under 9 policies with 20 rules."
    assert [line.split("  ")[1] for line in lines[1:4]] == ["Compiled", "One edit", "One move"]
    assert lines[4].startswith("  Rule for all")
    assert lines[4].endswith("changes 3 hosts")
    digest = json.loads(run(*ARGUMENTS, "--json").stdout)["full"]["digest"]
    assert lines[5].endswith(f"Digest of all: {digest[:12]}.")


def test_no_changes() -> None:
    answer = json.loads(run(*ARGUMENTS, "--changes", "0", "--json").stdout)
    assert (answer["edit"], answer["move"]) == (None, None)
    shown = run(*ARGUMENTS, "--changes", "0")
    assert shown.exit_code == 0
    assert "One" not in shown.stdout
    refused = run(*ARGUMENTS, "--changes", "-1")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "Error: -1 changes cannot be tried: take a number from 0 on\n"


def test_a_host_that_has_no_room_is_one_sentence() -> None:
    result = run("--hosts", "1", "--vms", "4096", "--vnics", "1", "--tenants", "4096", "--changes", "0")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: host host-0 would have to hold up to 4096 vnics, and has room for 4095")


# What a trial does is done


def test_changes_change_what_they_say() -> None:
    trial = Trial(TINY, build(TINY))
    digest = trial.compile().digest
    assert digest == Trial(TINY, build(TINY)).compile().digest
    now = {host: trial.compiler.ruleset(host).digest for host in trial.compiler.hosts}
    for change in (trial.edit, trial.rule_for_all):
        concerned = change().hosts
        before, now = now, {host: trial.compiler.ruleset(host).digest for host in trial.compiler.hosts}
        assert len([host for host in now if now[host] != before[host]]) == concerned > 0
    moved = [trial.move().hosts for _ in range(12)]
    assert set(moved) <= {0, 1, 2}
    assert any(moved)
