"""The decoder as a whole: no input gets a traceback out of it, and no order matters to it."""

import random
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serai.inventory.files import read_directory
from serai.model.decode import decode
from serai.model.definitions import DefinitionErrors
from serai.model.inventory import AllowedAddress, Mac, PortSecurity, Serves
from serai.model.policy import Clause, Direction, Group, PortRange, RuleRef
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

EXAMPLE = read_directory(Path(__file__).parents[3] / "examples/datacenter")
FRAGMENTS = [
    "---\n", "&a ", "*a", "!!str ", "~", "{", "}", "[", "]", "? ", ": ", "- ", "'", '"', "|\n", ">\n",
    "%YAML 1.1\n", "<<: ", "1.10", "no", "true", ".inf", "-.INF", "1e999", "9" * 5000, "0x1F", "\t", "\x00",
    "\ud800", "\udcff", "\ufeff", "\u2028", '"\\ud800"', "/acme:", "scope: /x", "kind: Policy", "null", "[]",
    "{}", "\n  ", "\r",
]  # fmt: skip


def outcome(files: dict[str, str]) -> World | DefinitionErrors:
    try:
        return decode(files)
    except DefinitionErrors as errors:
        return errors


def check_outcome(files: dict[str, str]) -> None:
    result = outcome(files)
    if isinstance(result, DefinitionErrors):
        assert result.errors
        for error in result.errors:
            assert error.file in files
            assert error.line >= 1
            assert error.message
            assert str(error).isprintable()


@given(st.dictionaries(st.sampled_from(["a.yaml", "b.yaml"]), st.text()))
def test_no_text_gets_a_traceback(files: dict[str, str]) -> None:
    check_outcome(files)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    file=st.sampled_from(sorted(EXAMPLE)),
    cuts=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 12),
            st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_damage_gets_a_traceback(file: str, cuts: list[tuple[float, int, str]]) -> None:
    text = EXAMPLE[file]
    for where, length, instead in cuts:
        start = int(where * len(text))
        text = text[:start] + instead + text[start + length :]
    check_outcome({**EXAMPLE, file: text})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    kind=st.sampled_from(["Site", "Tenant", "Network", "Host", "VirtualMachine", "Service", "Policy"]),
    field=st.sampled_from(["spec", "metadata", "kind", "apiVersion"]),
    value=plain,
)
def test_no_value_in_the_wrong_place_gets_a_traceback(kind: str, field: str, value: object) -> None:
    document = {
        "apiVersion": "serai.dev/v1",
        "kind": kind,
        "metadata": {"name": "a", "scope": "/"},
        "spec": {},
    }
    check_outcome({"a.yaml": repr({**document, field: value})})


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_neither_the_order_of_resources_nor_their_files_matter(order: random.Random) -> None:
    documents = [part for text in EXAMPLE.values() for part in text.split("---\n")]
    order.shuffle(documents)
    files: dict[str, str] = {}
    for document in documents:
        name = f"{order.randrange(4)}.yaml"
        files[name] = f"{files[name]}---\n{document}" if name in files else document
    assert decode(files) == decode(EXAMPLE)


def test_nothing_is_an_empty_world() -> None:
    assert decode({}) == World()
    assert decode({"a.yaml": "", "b.yaml": "# nothing yet\n---\n---\n"}) == World()


def test_the_example_reads_as_it_is_meant() -> None:
    world = decode(EXAMPLE)
    web = world.vms["/acme/shop:web"]
    assert (web.host, web.domain, web.mode) == ("a", "acme-web", Mode.ENFORCE)
    assert world.networks["/globex:front"].routing_domain == "globex"
    app = next(p for p in world.policies if (p.scope, p.name) == ("/globex/crm", "app"))
    [to_database] = app.rules[Direction.EGRESS]
    assert to_database.ref == RuleRef("/globex/crm:app/egress/to-database")
    [clause] = to_database.clauses
    assert isinstance(clause.peer, Group)
    assert clause == Clause(
        peer=Group(scope=Scope("/globex/crm"), expressions=clause.peer.expressions),
        ports=(PortRange(protocol=6, first=5432, last=5432),),
    )


