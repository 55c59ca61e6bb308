"""The libvirt hook against a real socket: what it asks, and that a domain starts only when its taps are guarded."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.agent import hook
from serai.wire import local

XML = "<domain type='kvm'><name>web</name><description>é 'quoted' \\ </description></domain>\n"
START = ("start", "begin", "-")
PREPARE = ("prepare", "begin", "-")
MIGRATE = ("migrate", "begin", "-")
RELEASE = ("release", "end", "-")
MAY = local.encode(local.EnterReply(warnings=["it comes without a ticket"]))
MAY_NOT = local.encode(local.EnterReply(objections=["host a does not carry the tag pci", "it comes without a ticket"]))
GUARDED = local.encode(local.GuardReply(guarded=["vnet0"], closed=[]))
REFUSED = local.encode(local.Failure(error="the domain web has no tap vnet0 here"))
SILENCE = b""


class Listener:
    """Answers every connection with the same bytes, whatever is asked, and keeps what was."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.path = path
        self.asked: list[local.Request] = []
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        server = self._loop.run_until_complete(asyncio.start_unix_server(self._converse, self.path))
        ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(local.decode_request(await reader.readline()))
        writer.write(self._answer)
        await writer.drain()
        writer.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hook, "SOCKET", str(tmp_path / "agent.sock"))
    monkeypatch.setattr(hook, "SETTINGS", str(tmp_path / "nothing.toml"))
    monkeypatch.setattr("sys.stdin", io.StringIO(XML))
    return tmp_path / "agent.sock"


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    """Those that a test starts with ``listen``."""
    made: list[Listener] = []
    yield made
    for listener in made:
        listener.close()


def listen(listeners: list[Listener], path: Path, answer: bytes) -> Listener:
    listeners.append(Listener(path, answer))
    return listeners[-1]


def call(*words: str) -> int:
    return hook.main(["qemu", "web", *words])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == "", "libvirt would take that for the domain's XML"
    return captured.err


@pytest.mark.parametrize(
    ("words", "request_", "answer"),
    [
        (START, local.Guard(definition=XML), GUARDED),
        (PREPARE, local.Enter(definition=XML), MAY),
        (MIGRATE, local.Enter(definition=XML, incoming=True), MAY),
        (RELEASE, local.Release(domain="web"), GUARDED),
    ],
    ids=["start", "prepare", "migrate", "release"],
)
def test_what_is_asked(
    *,
    path: Path,
    listeners: list[Listener],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    request_: local.Request,
    answer: bytes,
) -> None:
    agent = listen(listeners, path, answer)
    assert call(*words) == 0
    assert agent.asked == [request_]
    assert said(capsys) == ""


@pytest.mark.parametrize(
    "words", [("started", "begin", "-"), ("stopped", "end", "-"), ("prepare", "end", "-"), ("reconnect", "begin", "-")]
)
def test_other_operations_ask_nothing(path: Path, words: tuple[str, ...]) -> None:
    assert not path.exists()
    assert call(*words) == 0


ANSWERS = {
    "refusal": (REFUSED, "the domain web has no tap vnet0 here"),
    "garbage": (b"Hello!\n", "Expecting value"),
    "half an object": (b'{"guarded": [', "Expecting value"),
    "bytes that are no text": (b"{\xff}\n", "utf-8"),
    "silence": (SILENCE, "the agent went away"),
}


@pytest.mark.parametrize("words", [PREPARE, MIGRATE], ids=["prepare", "migrate"])
def test_every_objection_reaches_whoever_is_there(
    path: Path, listeners: list[Listener], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    listen(listeners, path, MAY_NOT)
    assert call(*words) == 1
    assert said(capsys).splitlines() == [
        "serai: web may not run here: host a does not carry the tag pci.",
        "serai: web may not run here: it comes without a ticket.",
    ]


@pytest.mark.parametrize("words", [PREPARE, MIGRATE], ids=["prepare", "migrate"])
def test_an_answer_to_something_else_is_no_consent(
    path: Path, listeners: list[Listener], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    listen(listeners, path, GUARDED)
    assert call(*words) == 1
    _is_a_clear_sentence(said(capsys), "does not say whether it may")


@pytest.mark.parametrize("words", [START, PREPARE, MIGRATE], ids=["start", "prepare", "migrate"])
@pytest.mark.parametrize("setting", ["start", "veto", "sart", ""])
def test_a_host_may_let_domains_start_while_no_agent_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], setting: str
) -> None:
    settings = tmp_path / "agent.toml"
    monkeypatch.setattr(hook, "SETTINGS", str(settings))
    settings.write_text(f'without_agent = "{setting}"' if setting else "without_agent =")
    assert not path.exists()
    assert call(*words) == (0 if setting == "start" else 1)


