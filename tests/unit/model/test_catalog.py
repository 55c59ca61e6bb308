"""A catalog that is changed bit by bit is the catalog that reading everything anew makes: the same world, and the same verdict."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from typing import Any

import pytest
from histories import History, histories
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from resources import written
from worlds import worlds

from serai.model.buckets import Buckets, Index
from serai.model.catalog import Catalog, Key, read_files, read_stored
from serai.model.definitions import Definition, DefinitionErrors
from serai.model.placement import Needs
from serai.model.policy import Action, Direction
from serai.model.resources import Resource
from serai.model.tenancy import Mode
from serai.model.update import Update
from serai.model.world import World

Document = dict[str, Any]
DIGEST = f"sha256:{'0' * 64}"
Definitions = Mapping[Key, Definition[Resource] | None]


def document(kind: str, name: str, scope: str | None = None, **spec: Any) -> Document:
    metadata = {"name": name} if scope is None else {"name": name, "scope": scope}
    return {"apiVersion": "serai.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


def read(*documents: Document, file: str = "new.yaml") -> dict[Key, Definition[Resource]]:
    found = read_files({file: "\n---\n".join(map(json.dumps, documents))})
    return {Key.of(definition.resource): definition for definition in found}


def stored(*documents: Document, revision: int = 41) -> list[Definition[Resource]]:
    return [read_stored(key, made.body, revision) for key, made in read(*documents).items()]


def vnic(number: int, network: str = "front", **more: Any) -> Document:
    card = {
        "name": "eth0",
        "network": network,
        "mac": f"52:54:00:00:00:{number:02x}",
        "addresses": [f"10.0.0.{number}"],
    }
    return card | more


BASE = (
    document("Site", "site", mode="observe", quarantine={"allow": ["203.0.113.1/32"]}),
    document("Tenant", "acme", applications=[{"name": "shop"}, {"name": "lab"}]),
    document("Tenant", "globex", mode="enforce"),
    document("Host", "alpha", tags=["pci", "gold"]),
    document("Host", "beta"),
    document("Network", "front", "/acme", subnets=["10.0.0.0/24"], tags=["pci"]),
    document("Network", "front", "/globex", subnets=["10.0.0.0/24"]),
    document("VirtualMachine", "web", "/acme/shop", host="alpha", labels={"role": "web"}, vnics=[vnic(1)], tags=["pci"], memory=512, images=["alpine"], definition=DIGEST),
    document("VirtualMachine", "db", "/acme", host="beta", vnics=[vnic(2)]),
    document("VirtualMachine", "web", "/globex", vnics=[vnic(3)]),
    document("Service", "sql", "/acme", ports=["tcp/5432"], selector={"matchLabels": {"role": "db"}}),
    document(
        "Policy", "web", "/acme/shop", tier="Tenant",
        ingress=[{"name": "a", "action": "Accept", "from": [{"service": "sql"}, {"network": "front"}], "ports": ["sql", "tcp/80"]}],
    ),
    document("Policy", "all", "/", tier="Admin", subject={"scope": "/acme/lab"}, egress=[{"name": "b", "action": "Deny", "ports": ["http"]}]),
    document("Service", "http", "/", ports=["tcp/80"]),
    document("Pool", "west", hosts=["beta"], profile="strict"),
    document("PlacementRule", "apart", keepApart={"scope": "/acme/lab"}),
    document("PlacementRule", "pci", exclusive="pci"),
    document("Image", "alpine", digests=[DIGEST]),
    document("Invariant", "apart", "/acme", never={"from": [{"scope": "/acme/shop"}], "to": [{"network": "front"}], "ports": ["sql"]}),
)  # fmt: skip

# What may be written, most of it sound one by one, and much of it not together


SCOPES = st.sampled_from(("/acme", "/acme/shop", "/globex", "/acme/lab", "/initech", "/"))
HOMES = st.sampled_from(("/acme", "/acme/shop", "/acme", "/acme/shop", "/globex", "/acme/lab"))
MODES = st.sampled_from(("observe", "enforce", "isolate"))
NETWORKS = st.sampled_from(("front", "front", "/acme:front", "back", "/globex:front"))
SERVICES = st.sampled_from(("sql", "/acme:sql", "http", "/:http"))
NUMBERS = st.integers(1, 6)
TAGS = st.sampled_from((["pci"], ["gold"], ["gold", "pci"], ["pci", "gold"], []))
ROLES = st.sampled_from(({}, {"role": "db"}, {"role": "web"}))


def optional(draw: st.DrawFn, **fields: st.SearchStrategy[Any]) -> Document:
    return {name: draw(values) for name, values in fields.items() if draw(st.booleans())}


@st.composite
def cards(draw: st.DrawFn, at: int) -> Document:
    number = draw(NUMBERS)
    allowed = optional(
        draw, prefix=st.sampled_from(("10.0.0.4/32", "10.0.0.4/31", "10.0.0.9/32", "192.0.2.0/24", "fe80::/10"))
    ) | optional(draw, mac=st.sampled_from(("52:54:00:00:00:05", "00:00:5e:00:01:01")))  # fmt: skip
    mac, address = number + draw(st.sampled_from((0, 0, 0, 1))), number + draw(st.sampled_from((0, 0, 0, 1)))
    v6 = [f"fe80::{number}"] if draw(st.integers(0, 3)) == 0 else []
    return {
        "name": draw(st.sampled_from((f"eth{at}", f"eth{at}", f"eth{at}", "eth0"))),
        "network": draw(NETWORKS),
        "mac": f"52:54:00:00:00:{mac:02x}",
        "addresses": [f"10.0.{draw(st.sampled_from((0, 0, 0, 1)))}.{address}", *v6],
    } | ({"allowedAddresses": [allowed]} if "prefix" in allowed else {})


def rules(draw: st.DrawFn, field: str) -> list[Document]:
    peers = [
        draw(st.one_of(SERVICES.map(lambda s: {"service": s}), NETWORKS.map(lambda n: {"network": n}), SCOPES.map(lambda s: {"scope": s})))
        for _ in range(draw(st.integers(1, 2)))
    ]  # fmt: skip
    ports = {"ports": [draw(st.one_of(st.just("tcp/80"), SERVICES))]} if draw(st.booleans()) else {}
    return [{"name": "a", "action": draw(st.sampled_from(("Accept", "Deny"))), field: peers, **ports}]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    match draw(st.sampled_from(KINDS)):
        case "Site":
            settings = optional(
                draw, mode=MODES, defaults=st.just({"ingress": "Accept"}), quarantine=st.just({"allow": ["192.0.2.0/24"]})
            )  # fmt: skip
            return document("Site", draw(st.sampled_from(("site", "site", "other"))), **settings)
        case "Tenant":
            apps = [
                {"name": name, **optional(draw, mode=MODES)} for name in draw(st.sets(st.sampled_from(("shop", "lab"))))
            ]
            name = draw(st.sampled_from(("acme", "globex", "initech", "acme", "globex", "provider")))
            return document("Tenant", name, applications=apps, **optional(draw, mode=MODES))
        case "Host":
            return document("Host", draw(st.sampled_from(("alpha", "beta", "gamma"))), **optional(draw, tags=TAGS))
        case "Pool":
            hosts = draw(st.lists(st.sampled_from(("alpha", "beta", "gamma")), max_size=2))
            more = optional(draw, profile=st.just("strict"), requires=st.just({"memory": 7, "features": ["jit"]}))
            return document("Pool", draw(st.sampled_from(("west", "east"))), hosts=hosts, **more)
        case "PlacementRule":
            apart = {"keepApart": optional(draw, scope=SCOPES, selector=ROLES.map(lambda r: {"matchLabels": r}))}
            said = draw(st.sampled_from(({"exclusive": "pci"}, apart)))
            return document("PlacementRule", draw(st.sampled_from(("apart", "pci"))), **said)
        case "Image":
            digests = draw(st.sampled_from(([DIGEST], [DIGEST, DIGEST.replace("0", "1")])))
            return document("Image", draw(st.sampled_from(("alpine", "debian"))), digests=digests)
        case "Network":
            subnets = draw(
                st.sampled_from((["10.0.0.0/24"], ["10.0.0.0/23"], ["10.0.1.0/24"], ["10.0.0.0/30", "10.0.1.0/24"]))
            )
            more = optional(
                draw,
                routingDomain=st.sampled_from(("acme", "globex", "own")),
                bridge=st.just("br0"),
                vni=st.just(7),
                tags=TAGS,
            )
            return document("Network", draw(st.sampled_from(("front", "back"))), draw(SCOPES), subnets=subnets, **more)
        case "VirtualMachine":
            vnics = [draw(cards(at)) for at in range(draw(st.integers(1, 2)))]
            more = optional(
                draw,
                host=st.sampled_from(("alpha", "beta", "gamma")),
                mode=MODES,
                domain=st.just("dom"),
                tags=TAGS,
                memory=st.sampled_from((256, 512)),
                images=st.sampled_from((["alpine"], ["debian", "alpine"])),
                definition=st.just(DIGEST),
            )
            name = draw(st.sampled_from(("web", "db", "app")))
            return document("VirtualMachine", name, draw(HOMES), labels=draw(ROLES), vnics=vnics, **more)
        case "Service":
            more = {"selector": {"matchLabels": draw(ROLES)}} if draw(st.integers(0, 3)) else {}
            ports = [draw(st.sampled_from(("tcp/5432", "udp/53")))]
            return document("Service", draw(st.sampled_from(("sql", "http"))), draw(SCOPES), ports=ports, **more)
        case "Policy":
            subject = {"subject": {"scope": draw(SCOPES)}} if draw(st.integers(0, 3)) == 0 else {}
            sides = {"ingress": rules(draw, "from")} | optional(draw, egress=st.just(rules(draw, "to")))
            return document(
                "Policy", draw(st.sampled_from(("web", "all"))), draw(SCOPES), tier="Tenant", **subject, **sides
            )
        case _:
            [rule] = rules(draw, "to")
            claim = {"from": [{"scope": draw(HOMES)}], "to": rule["to"]} | (
                {"ports": rule["ports"]} if "ports" in rule else {}
            )
            return document("Invariant", "apart", draw(SCOPES), never=claim)


KINDS = ("Site", "Tenant", "Host", "Network", "VirtualMachine", "VirtualMachine", "VirtualMachine", "Service", "Policy", "Policy", "Invariant", "Pool", "PlacementRule", "Image")  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> list[Document | int]:
    """Documents, and numbers that pick what goes."""
    return draw(st.lists(st.one_of(documents(), documents(), documents(), st.integers(0, 99)), min_size=1, max_size=3))


def changes_of(catalog: Catalog, edit: list[Document | int], revision: int) -> Definitions:
    keys = sorted(catalog.keys())
    changes: dict[Key, Definition[Resource] | None] = {keys[n % len(keys)]: None for n in edit if isinstance(n, int)}
    return changes | {
        d_key: d for doc in edit if isinstance(doc, dict) for d_key, d in read(doc, file=f"{revision}.yaml").items()
    }


def outcome(catalog: Catalog, changes: Definitions) -> tuple[Catalog, Update] | DefinitionErrors:
    try:
        return catalog.changed(changes)
    except DefinitionErrors as errors:
        return errors


def anew(catalog: Catalog, changes: Definitions) -> Catalog | None:
    after = {key: catalog.get(key) for key in catalog} | dict(changes)
    try:
        return Catalog.of(made for made in after.values() if made)
    except DefinitionErrors:
        return None


def check_step(catalog: Catalog, changes: Definitions) -> tuple[Catalog, Update] | None:
    """Take a step both ways; None where it is refused."""
    world, found, expected = catalog.world, outcome(catalog, changes), anew(catalog, changes)
    assert catalog.world is world
    if isinstance(found, DefinitionErrors):
        assert expected is None, str(found)
        return None
    assert expected is not None
    changed, update = found
    assert changed.world == expected.world
    for table in ("hosts", "networks", "vms"):
        assert list(getattr(changed.world, table)) == list(getattr(expected.world, table)), "in order, too"
    assert set(changed.keys()) == set(expected.keys())
    assert all(changed.get(key) is expected.get(key) for key in changed)
    for table in ("vms", "hosts", "networks", "pools", "rules"):
        assert list(getattr(changed.world.placement, table)) == list(getattr(expected.world.placement, table))
    assert update == Update.between(world, changed.world)
    return changed, update


def play(history: list[list[Document | int]]) -> collections.Counter[str]:
    """Make one edit after the other; return how many were taken, and how many refused."""
    seen: collections.Counter[str] = collections.Counter()
    catalog = Catalog.of(stored(*BASE))
    for revision, edit in enumerate(history, 42):
        taken = check_step(catalog, changes_of(catalog, edit, revision))
        seen["taken" if taken else "refused"] += 1
        if taken:
            catalog = taken[0]
    return seen


HISTORIES = st.lists(edits(), min_size=1, max_size=8)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(HISTORIES)
def test_what_is_changed_bit_by_bit_is_what_is_read_at_once(history: list[list[Document | int]]) -> None:
    play(history)


def test_many_edits_are_taken_and_many_are_refused() -> None:
    seen: collections.Counter[str] = collections.Counter()

    @settings(
        max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(HISTORIES)
    def look(history: list[list[Document | int]]) -> None:
        seen.update(play(history))

    look()
    assert min(seen["taken"], seen["refused"]) > 0.1 * seen.total(), seen


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(histories(), histories(worlds())))
def test_worlds_that_change_bit_by_bit(history: History) -> None:
    catalog = Catalog.of(())
    for world in history.worlds:
        read_all = read_files(written(world))
        wished = {Key.of(made.resource): made for made in read_all}
        changes = {
            key: wished.get(key)
            for key in {*wished, *catalog.keys()}
            if (was := catalog.get(key)) is None or key not in wished or was.body != wished[key].body
        }
        before = catalog.world
        catalog, update = catalog.changed(changes)
        assert catalog.world == world
        assert update == Update.between(before, world)


# One by one


REFUSED = {
    "a network that is used goes": ({Key("Network", "/acme:front"): None}, "revision 41: VirtualMachine /acme:db: spec.vnics[0].network: there is no network 'front' in /acme or above"),
    "a service that is used goes": ({Key("Service", "/acme:sql"): None}, "there is no service 'sql' in /acme/shop or above"),
    "a tenant goes, and its things stay": ({Key("Tenant", "globex"): None}, "revision 41: VirtualMachine /globex:web: metadata.scope: no Tenant declares the scope /globex"),
    "a scope that a policy is about goes": (read(document("Tenant", "acme", applications=[{"name": "shop"}])), "Policy /:all: spec.subject.scope: no Tenant declares the scope /acme/lab"),
    "a host that is expected to run VMs goes": ({Key("Host", "alpha"): None}, "there is no host 'alpha'"),
    "a service loses its selector": (read(document("Service", "sql", "/acme", ports=["tcp/1"])), "the service /acme:sql has no selector"),
    "a host that is in a pool goes": ({Key("Host", "beta"): None}, "revision 41: Pool west: spec.hosts[0]: there is no host 'beta'"),
    "a host that is in another pool": (read(document("Pool", "east", hosts=["beta"])), "new.yaml:1: Pool east: spec.hosts[0]: host beta is taken already, by Pool west at revision 41"),
    "a scope whose VMs are kept apart goes": (read(document("Tenant", "acme", applications=[{"name": "shop"}])), "PlacementRule apart: spec.keepApart.scope: no Tenant declares the scope /acme/lab"),
    "an image that a VM boots from goes": ({Key("Image", "alpine"): None}, "revision 41: VirtualMachine /acme/shop:web: spec.images[0]: there is no image 'alpine'"),
    "a second site": (read(document("Site", "second")), "new.yaml:1: Site second: there can be only one Site: the first is at revision 41"),
    "a MAC address that another VM has": (
        read(document("VirtualMachine", "new", "/acme", vnics=[vnic(2) | {"addresses": ["10.0.0.9"]}])),
        "new.yaml:1: VirtualMachine /acme:new: spec.vnics[0].mac: MAC address 52:54:00:00:00:02 is taken already, by VirtualMachine /acme:db at revision 41",
    ),
    "an address that a nearer network brings into another domain": (
        read(document("Network", "front", "/acme/shop", subnets=["10.0.0.0/24"], routingDomain="globex")),
        "overlaps 10.0.0.0/24 of Network /globex:front in the routing domain 'globex'",
    ),
    "somebody comes to hold what another may use": (
        read(document("VirtualMachine", "router", "/acme", vnics=[vnic(7, allowedAddresses=[{"prefix": "10.0.0.0/29"}])])),
        "10.0.0.0/29 contains 10.0.0.1, which /acme/shop:web/eth0 holds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_contradicts_what_is_in_force_is_refused_in_its_own_words(name: str) -> None:
    changes, message = REFUSED[name]
    catalog = Catalog.of(stored(*BASE))
    found = outcome(catalog, changes)
    assert isinstance(found, DefinitionErrors)
    assert message in str(found)
    assert anew(catalog, changes) is None


def test_who_comes_to_hold_what_another_may_use_is_refused_later_too() -> None:
    router = document(
        "VirtualMachine", "router", "/acme", vnics=[vnic(7, allowedAddresses=[{"prefix": "10.0.0.128/25"}])]
    )
    catalog, _ = Catalog.of(stored(*BASE)).changed(read(router))
    with pytest.raises(DefinitionErrors, match=r"10.0.0.128/25 contains 10.0.0.200, which /acme:new/eth0 holds"):
        catalog.changed(
            read(document("VirtualMachine", "new", "/acme", vnics=[vnic(9) | {"addresses": ["10.0.0.200"]}]))
        )


def test_two_vms_swap_what_only_one_can_have() -> None:
    catalog = Catalog.of(stored(*BASE))
    web, db = (
        document("VirtualMachine", "web", "/acme/shop", vnics=[vnic(2)]),
        document("VirtualMachine", "db", "/acme", vnics=[vnic(1)]),
    )
    taken = check_step(catalog, read(web, db))
    assert taken
    assert set(taken[1].vms) == {"/acme/shop:web", "/acme:db"}


def test_a_nearer_network_is_found_at_once() -> None:
    catalog = Catalog.of(stored(*BASE))
    near = read(document("Network", "front", "/acme/shop", subnets=["10.0.0.0/24"], routingDomain="own"))
    taken = check_step(catalog, near)
    assert taken
    changed, update = taken
    assert set(update.vms) == {"/acme/shop:web"}
    assert set(update.policies) == {"/acme/shop:web"}
    assert changed.world.vms["/acme/shop:web"].vnics[0].network.path == "/acme/shop:front"


def test_modes_come_down() -> None:
    catalog = Catalog.of(stored(*BASE))
    assert catalog.world.vms["/acme:db"].mode is Mode.OBSERVE
    changed, update = catalog.changed(
        read(document("Tenant", "acme", mode="isolate", applications=[{"name": "shop"}, {"name": "lab"}]))
    )
    assert {path: vm and vm.mode for path, vm in update.vms.items()} == dict.fromkeys(
        ("/acme:db", "/acme/shop:web"), Mode.ISOLATE
    )
    changed, update = changed.changed({Key("Site", "site"): None})
    assert update == Update(last_word=None, quarantine=())
    changed, update = changed.changed(read(BASE[1]))
    assert changed.world.vms["/acme:db"].mode is Mode.ENFORCE
    _, update = changed.changed(read(document("Site", "site", defaults={"egress": "Deny"})))
    assert update == Update(last_word={Direction.INGRESS: Action.DENY, Direction.EGRESS: Action.DENY})


def test_where_vms_may_run_is_nothing_to_the_compiler() -> None:
    catalog = Catalog.of(stored(*BASE))
    edits = read(
        document("Host", "alpha", tags=["silver"]),
        document("Network", "front", "/acme", subnets=["10.0.0.0/24"], tags=["gold"]),
        document("VirtualMachine", "db", "/acme", host="beta", vnics=[vnic(2)], tags=["gold"], memory=64),
        document("Pool", "west", hosts=["alpha", "beta"]),
        document("PlacementRule", "apart", exclusive="gold"),
    )
    taken = check_step(catalog, {**edits, Key("PlacementRule", "pci"): None})
    assert taken
    changed, update = taken
    assert update == Update()
    assert changed.world.vms is catalog.world.vms
    terms = changed.world.placement
    assert terms.vms["/acme:db"] == Needs(tags=frozenset({"gold"}), memory=64)
    assert (terms.hosts, terms.networks) == ({"alpha": {"silver"}}, {"/acme:front": {"gold"}})
    assert (terms.pools["west"].hosts, list(terms.rules)) == ({"alpha", "beta"}, ["apart"])
    bare, update = changed.changed(read(document("VirtualMachine", "db", "/acme", host="beta", vnics=[vnic(2)])))
    assert update == Update()
    assert "/acme:db" not in bare.world.placement.vms
    later, _ = bare.changed(read(document("Service", "more", "/acme", ports=["tcp/1"])))
    assert later.world.placement is bare.world.placement


def test_what_is_not_there_goes_without_a_word() -> None:
    catalog = Catalog.of(stored(*BASE))
    changed, update = catalog.changed({Key("Policy", "/acme:none"): None})
    assert (changed.world, update) == (catalog.world, Update())
    assert len(changed) == len(catalog) == len(BASE)


def test_one_name_twice() -> None:
    with pytest.raises(DefinitionErrors, match=r"Host alpha: metadata.name: is defined already, at revision 41"):
        Catalog.of([*stored(*BASE), *stored(document("Host", "alpha"), revision=42)])


def test_nothing_makes_an_empty_world() -> None:
    assert Catalog.of(()).world == World()


# What is kept


def test_what_was_kept_is_what_was_written() -> None:
    for key, made in read(*BASE).items():
        again = read_stored(key, made.body, 7)
        assert (again.resource, again.body, again.place) == (made.resource, made.body, "revision 7")
        assert made.body == json.dumps(json.loads(made.body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("key", "body", "message"),
    [
        (Key("Gadget", "x"), "{}", "revision 7: Gadget x: is of a kind that this version does not know"),
        (Key("Host", "x"), "{", "revision 7: Host x: "),
        (Key("Host", "x"), '{"apiVersion":"serai.dev/v1","kind":"Host","metadata":{"name":"y"}}', "calls itself Host y"),
        (Key("Host", "x"), '{"apiVersion":"serai.dev/v1","kind":"Host","metadata":{"name":"x"},"more":1}', "revision 7: Host x: more: "),
    ],
)  # fmt: skip
def test_what_was_kept_and_is_no_resource_any_more(key: Key, body: str, message: str) -> None:
    with pytest.raises(DefinitionErrors) as caught:
        read_stored(key, body, 7)
    assert message in str(caught.value)


def test_names_of_resources() -> None:
    assert str(Key("Policy", "/acme/shop:web")) == "Policy /acme/shop:web"
    assert Key("Policy", "/acme/shop:web").scope == "/acme/shop"
    assert Key("Policy", "/:web").scope == Key("Host", "alpha").scope == "/"


# Tables that never change


@given(st.lists(st.dictionaries(st.integers(0, 5000), st.none() | st.integers(), max_size=20), max_size=6))
def test_buckets_are_a_dictionary(changes: list[dict[int, int | None]]) -> None:
    table, expected, past = Buckets[int, int](), dict[int, int](), []
    for change in changes:
        past.append((table, dict(expected)))
        table = table.changed(change)
        expected = {key: value for key, value in {**expected, **change}.items() if value is not None}
        past.append((table, dict(expected)))
    for table, expected in past:
        assert all(table.get(key) == expected.get(key) for change in changes for key in change)


def test_an_index_forgets_what_goes() -> None:
    index = Index[str, int]().changed([], [("a", 1), ("a", 2), ("b", 1)])
    later = index.changed([("a", 1), ("b", 1), ("c", 3)], [("c", 4)])
    assert [later.get(key) for key in "abc"] == [{2}, frozenset(), {4}]
    assert [index.get(key) for key in "abc"] == [{1, 2}, {1}, frozenset()]