VM = """
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: t}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: n, scope: /t}
spec: {subnets: ["2001:db8::/64", 10.0.0.0/24, "2001:db8:0:1::/127"]}
---
apiVersion: serai.dev/v1
kind: Site
metadata: {name: s}
spec: {quarantine: {allow: ["2001:db8::/32", 10.0.0.0/8, "::/0", 10.0.0.0/8, 0.0.0.0/0]}}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: v, scope: /t}
spec:
  vnics:
    - network: n
      mac: "52:54:00:00:00:01"
      addresses: [10.0.0.1, "2001:DB8::ffff:ffff:ffff:ffff", "2001:db8:0:1::"]
      allowedAddresses:
        - {prefix: "2001:db8:7::/48"}
        - {prefix: 10.0.0.100, mac: "00:00:5E:00:01:01"}
        - {prefix: 10.0.0.100/32, mac: "00:00:5e:00:01:01"}
        - {prefix: 10.0.0.100, mac: "52:54:00:00:00:01"}
        - {prefix: 10.0.0.100}
        - {prefix: "fe80::100", mac: "00:00:5e:00:02:01"}
      serves: [router, dhcp, router]
      tunnels: true
      ethertypes: ["0x88CC", 0x88cc, 35045, 0x88b5, "0x600"]
      maxFlows: 64
      newFlowsPerSecond: 1000000
"""


def test_what_a_vnic_may_do_has_one_form() -> None:
    (vnic,) = decode({"a.yaml": VM}).vms["/t:v"].vnics
    vrrp = Mac("00:00:5e:00:01:01")
    assert vnic.security == PortSecurity(
        allowed=(
            AllowedAddress(prefix=ip_network("10.0.0.100/32")),
            AllowedAddress(prefix=ip_network("10.0.0.100/32"), mac=vrrp),
            AllowedAddress(prefix=ip_network("2001:db8:7::/48")),
            AllowedAddress(prefix=ip_network("fe80::100/128"), mac=Mac("00:00:5e:00:02:01")),
        ),
        serves=frozenset(Serves), tunnels=True, ethertypes=(0x600, 0x88B5, 0x88CC, 0x88E5), max_flows=64,
        new_flows_per_second=1_000_000,
    )  # fmt: skip
    assert [str(address) for address in vnic.held] == [
        "10.0.0.1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", "fe80::5054:ff:fe00:1",
    ]  # fmt: skip


def test_the_quarantine_has_one_form() -> None:
    assert [str(prefix) for prefix in decode({"a.yaml": VM}).quarantine] == [
        "::/0", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("site", "tenant", "application", "vm", "expected"),
    [
        ("", "", "", "", Mode.ENFORCE),
        ("observe", "", "", "", Mode.OBSERVE),
        ("isolate", "", "", "", Mode.ISOLATE),
        ("enforce", "", "isolate", "", Mode.ISOLATE),
        ("isolate", "", "isolate", "observe", Mode.OBSERVE),
        ("observe", "enforce", "", "", Mode.ENFORCE),
        ("enforce", "enforce", "observe", "", Mode.OBSERVE),
        ("observe", "observe", "observe", "enforce", Mode.ENFORCE),
    ],
)
def test_the_nearest_mode_counts(site: str, tenant: str, application: str, vm: str, expected: Mode) -> None:
    def mode(value: str) -> str:
        return f", mode: {value}" if value else ""

    text = f"""
{{apiVersion: serai.dev/v1, kind: Site, metadata: {{name: s}}, spec: {{defaults: {{}}{mode(site)}}}}}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {{name: t}}
spec: {{applications: [{{name: a{mode(application)}}}]{mode(tenant)}}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {{name: n, scope: /t}}
spec: {{subnets: [10.0.0.0/24]}}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {{name: v, scope: /t/a}}
spec: {{vnics: [{{network: n, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}}]{mode(vm)}}}
"""
    machine = decode({"a.yaml": text}).vms["/t/a:v"]
    assert machine.mode is expected
    assert machine.domain == "v"