@pytest.mark.parametrize("words", [START, PREPARE, MIGRATE], ids=["start", "prepare", "migrate"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_but_a_good_answer_lets_a_domain_start(
    path: Path, listeners: list[Listener], capsys: pytest.CaptureFixture[str], answer: str, words: tuple[str, ...]
) -> None:
    raw, why = ANSWERS[answer]
    listen(listeners, path, raw)
    assert call(*words) == 1
    _is_a_clear_sentence(said(capsys), why)


@pytest.mark.parametrize("raw", [b"[]\n", b'"yes"\n', b"42\n", b"null\n"])
def test_json_that_is_no_object_is_no_consent(
    path: Path, listeners: list[Listener], capsys: pytest.CaptureFixture[str], raw: bytes
) -> None:
    listen(listeners, path, raw)
    assert call(*START) == 1
    _is_a_clear_sentence(said(capsys), "")


@pytest.mark.parametrize("words", [START, PREPARE], ids=["start", "prepare"])
def test_without_an_agent_no_domain_starts(
    path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call(*words) == 1
    _is_a_clear_sentence(said(capsys), "No such file or directory")
    with socket.socket(socket.AF_UNIX) as dead:  # an agent that was killed leaves its socket behind
        dead.bind(str(path))
    assert call(*words) == 1
    _is_a_clear_sentence(said(capsys), "Connection refused")


def test_an_agent_that_does_not_answer_in_time(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "TIMEOUT_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        assert call(*START) == 1
    _is_a_clear_sentence(said(capsys), "timed out")


@pytest.mark.parametrize("answer", [*(raw for raw, _ in ANSWERS.values()), None], ids=[*ANSWERS, "nobody"])
def test_release_never_vetoes(
    path: Path, listeners: list[Listener], capsys: pytest.CaptureFixture[str], answer: bytes | None
) -> None:
    if answer is not None:
        listen(listeners, path, answer)
    assert call(*RELEASE) == 0
    assert said(capsys) == ""


def _is_a_clear_sentence(text: str, why: str) -> None:
    assert text.count("\n") == 1
    assert text.startswith("serai: web may not start: ")
    assert why in text
    assert "serai agent status" in text, "and what to do about it"
    assert "Traceback" not in text


# As libvirt runs it


def _run(work: Path, *words: str, definition: bytes = XML.encode()) -> subprocess.CompletedProcess[bytes]:
    """Run an installed hook: a copy that asks a socket of ours, isolated, with nothing of ours to import."""
    script = work / "qemu"
    source = Path(hook.__file__).read_text()
    assert source.count('"/run/serai/agent.sock"') == 1
    script.write_text(source.replace('"/run/serai/agent.sock"', json.dumps(str(work / "agent.sock"))))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    command = [sys.executable, "-I", "-S", str(script), "web", *words]
    return subprocess.run(command, input=definition, capture_output=True, check=False, env=environment, cwd="/")


def test_as_a_program_it_asks_and_lets_start(path: Path, listeners: list[Listener]) -> None:
    agent = listen(listeners, path, GUARDED)
    done = _run(path.parent, *START)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert agent.asked == [local.Guard(definition=XML)]


def test_as_a_program_it_vetoes(path: Path, listeners: list[Listener]) -> None:
    done = _run(path.parent, *START)
    assert (done.returncode, done.stdout) == (1, b"")
    _is_a_clear_sentence(done.stderr.decode(), "No such file or directory")
    listen(listeners, path, REFUSED)
    done = _run(path.parent, *START)
    assert (done.returncode, done.stdout) == (1, b"")
    _is_a_clear_sentence(done.stderr.decode(), "has no tap vnet0")
    done = _run(path.parent, *RELEASE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_it_needs_the_standard_library_only() -> None:
    imports = [line for line in Path(hook.__file__).read_text().splitlines() if line.startswith(("import ", "from "))]
    modules = {line.split()[1].split(".")[0] for line in imports}
    assert modules <= sys.stdlib_module_names
    assert len(modules) > 2
