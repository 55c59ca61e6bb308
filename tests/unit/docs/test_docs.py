"""What the pages say is what the code does."""

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pages import PAGES, ROOT, CommandLine, Fence, Page, command_lines
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serai.agent.config import Limits
from serai.cli.main import main
from serai.model import tunnels as tunnels_known
from serai.model.decode import decode
from serai.model.fields import ETHERTYPE_FIRST, ETHERTYPE_LAST, LONGEST_LINE
from serai.model.flow import IdleSeconds
from serai.model.inventory import ETHERTYPES, Serves
from serai.model.peers import PeerSpec
from serai.model.policy import Action, Operator, Tier
from serai.model.ports import parse_ports
from serai.model.reasons import Reason
from serai.model.resources import FLOWS, KINDS, MAX_PRIORITY, MAX_VNI, NEW_FLOWS, Resource, label
from serai.model.selectors import Selector
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.model.yaml_nodes import read_stream
from serai.policy.evaluate import judge
from serai.policy.questions.question import connections, parse_end, parse_service

README = Page.read("README.md")
POLICY = Page.read("docs/POLICY.md")
REASONS = Page.read("docs/REASONS.md")
WORLD = Path(__file__).parent / "world/world.yaml"

YAML = [*README.fences("yaml"), *POLICY.fences("yaml")]
COMMANDS = [command for page in PAGES for command in command_lines(page)]
SHOWN = [command for command in COMMANDS if command.output]
TABLES = {**KINDS, "Selectors": Selector, "Peers": PeerSpec}


def place(shown: Fence | CommandLine | Page) -> str:
    return shown.name if isinstance(shown, Page) else shown.place


# Blocks of YAML


def resources(text: str) -> list[Resource]:
    stream = read_stream(text)
    assert stream.fault is None
    assert stream.documents
    found = []
    for document in stream.documents:
        assert isinstance(document.data, dict)
        assert "kind" in document.data, "a block shows whole resources, which can be checked"
        found.append(KINDS[document.data["kind"]].model_validate_json(json.dumps(document.data)))
    return found


def identity(resource: Resource) -> str:
    return "Site" if resource.kind == "Site" else label(resource)


def world_with(text: str) -> World:
    """The fixture's world, in which the resources of ``text`` take the places of those of the same name."""
    ours = {identity(resource) for resource in resources(text)}
    parts = [part for part in WORLD.read_text().split("\n---\n") if identity(resources(part)[0]) not in ours]
    return decode({"world.yaml": "\n---\n".join(parts), "shown.yaml": text})


@pytest.mark.parametrize("fence", YAML, ids=place)
def test_resources_that_are_shown_are_sound(fence: Fence) -> None:
    if fence.note.startswith("from "):
        source = fence.note.removeprefix("from ")
        assert source.startswith("examples/")
        known = resources((ROOT / source).read_text())
        assert all(resource in known for resource in resources(fence.text))
    elif fence.note.startswith("file: "):  # it stands for itself
        assert decode({fence.note: fence.text}).policies
    else:
        assert world_with(fence.text)


def test_what_the_readme_takes_from_the_example_stands_there() -> None:
    known = {identity(r): r for file in ROOT.glob("examples/**/*.yaml") for r in resources(file.read_text())}
    shown = [resource for fence in README.fences("yaml") for resource in resources(fence.text)]
    assert shown
    for resource in shown:
        example = known[identity(resource)]
        assert resource.metadata == example.metadata
        # The example may say more, but nothing else.
        said = resource.spec.model_fields_set
        assert resource.spec.model_dump(include=said) == example.spec.model_dump(include=said)


# The language


