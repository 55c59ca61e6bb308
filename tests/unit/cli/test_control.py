"""The verbs that ask a controller, over real HTTP."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
import webbrowser
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import msgspec
import pytest
from click.testing import CliRunner

from authorities import authority
from fake_service import ADMIN, NOW, PASSWORD, Caller, FakeService
from serai.access.roles import Grant, Role
from serai.cli import login
from serai.cli.main import main
from serai.controller.api.doorkeeper import Limits
from serai.model.tenancy import ROOT
from serai.wire import api
from serai.wire.oidc import hashed
from serai.wire.trust import fingerprint
from served import Stand, served
from typed import data, serai, sign_in

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
SERVICE = """
apiVersion: serai.dev/v1
kind: Service
metadata: {name: extra, scope: /acme}
spec: {ports: [tcp/81]}
"""


@pytest.fixture
def service() -> FakeService:
    return FakeService({file.name: file.read_text() for file in EXAMPLE.glob("*.yaml")})


@pytest.fixture(scope="module")
def stand() -> Iterator[tuple[Stand, str]]:
    made = Stand()
    with served(made, limits=Limits(burst=10_000, strangers_burst=10_000)) as at:
        yield made, at


@pytest.fixture
def url(stand: tuple[Stand, str], service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    stand[0].service = service
    sign_in(monkeypatch, tmp_path / "home", stand[1])
    return stand[1]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "a.yaml").write_text(SERVICE)
    return directory


# What is in force


@pytest.mark.parametrize(
    "question",
    [
        ("can", "/acme/shop:web", "/acme/shop:app", "tcp/8080"),
        ("can", "-v", "/acme/shop:web", "/acme/shop:db", "tcp/5432"),
        ("can", "/acme/shop:app", "/globex/crm:db", "tcp/5432"),
        ("reach", "--to", "/acme/shop:web"),
        ("reach",),
        ("reach", "--from", "/acme", "--to", "/globex"),
    ],
)
@pytest.mark.usefixtures("url")
def test_what_is_in_force_is_told_as_files_are(question: tuple[str, ...]) -> None:
    verb, *words = question
    told = [
        CliRunner().invoke(main, [verb, where, *words, *more])
        for where in (str(EXAMPLE), "@")
        for more in ([], ["--json"])
    ]
    assert told[0].stdout == told[2].stdout != ""
    assert told[1].stdout == told[3].stdout
    assert len({one.exit_code for one in told}) == 1
    assert told[0].exit_code in {0, 1}


@pytest.mark.usefixtures("url")
def test_what_is_in_force_is_checked_proven_and_compiled_as_files_are() -> None:
    files, in_force = (serai("check", where).stdout for where in (str(EXAMPLE), "@"))
    assert in_force.startswith("What is in force is sound: ")
    assert in_force.splitlines()[0].partition(": ")[2] == files.splitlines()[0].partition(": ")[2]
    for words in (("prove",), ("compile",), ("compile", "--json")):
        verb, *more = words
        assert serai(verb, "@", *more).stdout == serai(verb, str(EXAMPLE), *more).stdout


def test_a_part_of_what_is_in_force_is_no_world(service: FakeService, url: str) -> None:
    del url
    del service.in_force["Tenant", "acme"]
    assert "what you may read of what is in force makes no world by itself" in serai("prove", "@", status=2).stderr


@pytest.mark.usefixtures("url")
def test_a_question_that_makes_no_sense_is_refused_alike() -> None:
    for where in (str(EXAMPLE), "@"):
        assert (
            "there is no VM 'wep'; did you mean 'web'?"
            in serai("can", where, "wep", "/acme/shop:app", "tcp/1", status=2).stderr
        )


@pytest.mark.usefixtures("url")
def test_diff_says_what_applying_would_open(tmp_path: Path) -> None:
    text = (EXAMPLE / "acme.yaml").read_text()
    (tmp_path / "acme.yaml").write_text(text.replace("tcp/5432", "tcp/5433"))
    found = data("diff", "@", str(tmp_path), status=1)
    assert {port for row in found["opened"] for port in row["ports"]} == {"tcp/5433"}
    assert "-" in serai("diff", "@", str(tmp_path), status=1).stdout
    assert data("diff", "@", str(EXAMPLE))["opened"] == []


# Changes


def test_a_change_is_planned_and_applied(service: FakeService, url: str, files: Path) -> None:
    del url
    before = len(service.made)
    plan = serai("plan", str(files), status=1).stdout
    assert "+ Service /acme:extra" in plan
    assert "Plan: 1 created, upon revision 1" in plan
    assert len(service.made) == before
    told = serai("apply", str(files), "--yes", "-m", "more", "--wait").stdout
    assert f"Revision {before + 1} is in force: 1 created." in told
    assert "1 host holds it." in told
    assert service.made[-1].message == "more"
    assert "Nothing to do" in serai("plan", str(files)).stdout
    assert "Nothing to do" in serai("apply", str(files), "--yes").stdout
    assert len(service.made) == before + 1


def test_nobody_to_ask_is_no_yes(service: FakeService, url: str, files: Path) -> None:
    del url
    assert "say --yes" in serai("apply", str(files), status=2).stderr
    assert len(service.made) == 1


def test_another_change_than_the_planned_one_is_not_made(
    service: FakeService, url: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del url
    planned = FakeService.plan

    async def then_it_changes(self: FakeService, who: Caller, body: api.ChangeRequest) -> api.Plan:
        found = await planned(self, who, body)
        return msgspec.structs.replace(found, digest="another")

    monkeypatch.setattr(FakeService, "plan", then_it_changes)
    assert "not the change that was planned" in serai("apply", str(files), "--yes", status=2).stderr
    assert len(service.made) == 1


@pytest.mark.usefixtures("url")
def test_faults_are_told_by_file_and_line(files: Path) -> None:
    (files / "b.yaml").write_text("a: [\n")
    assert "b.yaml" in serai("apply", str(files), "--yes", status=2).stderr


def test_a_change_waits_to_be_confirmed(service: FakeService, url: str, files: Path) -> None:
    del url
    told = serai("apply", str(files), "--yes", "--confirm", "5m").stdout
    assert "unless you run `serai confirm 2`" in told
    assert service.made[-1].confirm_by == NOW + timedelta(minutes=5)
    assert "unless confirmed: `serai confirm 2`" in serai("status").stdout
    assert "waits to be confirmed" in serai("delete", "Service", "/acme:extra", "--yes", status=2).stderr
    assert "Revision 2 stands." in serai("confirm").stdout
    assert "no revision waits" in serai("confirm", status=2).stderr


def test_history_goes_back(service: FakeService, url: str, files: Path) -> None:
    del url
    serai("apply", str(files), "--yes", "-m", "first")
    assert "first" in serai("history").stdout
    assert "+ Service /acme:extra" in serai("show", "2").stdout
    assert [each["number"] for each in data("history", "-n", "1")["revisions"]] == [2]
    serai("rollback", "1", "--yes")
    assert ("Service", "/acme:extra") not in service.in_force
    assert "there is no revision 99" in serai("rollback", "99", "--yes", status=2).stderr


def test_a_second_person_decides(service: FakeService, url: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del url
    service.needs = 2
    service.callers["second"] = Caller(name="second", grants=(Grant(Role.SECURITY_ADMIN, ROOT),))
    assert "`serai approve 1`" in serai("apply", str(files), "--yes").stdout
    assert "1 of 2" in serai("proposals").stdout
    assert "nobody approves what they propose" in serai("approve", "1", "--yes", status=2).stderr
    monkeypatch.setenv("SERAI_TOKEN", "second")
    assert "+ Service /acme:extra" in serai("approve", "1", "--yes").stdout
    assert ("Service", "/acme:extra") in service.in_force
    assert "there is no proposal 1" in serai("reject", "1", "--yes", status=2).stderr
    assert "No change waits" in serai("proposals").stdout


@pytest.mark.usefixtures("url")
def test_resources_are_shown_and_can_be_applied_again(tmp_path: Path) -> None:
    listed = serai("get").stdout
    assert "/acme/shop:web" in listed
    assert "Tenant" not in serai("get", "vm").stdout
    text = serai("get", "virtualmachine", "/acme/shop:web").stdout
    (tmp_path / "again.yaml").write_text(text)
    assert "Nothing to do" in serai("plan", str(tmp_path)).stdout
    assert "there is no VirtualMachine /acme/shop:wep" in serai("get", "vm", "/acme/shop:wep", status=2).stderr
    assert "did you mean 'Policy'?" in serai("get", "Polcy", status=2).stderr


def test_changes_are_watched(service: FakeService, url: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del url
    told: list[str] = []
    done = threading.Event()

    def line(_to: object, text: object, style: str = "") -> None:
        del style
        told.append(str(text))
        if len(told) == 2:
            done.set()
            raise KeyboardInterrupt

    monkeypatch.setattr("serai.cli.get.line", line)
    monkeypatch.setattr("serai.cli.steps.line", line)
    watching = threading.Thread(target=CliRunner().invoke, args=(main, ["get", "--watch"]), daemon=True)
    watching.start()
    time.sleep(0.3)
    with_client = CliRunner().invoke(main, ["delete", "Invariant", "/:tenants-apart", "--yes"])
    assert with_client.exit_code == 0, with_client.output
    assert done.wait(5), told
    watching.join(5)
    assert told[0].startswith(f"Revision {len(service.made)}, ")
    assert "- Invariant /:tenants-apart" in told[1]
    del files


# Hosts


def test_status_tells_who_is_behind_and_why(service: FakeService, url: str) -> None:
    del url
    assert "1 host holds it." in serai("status").stdout
    service.states += [
        api.HostStatus(name="h2", joined=True, connected=False, since=NOW, holds="ab" * 32),
        api.HostStatus(name="h3", joined=True, connected=True, trouble="no room for 3 rules"),
    ]
    told = serai("status", status=1).stdout
    assert "2 of 3 hosts do not hold it" in told
    assert "silent since" in told
    assert "no room for 3 rules" in told
    assert "h2: silent" in serai("status", "h2", status=1).stdout
    assert data("status", "h1")["behind"] is False
    assert "there is no host 'h9'" in serai("status", "h9", status=2).stderr


def test_hosts_are_let_in_and_out(service: FakeService, url: str) -> None:
    assert f"serai agent join {url} --host h7 --token serai1." in serai("host", "token", "h7").stdout
    assert "h1" in serai("host", "list").stdout
    serai("host", "revoke", "h1", "--yes")
    assert service.states == []


def test_a_host_that_cannot_join_is_told_why(tmp_path: Path) -> None:
    words = ("--token", "nonsense", "--host", "h7", "--state", str(tmp_path / "state"))
    assert "token" in serai("agent", "join", "https://127.0.0.1:1", *words, status=2).stderr
    assert not (tmp_path / "state").exists()


# People


def test_people_come_and_go(service: FakeService, url: str) -> None:
    del url
    serai("people", "add", "ann", "--role", "viewer:/acme", input_="secret\nsecret\n")
    assert service.persons["ann"].grants == [api.GrantBody(role="viewer", scope="/acme")]
    assert "ann" in serai("people", "list").stdout
    assert "is there already" in serai("people", "add", "ann", input_="s\ns\n", status=2).stderr
    serai("people", "change", "ann", "--role", "auditor")
    assert service.persons["ann"].grants == [api.GrantBody(role="auditor", scope="/")]
    assert "is kept out" in serai("people", "disable", "ann").stdout
    serai("people", "change", "ann", "--enable")
    assert not service.persons["ann"].disabled
    assert "there is no role 'king'" in serai("people", "change", "ann", "--role", "king", status=2).stderr


@pytest.mark.usefixtures("url")
def test_tokens_are_told_once() -> None:
    made = serai("token", "new", "ci", "--days", "7")
    assert made.stdout == "serai_ci_secret\n"
    listed = data("token", "list")["tokens"]
    assert [(each["name"], each["secret"]) for each in listed] == [("ci", None)]
    serai("token", "revoke", listed[0]["id"])
    assert "has no token" in serai("token", "revoke", listed[0]["id"], status=2).stderr


def test_login_is_remembered(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERAI_TOKEN")
    monkeypatch.delenv("SERAI_URL")
    assert "run `serai login URL`" in serai("whoami", status=2).stderr
    assert (
        "the name or the password is wrong" in serai("login", url, "--name", "admin", input_="wrong\n", status=2).stderr
    )
    assert "You are admin" in serai("login", url, input_=f"admin\n{PASSWORD}\n").stdout
    file = tmp_path / "home/.config/serai/client.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "admin at" in serai("whoami").stdout
    file.chmod(0o644)
    assert "others can read it" in serai("whoami", status=2).stderr


def test_a_ca_is_trusted_by_its_fingerprint(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("SERAI_URL", "SERAI_TOKEN", "SERAI_CA", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    ca, *pair = authority(tmp_path, "ours")

    async def give() -> str:
        return ca.read_text()

    service.ca = give  # type: ignore[method-assign]
    shown = fingerprint(ca.read_text())
    with served(service, tls=(pair[0], pair[1])) as at:
        words = ("login", at, "--name", "admin")
        told = serai(*words, input_="n\n", status=1)
        assert shown in told.stderr
        assert not (tmp_path / "home/.config").exists()
        assert "not the one you expect" in serai(*words, "--fingerprint", "00" * 32, status=2).stderr
        assert "You are admin" in serai(*words, input_=f"y\n{PASSWORD}\n").stdout
        assert "admin at https:" in serai("whoami").stdout
        assert "You are admin" in serai(*words, "--fingerprint", shown, input_=f"{PASSWORD}\n").stdout


class Provider(http.server.BaseHTTPRequestHandler):
    """An OpenID provider that knows one person and asks them nothing."""

    nonce = challenge = ""
    broken = ""

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.path.startswith("/.well-known/"):
            self.answer({name: self.me() + path for name, path in ENDPOINTS.items()})
            return
        assert (query["client_id"], query["code_challenge_method"]) == ("serai", "S256")
        Provider.nonce, Provider.challenge = query["nonce"], query["code_challenge"]
        state = "another" if self.broken == "state" else query["state"]
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urlencode({'code': 'c0de', 'state': state})}")
        self.end_headers()

    def do_POST(self) -> None:
        form = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        assert (form["code"], form["grant_type"]) == ("c0de", "authorization_code")
        assert hashed(form["code_verifier"]) == self.challenge
        claims = json.dumps({"nonce": "replayed" if self.broken == "nonce" else self.nonce}).encode()
        self.answer({"id_token": f"h.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.s"})

    def answer(self, body: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def me(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def log_message(self, *_: object) -> None:
        pass


ENDPOINTS = {"issuer": "", "authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}


@pytest.mark.parametrize(("broken", "said"), [("", ""), ("state", "nobody signed in"), ("nonce", "no good")])
def test_an_openid_provider_speaks_for_people(
    service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch, broken: str, said: str
) -> None:
    monkeypatch.delenv("SERAI_TOKEN")
    monkeypatch.setattr(Provider, "broken", broken)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        service.issuer = f"http://127.0.0.1:{provider.server_port}"

        def browse(address: str) -> None:
            threading.Thread(target=httpx2.get, args=(address,), kwargs={"follow_redirects": True}, daemon=True).start()

        monkeypatch.setattr(webbrowser, "open", browse)
        monkeypatch.setattr(login, "SIGN_IN_SECONDS", 2.0)
        result = serai("login", url, "--oidc", status=2 if said else 0)
        assert said in result.stderr
        assert said or "You are admin" in result.stdout
        provider.shutdown()


@pytest.mark.usefixtures("url")
def test_what_one_may_not_do_is_said(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv("SERAI_TOKEN", "viewer-token")
    assert "eve may not do this" in serai("apply", str(files), "--yes", status=2).stderr
    monkeypatch.setenv("SERAI_TOKEN", "nonsense")
    assert "this token is not known" in serai("status", status=2).stderr


# The audit log


def test_the_log_is_told_and_kept(service: FakeService, url: str, files: Path, tmp_path: Path) -> None:
    del url
    serai("apply", str(files), "--yes")
    assert "revision 2" in serai("audit", "log").stdout
    assert [each["object"] for each in data("audit", "log", "-n", "1")["records"]] == ["revision 2"]
    assert "Whole: 2 records" in serai("audit", "verify").stdout
    assert "continues the 1 checkpoints" in serai("audit", "verify").stdout
    serai("audit", "export", str(tmp_path / "log.jsonl"))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    service.log.pop()
    told = serai("audit", "verify", status=1).stdout
    assert "Not whole" in told
    assert "this machine has seen 2" in told


def test_an_export_is_verified_without_a_controller(
    service: FakeService, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del url
    service._note(ADMIN, "write", "more")
    file = tmp_path / "log.jsonl"
    serai("audit", "export", str(file))
    monkeypatch.setenv("SERAI_URL", "https://nobody:1")
    assert "signatures were not looked at" in serai("audit", "verify", str(file)).stdout
    key = base64.b64encode(service.public).decode()
    assert "Whole: 2 records" in serai("audit", "verify", str(file), "--key", key).stdout
    other = base64.b64encode(FakeService().public).decode()
    assert "not signed by this site's audit key" in serai("audit", "verify", str(file), "--key", other, status=1).stdout
    assert "is no public key" in serai("audit", "verify", str(file), "--key", "x", status=2).stderr
    file.write_text(file.read_text().replace("more", "less"))
    assert "Not whole" in serai("audit", "verify", str(file), "--key", key, status=1).stdout
    assert "cannot be read" in serai("audit", "verify", str(tmp_path / "none"), status=2).stderr


def test_a_log_that_is_begun_anew_is_noticed(service: FakeService, url: str) -> None:
    del url
    serai("audit", "verify")
    service.key = FakeService().key
    assert "another key than the one that this machine has seen" in serai("audit", "verify", status=1).stdout


# The terminal


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    assert "_SERAI_COMPLETE" in serai("completion", shell).stdout
