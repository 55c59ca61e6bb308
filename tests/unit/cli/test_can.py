"""``serai can`` on the example data center, against a table of answers written by hand."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serai.cli.main import main

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"

A = "/acme/shop:"
G = "/globex/crm:"
USERS = "10.0.0.250"


def can(*question: str) -> Result:
    result = CliRunner().invoke(main, ["can", str(EXAMPLE), *question])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize(
    ("source", "destination", "service", "egress", "ingress"),
    [
        # acme: users -> web -> app -> db, and nothing else
        (USERS, A + "web", "tcp/80", None, A + "web/ingress/from-users"),
        (USERS, A + "web", "tcp/7778", None, A + "web/ingress/from-users"),
        (USERS, A + "web", "tcp/443", None, "!unmatched/ingress"),
        ("10.0.0.251", A + "web", "tcp/80", None, "!unmatched/ingress"),
        (USERS, A + "app", "tcp/8080", None, "!unmatched/ingress"),
        (USERS, A + "db", "tcp/5432", None, "!unmatched/ingress"),
        (A + "web", A + "app", "tcp/8080", A + "web/egress/to-app", A + "app/ingress/from-web"),
        (A + "web", A + "app", "udp/8080", "!unmatched/egress", "!unmatched/ingress"),
        (A + "web", A + "db", "tcp/5432", "!unmatched/egress", "!unmatched/ingress"),
        (A + "app", A + "db", "tcp/5432", A + "app/egress/to-db", A + "db/ingress/from-app"),
        (A + "app", A + "web", "tcp/80", "!unmatched/egress", "!unmatched/ingress"),
        (A + "db", A + "app", "tcp/8080", "!unmatched/egress", "!unmatched/ingress"),
        (A + "db", USERS, "tcp/443", "!unmatched/egress", None),
        (A + "web", A + "app", "udp/53", "!unmatched/egress", "!unmatched/ingress"),
        # nobody uses telnet
        (USERS, A + "web", "tcp/23", None, "!/:ground-rules/ingress/no-telnet"),
        (A + "web", A + "app", "tcp/23", "!/:ground-rules/egress/no-telnet",
         "!/:ground-rules/ingress/no-telnet"),
        (G + "app", USERS, "tcp/23", "!/:ground-rules/egress/no-telnet", None),
        # ping is up to the tenants
        (A + "web", A + "app", "icmp", "!unmatched/egress", "!unmatched/ingress"),
        (USERS, A + "web", "icmp", None, "!unmatched/ingress"),
        (G + "web", G + "db", "icmp", "/globex:ground-rules/egress/ping-inside",
         "/globex:ground-rules/ingress/ping-inside"),
        (G + "db", G + "web", "icmp", "/globex:ground-rules/egress/ping-inside",
         "/globex:ground-rules/ingress/ping-inside"),
        (USERS, G + "web", "icmp", None, "!/globex:ground-rules/ingress/nobody-else"),
        (G + "web", USERS, "icmp", "!unmatched/egress", None),
        # globex: the same shape, written another way
        (USERS, G + "web", "tcp/80", None, G + "users/ingress/from-users"),
        (USERS, G + "web", "tcp/7778", None, G + "users/ingress/from-users"),
        (USERS, G + "web", "tcp/443", None, "!unmatched/ingress"),
        (USERS, G + "db", "tcp/5432", None, "!unmatched/ingress"),
        ("10.0.0.251", G + "web", "tcp/80", None, "!/globex:ground-rules/ingress/nobody-else"),
        (G + "web", G + "app", "tcp/8080", G + "users/egress/to-app", G + "app/ingress/from-web"),
        (G + "web", G + "db", "tcp/5432", "!unmatched/egress", "!unmatched/ingress"),
        (G + "app", G + "db", "tcp/5432", G + "app/egress/to-database", G + "database/ingress/from-app"),
        (G + "app", G + "db", "tcp/22", "!unmatched/egress", "!unmatched/ingress"),
        (G + "db", G + "app", "tcp/8080", "!unmatched/egress", "!unmatched/ingress"),
    ],
)  # fmt: skip
def test_the_example(source: str, destination: str, service: str, egress: str | None, ingress: str | None) -> None:
    result = can(source, destination, service, "--json")
    answer = json.loads(result.stdout)
    sides = {}
    for side in ("egress", "ingress"):
        said = answer[side]
        sides[side] = said and ("!" if said["action"] == "Deny" else "") + said["rule"]
    assert sides == {"egress": egress, "ingress": ingress}
    denied = any(side and side.startswith("!") for side in (egress, ingress))
    assert answer["allowed"] is not denied
    assert answer["verdict"] == ("Deny" if denied else "Accept")
    assert result.exit_code == int(denied)
    assert can(source, destination, service).stdout.startswith("No: " if denied else "Yes: ")


def test_the_answer_is_in_plain_sentences() -> None:
    assert can(A + "web", A + "app", "tcp/8080").stdout == (
        "Yes: /acme/shop:web (10.0.0.11) can open tcp/8080 to /acme/shop:app (10.0.0.12).\n"
        "  Leaving /acme/shop:web (10.0.0.11): accepted by the rule /acme/shop:web/egress/to-app "
        "(Tenant tier, level /acme/shop).\n"
        "  Entering /acme/shop:app (10.0.0.12): accepted by the rule /acme/shop:app/ingress/from-web "
        "(Tenant tier, level /acme/shop).\n"
        "  With the staged policies in force, leaving: denied by the rule "
        "/acme/shop:close-web/egress/nothing-out (Tenant tier, level /acme/shop).\n"
    )


def test_what_was_passed_over_is_told_on_request() -> None:
    assert can(G + "web", G + "app", "tcp/8080", "--explain").stdout == (
        "Yes: /globex/crm:web (10.0.0.11) can open tcp/8080 to /globex/crm:app (10.0.0.12).\n"
        "  Leaving /globex/crm:web (10.0.0.11): accepted by the rule /globex/crm:users/egress/to-app "
        "(Tenant tier, level /globex/crm).\n"
        "    /:ground-rules/egress/no-telnet:             other ports (tcp/23)\n"
        "    /:ground-rules/egress/ping-is-up-to-tenants: other ports (icmp/8)\n"
        "    /globex:ground-rules/egress/ping-inside:     other ports (icmp/8)\n"
        "    Baseline tier:                               not asked: a tier before it decided\n"
        "  Entering /globex/crm:app (10.0.0.12): accepted by the rule /globex/crm:app/ingress/from-web "
        "(Tenant tier, level /globex/crm), after Pass by /globex:ground-rules/ingress/inside-asks-the-application.\n"
        "    /:ground-rules/ingress/no-telnet:                         other ports (tcp/23)\n"
        "    /:ground-rules/ingress/ping-is-up-to-tenants:             other ports (icmp/8)\n"
        "    /globex:ground-rules/ingress/ping-inside:                 other ports (icmp/8)\n"
        "    /globex:ground-rules/ingress/users-ask-the-application:   other peers\n"
        "    /globex:ground-rules/ingress/inside-asks-the-application: Pass: went on at the next level\n"
        "    /globex:ground-rules/ingress/nobody-else:                 not asked: the Pass before it left their level\n"
        "    Baseline tier:                                            not asked: a tier before it decided\n"
    )
    staged = can(A + "web", A + "app", "tcp/8080", "-v").stdout
    assert "    /acme/shop:close-web/egress/nothing-out:     staged\n" in staged
    below = staged.partition("With the staged policies in force, leaving: ")[2]
    assert "/:ground-rules/egress/no-telnet:" in below
    assert "staged" not in below


def test_a_program_is_told_what_was_passed_over() -> None:
    answer = json.loads(can(A + "web", A + "app", "tcp/8080", "--json").stdout)
    assert answer["egress"]["passedOver"] == [
        {"rule": "/:ground-rules/egress/no-telnet", "why": "other-ports", "ports": ["tcp/23"]},
        {"rule": "/:ground-rules/egress/ping-is-up-to-tenants", "why": "other-ports", "ports": ["icmp/8"]},
        {"rule": "/acme/shop:close-web/egress/nothing-out", "why": "staged"},
    ]
    assert answer["egress"]["notAsked"] == [{"tier": "Baseline", "why": "decided"}]
    assert answer["staged"]["egress"]["passedOver"] == answer["egress"]["passedOver"][:2]
    left = json.loads(can(G + "web", G + "app", "tcp/8080", "--json").stdout)["ingress"]["passedOver"][-1]
    assert left == {
        "rule": "/globex:ground-rules/ingress/nobody-else",
        "why": "level-left",
        "by": "/globex:ground-rules/ingress/inside-asks-the-application",
    }


def test_tenants_with_the_same_addresses_cannot_meet() -> None:
    result = can(A + "web", G + "web", "tcp/80")
    assert result.exit_code == 1
    assert "no routing domain holds both" in result.stdout
    assert json.loads(can(A + "web", G + "web", "tcp/80", "--json").stdout)["allowed"] is False


def test_what_is_observed_passes(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    provider = tmp_path / "provider.yaml"
    provider.write_text(provider.read_text().replace("mode: enforce", "mode: observe"))
    result = CliRunner().invoke(main, ["can", str(tmp_path), USERS, A + "db", "tcp/5432"])
    assert result.exit_code == 0
    assert "observe mode" in result.stdout


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (
            ("web", G + "app", "tcp/80"),
            "'web' may mean /acme/shop:web or /globex/crm:web: write the full path",
        ),
        ((A + "wbe", USERS, "tcp/80"), "there is no VM '/acme/shop:wbe'; did you mean '/acme/shop:web'?"),
        (("/acme/shop", USERS, "tcp/80"), "'/acme/shop' is no VM: write its scope, a colon and its name"),
        ((A + "web/eth7", USERS, "tcp/80"), "/acme/shop:web has no vNIC 'eth7'; it has eth0"),
        ((USERS, "10.0.0.1", "tcp/80"), "two addresses do not tell a routing domain"),
        ((A + "web", USERS, "tcp"), "'tcp' is more than one port"),
        ((A + "web", USERS, "132"), "'132' is more than one port: ask about one, such as sctp/443"),
        ((A + "web", USERS, "icmpv6"), "have no IPv6 address each, which this protocol needs: ask icmp"),
        ((A + "web", USERS, "icmpv6/135"), "gates guard how neighbors find each other"),
        ((A + "web", USERS, "icmpv6/1"), "'icmpv6/1' opens no connection"),
        ((A + "web", "::ffff:10.0.0.250", "tcp/80"), "is an IPv4 address in disguise: write 10.0.0.250"),
        ((A + "web", USERS, "tcp/1-9"), "'tcp/1-9' is more than one port"),
        ((A + "web", USERS, "any"), "'any' is not one port"),
        ((A + "web", USERS, "https"), "'https' is not one port"),
        ((A + "web", USERS, "tcp/x"), "'tcp/x' is not a port"),
        ((A + "web", USERS, "icmp/3.4"), "'icmp/3.4' opens no connection"),
    ],
)
def test_bad_questions_get_a_sentence_and_status_2(question: tuple[str, ...], sentence: str) -> None:
    result = can(*question)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_errors_in_the_files_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Host\n---\nkind: Hots\n")
    result = CliRunner().invoke(main, ["can", str(tmp_path), "a", "b", "tcp/1"])
    assert result.exit_code == 2
    assert "a.yaml:1: Host: apiVersion: is required (and 2 more: run `serai check`)" in result.stderr


TWO_NICS = """
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: t}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: left, scope: /t}
spec: {subnets: [10.1.0.0/24]}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: right, scope: /t}
spec: {subnets: [10.2.0.0/24]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: router, scope: /t}
spec:
  vnics:
    - {name: eth0, network: left, mac: "52:54:00:00:00:01", addresses: [10.1.0.1]}
    - {name: eth1, network: right, mac: "52:54:00:00:00:02", addresses: [10.2.0.1]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: leaf, scope: /t}