def fields(part: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Go through the fields that a person can write, by path; those of shared parts stand in tables of their own."""
    for name, field in part.model_fields.items():
        path = f"{above}{field.alias or name}"
        inner, many = inner_part(field.annotation)
        if inner is None or inner in {Selector, PeerSpec}:
            yield path, field
        elif many:
            yield path, field
            yield from fields(inner, f"{path}[].")
        else:
            yield from fields(inner, f"{path}.")


def inner_part(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = typing.get_origin(annotation) is tuple
    for argument in typing.get_args(annotation):
        inner, nested = inner_part(argument)
        if inner:
            return inner, many or nested
    return None, False


def described(heading: str) -> dict[str, list[str]]:
    """The rows of the table of fields below a heading, by field."""
    return {row[0].strip("`"): row for row in POLICY.section(heading).rows() if len(row) == 4}


@pytest.mark.parametrize("heading", TABLES)
def test_every_field_is_described_and_no_other(heading: str) -> None:
    known = [path for path, _ in fields(TABLES[heading]) if path not in {"apiVersion", "kind"}]
    assert sorted(described(heading)) == sorted(known)


@pytest.mark.parametrize("heading", TABLES)
def test_defaults_are_those_of_the_code(heading: str) -> None:
    rows = described(heading)
    for path, field in fields(TABLES[heading]):
        if path in {"apiVersion", "kind"}:
            continue
        default = rows[path][2]
        assert (default == "required") == field.is_required(), path
        if isinstance(field.default, bool | int | str):
            written = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert f"`{written}`" in default, path


def test_what_all_resources_have_is_described() -> None:
    rows = {row[0]: row[1] for row in POLICY.section("Files").rows()}
    assert list(rows) == ["`apiVersion`", "`kind`", "`metadata`", "`spec`"]
    assert re.findall("`(.*?)`", rows["`kind`"]) == list(KINDS)
    optional = [kind for kind, model in KINDS.items() if not model.model_fields["spec"].is_required()]
    assert re.findall("`(.*?)`", rows["`spec`"]) == optional


def test_every_word_of_a_choice_is_described() -> None:
    words = {word.value for choice in (Tier, Action, Operator, Mode, Serves) for word in choice}
    assert words <= set(POLICY.inline_code)
    assert [row[0].strip("`") for row in POLICY.section("Selectors").rows() if len(row) == 2] == list(Operator)
    assert [row[0].strip("`") for row in POLICY.section("The order in which rules are asked").rows()] == list(Tier)


def test_limits_are_those_of_the_code() -> None:
    assert f"0 to {MAX_PRIORITY};" in described("Policy")["spec.priority"][3]
    assert f"1 to {MAX_VNI}." in described("Network")["spec.vni"][3]
    vnic = {path.rpartition("[].")[2]: row[3] for path, row in described("VirtualMachine").items()}
    assert f"{FLOWS[0]} to {FLOWS[1]}" in vnic["maxFlows"]
    assert f"{NEW_FLOWS[0]} to {NEW_FLOWS[1]}" in vnic["newFlowsPerSecond"]
    assert f"at most {ETHERTYPES}," in vnic["ethertypes"]
    assert f"from {ETHERTYPE_FIRST:#06x} to {ETHERTYPE_LAST:#06x}" in vnic["ethertypes"]
    assert f"at most {LONGEST_LINE} characters" in described("Invariant")["spec.description"][3]
    tunnels = REASONS.section("28 TUNNEL").text
    assert {int(n) for n in re.findall(r"\b\d+", tunnels)} == tunnels_known.PROTOCOLS | tunnels_known.UDP_PORTS
    [silent] = [
        p for p in POLICY.section("Established connections").text.split("\n\n") if p.startswith("A flow is over")
    ]
    assert {int(n.replace(",", "")) for n in re.findall(r"([\d,]+) s\b", silent)} == set(IdleSeconds)
    assert f"TCP {IdleSeconds.TCP_ESTABLISHED:,} s" in REASONS.section("9 NO_FLOW").text
    assert f"{Limits().flows_per_vnic:,} flows" in REASONS.section("12 FLOW_QUOTA").text


def test_the_grammar_of_ports_is_the_one_that_is_read() -> None:
    written = [text for row in POLICY.section("Ports").rows() for text in re.findall("`(.*?)`", row[0])]
    references = ["https", "/acme:https"]
    assert written[-2:] == references
    assert [text for text in written if parse_ports(text) is None] == references
    for refused in ("132/5", "6/443"):
        assert refused in POLICY.section("Ports").inline_code
        with pytest.raises(ValueError, match="is not a port"):
            parse_ports(refused)


def test_errors_that_are_shown_are_real() -> None:
    known = {line for file in ROOT.glob("tests/golden/*/expected.txt") for line in file.read_text().splitlines()}
    shown = [line for fence in POLICY.fences("text") for line in fence.text.splitlines()]
    assert shown
    assert set(shown) <= known


# Wishes: what each snippet does to a connection. True: it can be opened.

WISHES: dict[str, dict[str, bool]] = {
    "Let users reach web": {
        "203.0.113.9 -> web/eth0 tcp/443": True,
        "app -> web tcp/80": True,
        "203.0.113.9 -> web/eth0 tcp/22": False,
        "203.0.113.9 -> app tcp/443": False,
    },
    "A database for its app only": {
        "app -> db tcp/5432": True,
        "app -> db tcp/22": False,
        "web -> db tcp/5432": False,
        "203.0.113.9 -> db tcp/5432": False,
        "db -> 203.0.113.9 tcp/443": False,
    },
    "Forbid telnet everywhere": {
        "web/eth0 -> 203.0.113.9 tcp/23": False,
        "web/eth0 -> 203.0.113.9 tcp/22": True,
        "crm -> 203.0.113.9 tcp/23": False,
    },
    "Let tenants decide about ping": {"web -> app icmp": True, "crm -> app icmp": False, "app -> crm icmp": False},
    "Isolate a tenant": {
        "crm -> web/eth0 tcp/80": False,
        "203.0.113.9 -> app tcp/80": False,
        "web/eth0 -> crm tcp/80": False,
        "web/eth0 -> 203.0.113.9 tcp/80": False,
        "crm -> 203.0.113.9 tcp/80": True,
    },
    "Deny everything from one address": {
        "198.51.100.7 -> app udp/9": False,
        "app -> 198.51.100.7 tcp/443": False,
        "app -> 198.51.100.8 tcp/443": True,
    },
    "Monitoring from a management network": {
        "monitor -> web/eth1 tcp/9100": True,
        "monitor -> web/eth1 icmp": True,
        "monitor -> web/eth1 tcp/22": False,
        "app -> web/eth0 tcp/9100": False,
        "10.250.0.99 -> web/eth1 tcp/9100": False,
    },
    "Ssh through one VM only": {
        "jump -> db tcp/22": True,
        "web -> db tcp/22": False,
        "203.0.113.9 -> jump tcp/22": False,
    },
    "Allow DNS by default": {"app -> jump udp/53": True, "app -> jump tcp/53": True, "app -> jump tcp/54": False},
    "Open inside a tenant by default": {"app -> jump tcp/22": True, "crm -> jump tcp/22": False},
    "Staged tightening": {
        "web/eth0 -> 203.0.113.9 tcp/443": True,
        "staged web/eth0 -> 203.0.113.9 tcp/443": False,
        "staged web/eth0 -> 203.0.113.9 tcp/8080": False,
    },
    "Deny egress by default": {"web/eth0 -> 203.0.113.9 tcp/443": False},
    "Enforce one application only": {"crm -> app tcp/80": False, "app -> jump tcp/80": True, "app -> crm tcp/80": True},
    "Put a VM into quarantine": {
        "198.51.100.7 -> app tcp/22": True,
        "app -> 198.51.100.7 tcp/22": True,
        "198.51.100.16 -> app tcp/22": False,
        "app -> 203.0.113.9 tcp/443": False,
        "web/eth0 -> app tcp/8080": False,
    },
    "Accept users of both versions": {
        "203.0.113.9 -> portal tcp/443": True,
        "203.0.113.9 -> portal icmp": True,
        "2001:db9::9 -> portal tcp/443": True,
        "2001:db9::9 -> portal icmpv6": True,
        "2001:db9::9 -> portal tcp/80": False,
        "2001:db8:7::9 -> portal tcp/443": False,
        "web/eth0 -> portal tcp/443": False,
    },
}


def test_every_wish_is_in_the_table_and_is_tried() -> None:
    wishes = POLICY.section("Common wishes")
    assert wishes.headings == list(WISHES)
    linked = [re.fullmatch(r"\[(.*)\]\(#.*\)", row[1]) for row in wishes.rows()]
    assert sorted(link[1] for link in linked if link) == sorted(WISHES)


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_comes_true(wish: str) -> None:
    [fence] = POLICY.section(wish).fences("yaml")
    world = world_with(fence.text)
    assert {question: can(world, question) for question in WISHES[wish]} == WISHES[wish]


def can(world: World, question: str) -> bool:
    source, _, target, service = question.removeprefix("staged ").split()
    [connection] = connections(parse_end(world, source), parse_end(world, target), *parse_service(service))
    return judge(world, connection, staged=question.startswith("staged ")).passes


# Reasons


def test_every_reason_is_described_in_its_words() -> None:
    assert REASONS.headings == ["Reasons", *(f"{reason.value} {reason.name}" for reason in Reason)]
    for reason in Reason:
        section = REASONS.section(f"{reason.value} {reason.name}").text.strip()
        assert section.startswith(f"**{reason.description}**\n")
        assert len(section.split("\n\n")) >= 2, f"{reason.name}: what should an engineer look at?"


def test_the_list_of_reasons_is_whole() -> None:
    [*rows] = REASONS.rows()
    assert [(row[0], row[1]) for row in rows] == [
        (str(reason.value), f"[`{reason.name}`](#{reason.value}-{reason.name.lower()})") for reason in Reason
    ]


# Commands


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Go through everything that can be run."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below
        yield from verbs(below, (*path, name))


def parse(shown: CommandLine) -> tuple[str, ...]:
    """Read a command line as click does, without running it, and return its verbs.

    Raises:
        click.UsageError: there is no such verb, or it does not take these words.
    """
    command: click.Command = main
    context, words, path = click.Context(main, info_name="serai"), shown.words, []
    while isinstance(command, click.Group) and (words or not shown.mention):
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not rest and command.invoke_without_command:
            break  # it does something by itself
        words = rest
        name, below, words = command.resolve_command(context, words)
        assert name
        assert below
        command, context = below, click.Context(below, parent=context, info_name=name)
        path.append(name)
    if words or not shown.mention:
        command.make_context(path[-1], list(words), parent=context.parent)
    return tuple(path)


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda c: f"{place(c)} {' '.join(c.words)}")
def test_commands_that_are_shown_can_be_typed(shown: CommandLine) -> None:
    assert parse(shown)


def test_every_verb_is_mentioned() -> None:
    assert set(verbs(main)) - {parse(shown) for shown in COMMANDS} == set()


FINE = {
    "can": r"\AYes",
    "check": r"is sound",
    "compile": r"\AHOST",
    "diff": r"\ANo difference",
    "placement": r"\nNothing is wrong: ",
    "prove": r"\n\d+ proven\.\n\Z",
    "reach": r"\ARouting domain",
}
"""How an answer reads that ends with status 0."""


@pytest.mark.parametrize("shown", SHOWN, ids=lambda c: f"{place(c)} {' '.join(c.words)}")
def test_answers_that_are_shown_are_real(shown: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown.words[0] in FINE, "only these answer the same anywhere"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for fence in YAML:
        if fence.note.startswith("file: "):
            file = tmp_path / fence.note.removeprefix("file: ")
            file.parent.mkdir(parents=True)
            file.write_text(fence.text)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shown.words)
    assert result.output == shown.output
    assert result.exit_code == (0 if re.search(FINE[shown.words[0]], result.output) else 1)


def test_there_are_answers_to_compare() -> None:
    assert len(SHOWN) >= 8


# Links


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.is_relative_to(ROOT), link
        assert path.exists(), link
        if anchor:
            assert anchor in Page.read(path).anchors, link


def test_every_decision_is_listed_by_its_title() -> None:
    listed = re.findall(r"^- \[(\d{4})\]\((.+?)\) (.+)$", Page.read("docs/adr/README.md").text, re.MULTILINE)
    pages = sorted(ROOT.glob("docs/adr/[0-9]*.md"))
    assert listed == [(p.name[:4], p.name, Page.read(p).headings[0].removeprefix(f"{p.name[:4]} ")) for p in pages]
