"""Whether a machine is the one that was registered, case by case."""

from __future__ import annotations

import dataclasses

import pytest

from serai.migration.entry import Demand, Entering, Entry, Terms, judge
from serai.migration.placement import Placement
from serai.migration.registered import Booted
from serai.model.decode import decode
from serai.model.inventory import Mac
from serai.model.registered import Registered
from serai.model.world import World

BASE, KERNEL, OTHER, MACHINE = ("ab" * 32, "cd" * 32, "ef" * 32, "01" * 32)
SITE = """
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: front, scope: /acme}
spec: {subnets: [10.0.0.0/24]}
"""
IMAGES = f"""
---
apiVersion: serai.dev/v1
kind: Image
metadata: {{name: alpine}}
spec: {{digests: ["sha256:{BASE}"]}}
---
apiVersion: serai.dev/v1
kind: Image
metadata: {{name: kernels}}
spec: {{digests: ["sha256:{KERNEL}"]}}
"""


def vm(number: int, name: str, said: str = "") -> str:
    return f"""
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {{name: {name}, scope: /acme}}
spec:
  vnics: [{{network: front, mac: "52:54:00:00:00:0{number}", addresses: [10.0.0.{number}]}}]
{said}
"""


NAMES = ("plain", "imaged", "defined", "both")
WORLD = decode(
    {
        "site.yaml": SITE + IMAGES + vm(1, "plain") + vm(2, "imaged", "  images: [alpine, kernels, alpine]")
        + vm(3, "defined", f"  definition: sha256:{MACHINE}")
        + vm(4, "both", f"  images: [alpine]\n  definition: sha256:{MACHINE}")
    }
)  # fmt: skip
EMPTY = decode({"site.yaml": SITE + vm(1, "plain")})
OWNERS = {Mac(f"52:54:00:00:00:0{at}"): f"/acme:{name}" for at, name in enumerate(NAMES, 1)}

VDA = Booted(what="disk vda", path="/srv/base", digest=BASE)
BOOTS = (Booted(what="kernel", path="/srv/k", digest=KERNEL), VDA)


def asked(name: str, *, images: Demand = Demand.WARN, world: World = WORLD, **told: object) -> Entry:
    mac = Mac(f"52:54:00:00:00:0{NAMES.index(name) + 1}")
    entering = Entering(host="a", domain=name, cards={mac: ""}, incoming=False)
    return judge(
        dataclasses.replace(entering, **told),  # type: ignore[arg-type]
        world, Placement.of(world), owner=OWNERS.get, running={}, going={}, ticket=lambda _: None, terms=Terms(images=images),
    )  # fmt: skip


def test_what_was_written_is_in_the_world() -> None:
    assert WORLD.registry.images == {"alpine": frozenset({BASE}), "kernels": frozenset({KERNEL})}
    assert WORLD.registry.vms == {
        "/acme:imaged": Registered(images=("alpine", "kernels")),
        "/acme:defined": Registered(definition=MACHINE),
        "/acme:both": Registered(images=("alpine",), definition=MACHINE),
    }
    assert not EMPTY.registry.vms


def test_who_is_as_registered_may() -> None:
    assert asked("imaged", boots=BOOTS, definition=OTHER) == Entry(vm="/acme:imaged")
    found = asked("defined", definition=MACHINE)
    assert found == Entry(vm="/acme:defined", definition=MACHINE), "nobody asks what it boots from"
    assert asked("both", definition=MACHINE, boots=(VDA, VDA)) == Entry(vm="/acme:both", definition=MACHINE)


def test_what_it_boots_from_is_asked_for_where_it_matters() -> None:
    found = asked("imaged", definition=OTHER)
    assert found == Entry(vm="/acme:imaged", look=True)
    assert not found.allowed
    assert not asked("imaged", images=Demand.OFF).look
    assert asked("both", definition=OTHER).objections, "and what is known is told beside"


REFUSED = {
    "another definition": ("defined", {"definition": OTHER}, f"its machine definition is not the one that is registered (sha256:{MACHINE}): it is sha256:{OTHER}; what is meant is registered by `serai agent describe defined`"),
    "a host that does not tell the definition": ("defined", {"definition": None}, "the agent of this host does not tell its machine definition, and one is registered: upgrade the agent"),
    "another image": ("imaged", {"boots": (*BOOTS, Booted(what="disk vdb", path="/srv/x", digest=OTHER))}, f"its disk vdb (/srv/x) is not of the images alpine, kernels: it is sha256:{OTHER}; what is meant is registered by `serai agent describe imaged`"),
    "another's image": ("both", {"definition": MACHINE, "boots": BOOTS}, f"its kernel (/srv/k) is not of the image alpine: it is sha256:{KERNEL}; what is meant is registered by `serai agent describe both`"),
    "an image that is being read": ("imaged", {"boots": (Booted(what="disk vda", path="/d", why="it is being read for the first time (7 %): try again in a while"),)}, "its disk vda (/d) cannot be compared with the images alpine, kernels: it is being read for the first time (7 %): try again in a while"),
    "an image that nobody can read": ("imaged", {"boots": (VDA, Booted(what="network card m", why="nobody can tell what comes from there"))}, "its network card m cannot be compared with the images alpine, kernels: nobody can tell what comes from there"),
    "no image": ("imaged", {"boots": ()}, "it boots from nothing that could be compared with the images alpine, kernels"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_who_is_another_is_told_why(case: str) -> None:
    name, told, why = REFUSED[case]
    assert asked(name, **told).objections == (why,)
    assert asked(name, images=Demand.REQUIRE, **told).objections == (why,)
    assert asked(name, images=Demand.OFF, **told) == Entry(vm=f"/acme:{name}")


def test_who_is_not_registered_hears_of_it_as_the_site_wants() -> None:
    why = "nobody has registered what /acme:plain boots from and is made of: `serai agent describe plain` writes what is to be applied"
    assert asked("plain") == Entry(vm="/acme:plain", warnings=(why,))
    assert asked("plain", images=Demand.REQUIRE) == Entry(vm="/acme:plain", objections=(why,))
    assert asked("plain", images=Demand.OFF) == Entry(vm="/acme:plain")
    assert asked("plain", world=EMPTY) == Entry(vm="/acme:plain"), "where nobody registers anything nothing is said"
    assert asked("plain", world=EMPTY, images=Demand.REQUIRE).objections == (why,)
