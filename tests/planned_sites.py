"""What a controller may know of small data centers, for tests of plans of moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from serai.controller.planning.config import PlanningSettings
from serai.controller.planning.known import Known
from serai.controller.whereabouts import Sign, signs_of
from serai.model.decode import decode
from serai.model.host_facts import Cpu, HostFacts
from serai.store.records import HostState

FACTS = HostFacts(cpu=Cpu(arch="x86_64"), memory=10_000, nics=[], kernel="6.8.0", features=[], agent="0.1.0")
HOSTS = ("a", "b", "c")


def state(name: str, **what: Any) -> HostState:
    found: dict[str, Any] = {
        "name": name, "connected": True, "since": None, "agent": "0.1.0", "epoch": 1, "holds": None, "wanted": None,
        "revision": 1, "trouble": "", "vnics": 0,
    }  # fmt: skip
    return HostState(**found | what)


def resources(vms: Mapping[str, str], more: Sequence[str] = (), hosts: Mapping[str, str] | None = None) -> str:
    """Hosts and VMs of one tenant, in YAML; of each the rest of its spec: ``memory: 1000, tags: [pci]``."""
    parts = ["kind: Tenant\nmetadata: {name: acme}"]
    given = hosts if hosts is not None else dict.fromkeys(HOSTS, "")
    parts += [f"kind: Host\nmetadata: {{name: {name}}}\nspec: {{{spec}}}" for name, spec in given.items()]
    parts.append(
        "kind: Network\nmetadata: {name: front, scope: /acme}\nspec: {subnets: [10.0.0.0/24], tags: [pci, ssd]}"
    )
    parts.append("kind: Network\nmetadata: {name: plain, scope: /acme}\nspec: {subnets: [10.0.1.0/24]}")
    for at, (name, spec) in enumerate(vms.items(), 1):
        network, _, rest = spec.rpartition("|")
        plain = network == "plain"
        vnic = f'{{network: {network or "front"}, mac: "52:54:00:00:00:{at:02x}", addresses: [10.0.{int(plain)}.{at}]}}'
        parts.append(
            f"kind: VirtualMachine\nmetadata: {{name: {name}, scope: /acme}}\nspec: {{vnics: [{vnic}]{', ' if rest else ''}{rest}}}"
        )
    return "\n---\n".join(f"apiVersion: serai.dev/v1\n{part}\n" for part in [*parts, *more])


def known(text: str, where: Mapping[str, str], **what: Any) -> Known:
    """Know all of this, and that VMs are reported by hosts: ``{"web": "a", "amid": "a b"}``."""
    world = decode({"x.yaml": text})
    hosts = sorted(world.hosts)
    signs: dict[str, set[Sign]] = {host: set() for host in hosts}
    for name, places in where.items():
        for host in places.split():
            signs[host].update(signs_of(world.vms[f"/acme:{name}"]))
    made = {
        "world": world, "revision": 7, "states": {host: state(host) for host in hosts},
        "signs": {host: frozenset(some) for host, some in signs.items()}, "facts": dict.fromkeys(hosts, FACTS), "moves": {},
        "version": "0.1.0", "settings": PlanningSettings(),
    }  # fmt: skip
    return Known(**made | what)


def less_memory(facts: HostFacts, memory: int) -> HostFacts:
    return msgspec.structs.replace(facts, memory=memory)