spec:
  vnics: [{network: right, mac: "52:54:00:00:00:03", addresses: [10.2.0.3]}]
"""


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("router", "leaf", "/t:router/eth1 (10.2.0.1)"),
        ("router", "10.1.0.9", "/t:router/eth0 (10.1.0.1)"),
        ("router/eth0", "leaf", "/t:router/eth0 (10.1.0.1)"),
        ("/t:router/eth1", "192.0.2.1", "/t:router/eth1 (10.2.0.1)"),
        ("router", "192.0.2.1", "write /t:router/eth0 or /t:router/eth1"),
    ],
)
def test_the_vnic_is_the_one_that_faces_the_other_end(
    tmp_path: Path, source: str, destination: str, expected: str
) -> None:
    (tmp_path / "a.yaml").write_text(TWO_NICS)
    result = CliRunner().invoke(main, ["can", str(tmp_path), source, destination, "tcp/80"])
    assert expected in result.output


BOTH = """
{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: t}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: n, scope: /t}
spec: {subnets: [10.0.0.0/24, "2001:db8::/64"]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: a, scope: /t}
spec:
  vnics: [{network: n, mac: "52:54:00:00:00:01", addresses: ["fe80::1", "2001:db8::1", 10.0.0.1, 10.0.0.11]}]
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: b, scope: /t}
spec:
  mode: MODE
  vnics: [{network: n, mac: "52:54:00:00:00:02", addresses: [10.0.0.2, "2001:db8::2"], tunnels: true}]
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: four, scope: /t}
spec:
  vnics: [{network: n, mac: "52:54:00:00:00:03", addresses: [10.0.0.3]}]
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: six, scope: /t}
spec:
  vnics: [{network: n, mac: "52:54:00:00:00:04", addresses: ["2001:db8::4"]}]
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: link, scope: /t}
spec:
  vnics: [{network: n, mac: "52:54:00:00:00:05", addresses: ["fe80::5"]}]
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {name: p, scope: /t}
spec:
  tier: Tenant
  ingress:
    - {name: any, action: Accept, ports: [tcp/1, 47, udp/4789]}
    - {name: four, action: Accept, from: [{cidr: 0.0.0.0/0}], ports: [tcp/4, tcp/46]}
    - {name: six, action: Accept, from: [{cidr: "::/0"}], ports: [tcp/6, tcp/46, icmpv6/128]}
"""


def ask(tmp_path: Path, *question: str, mode: str = "enforce") -> Result:
    (tmp_path / "a.yaml").write_text(BOTH.replace("MODE", mode))
    return CliRunner().invoke(main, ["can", str(tmp_path), *question])


YES, NO, ONLY_4, ONLY_6 = "Yes: ", "No: ", "Yes, but over IPv4 only:\n", "Yes, but over IPv6 only:\n"


@pytest.mark.parametrize(
    ("source", "destination", "service", "begin", "ends"),
    [
        ("a", "b", "tcp/1", YES, "/t:a (10.0.0.1, 2001:db8::1) can open tcp/1 to /t:b (10.0.0.2, 2001:db8::2)"),
        ("a", "b", "tcp/2", NO, "/t:a (10.0.0.1, 2001:db8::1) cannot open tcp/2 to /t:b (10.0.0.2, 2001:db8::2)"),
        ("a", "b", "tcp/4", ONLY_4, "/t:a (2001:db8::1) cannot open tcp/4 to /t:b (2001:db8::2)"),
        ("a", "b", "tcp/6", ONLY_6, "/t:a (10.0.0.1) cannot open tcp/6 to /t:b (10.0.0.2)"),
        ("a", "b", "tcp/46", "Yes, over IPv4 and IPv6 by different rules:\n", "/t:a (2001:db8::1) can open tcp/46"),
        ("a", "10.0.0.2", "tcp/6", NO, "/t:a (10.0.0.1) cannot open tcp/6 to /t:b (10.0.0.2)"),
        ("2001:db8::99", "b", "tcp/6", YES, "2001:db8::99 can open tcp/6 to /t:b (2001:db8::2)"),
        ("10.0.0.11", "b", "tcp/4", YES, "/t:a (10.0.0.11) can open tcp/4 to /t:b (10.0.0.2)"),
        ("a", "four", "tcp/6", NO, "/t:a (10.0.0.1) cannot open tcp/6 to /t:four (10.0.0.3)"),
        ("a", "six", "tcp/6", YES, "/t:a (2001:db8::1) can open tcp/6 to /t:six (2001:db8::4)"),
        ("a", "link", "tcp/6", YES, "/t:a (fe80::1) can open tcp/6 to /t:link (fe80::5)"),
        ("b", "fe80::5", "tcp/6", YES, "/t:b (fe80::5054:ff:fe00:2) can open tcp/6 to /t:link (fe80::5)"),
        ("four", "six", "tcp/1", NO, "no kind of address in common: one has 10.0.0.3, the other 2001:db8::4"),
        ("link", "2001:db8::4", "tcp/1", NO, "no kind of address in common"),
        ("four", "2001:db8::4", "tcp/1", NO, "no kind of address in common"),
        # ICMP is of one version, ICMPv6 of the other
        ("a", "b", "icmp", NO, "/t:a (10.0.0.1) cannot open icmp to /t:b (10.0.0.2)"),
        ("a", "b", "icmpv6", YES, "/t:a (2001:db8::1) can open icmpv6 to /t:b (2001:db8::2)"),
        ("a", "b", "58", YES, "/t:a (2001:db8::1) can open 58 to /t:b (2001:db8::2)"),
        # whatever policies say, tunnels need leave
        ("a", "b", "47", NO, "drops it before any policy is asked: a tunnel's packet from a vNIC that may not tunnel"),
        ("a", "four", "udp/4789", NO, "drops it before any policy is asked"),
        ("b", "a", "47", YES, "/t:b (10.0.0.2, 2001:db8::2) can open 47"),
        ("10.0.0.99", "a", "47", YES, "10.0.0.99 can open 47 to /t:a (10.0.0.1)"),
    ],
)  # fmt: skip
def test_both_versions_are_judged(  # noqa: PLR0917 (a row of a table)
    tmp_path: Path, source: str, destination: str, service: str, begin: str, ends: str
) -> None:
    result = ask(tmp_path, source, destination, service)
    assert result.stdout.startswith(begin)
    assert ends in result.stdout
    assert result.exit_code == (1 if begin == NO else 0)


def test_rules_that_nearly_accept_one_version(tmp_path: Path) -> None:
    shown = ask(tmp_path, "a", "b", "tcp/2").stdout
    assert "Nearest rule over IPv4 for ingress: /t:p/ingress/four accepts this peer on tcp/4, tcp/46." in shown
    assert "Nearest rule over IPv6 for ingress: /t:p/ingress/six accepts this peer on tcp/6" in shown
    assert "Nearest rule for ingress: /t:p/ingress/any accepts this peer on tcp/1" in shown


def test_what_was_passed_over_is_told_by_version_where_it_differs(tmp_path: Path) -> None:
    shown = ask(tmp_path, "a", "b", "tcp/2", "-v").stdout
    assert shown.count("/t:p/ingress/any:") == 2
    over_4, _, over_6 = shown.partition("    Over IPv4:\n")[2].partition("    Over IPv6:\n")
    assert over_4.startswith(
        "    /t:p/ingress/any:  other ports (tcp/1, 47, udp/4789)\n"
        "    /t:p/ingress/four: other ports (tcp/4, tcp/46)\n"
        "    /t:p/ingress/six:  other peers and ports\n"
    )
    assert "    /t:p/ingress/four: other peers and ports\n" in over_6
    assert "Over IPv" not in ask(tmp_path, "a", "b", "tcp/1", "-v").stdout
    isolated = ask(tmp_path, "a", "b", "tcp/1", "-v", mode="isolate").stdout
    assert "    Tenant tier: not asked: the VM is isolated\n" in isolated


def test_a_program_gets_every_version(tmp_path: Path) -> None:
    answer = json.loads(ask(tmp_path, "a", "b", "tcp/6", "--json").stdout)
    assert [(c["version"], c["allowed"], c["source"]["address"]) for c in answer["connections"]] == [
        (4, False, "10.0.0.1"), (6, True, "2001:db8::1"),
    ]  # fmt: skip
    assert (answer["allowed"], answer["version"], answer["ingress"]["rule"]) == (True, 6, "/t:p/ingress/six")
    tunnel = json.loads(ask(tmp_path, "a", "b", "47", "--json").stdout)
    assert (tunnel["allowed"], tunnel["verdict"], tunnel["droppedFor"]) == (False, "Accept", "tunnel")


def test_an_isolated_vm_is_told_so(tmp_path: Path) -> None:
    result = ask(tmp_path, "a", "b", "tcp/1", mode="isolate")
    assert result.exit_code == 1
    assert (
        "denied: the VM is isolated, and the site's quarantine does not name the other end (isolated/ingress)"
        in result.stdout
    )
    assert "Nearest" not in result.stdout


def test_tunnels_of_a_vm_that_is_observed_pass(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BOTH.replace("MODE", "observe").replace(", tunnels: true", ""))
    result = CliRunner().invoke(main, ["can", str(tmp_path), "b", "a", "47"])
    assert result.stdout.startswith("Yes: ")
    assert "only because what is denied is not dropped in observe mode" in result.stdout
