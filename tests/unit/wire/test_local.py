"""The agent's socket: every message there and back, and what becomes of those that are none."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.model.flow import DropSample, FlowRow, Outcome
from serai.model.inventory import VnicId
from serai.model.policy import Direction
from serai.model.reasons import Reason
from serai.wire import facts, local
from serai.wire.local import AgentError

LARGEST = 2**64 - 1
ROW = FlowRow(
    vnic=VnicId(LARGEST), direction=Direction.INGRESS, remote=IPv4Address("10.0.0.2"), identity=LARGEST,
    protocol=6, port=443, packets_out=2**63, packets_in=2, bytes_out=3, bytes_in=4, outcome=Outcome.DENIED, reason=Reason.DENIED,
    rule=LARGEST, staged=Outcome.ACCEPTED, age_seconds=0.5, connections=9,
)  # fmt: skip
SAMPLE = DropSample(
    vnic=VnicId(LARGEST), age_seconds=0.5, direction=Direction.EGRESS, reason=Reason.FOREIGN_ND, observed=True,
    local=IPv6Address("fe80::1"), remote=IPv4Address("10.0.0.2"), local_port=1, remote_port=65535, protocol=58, port=34560,
    length=70000, tcp_flags=0, rule=LARGEST,
)  # fmt: skip
ROW_6 = dataclasses.replace(ROW, remote=IPv6Address("2001:db8::2"), identity=0, connections=1)
STATUS = local.StatusReply(
    pid=1, uptime_seconds=2.5, digest=None,
    gates=[
        local.GateStatus(tap="vnet0", ifindex=3, domain="web", mac="52:54:00:00:00:01", vnic="/a/b:c/eth0",
                         vnic_id=LARGEST, mode="enforce"),
        local.GateStatus(tap="vnet1", ifindex=4, domain=None, mac=None, vnic=None, vnic_id=None, mode=None),
    ],
    drops=[local.DropStatus(vnic_id=0, direction="egress", reason=7, packets=8)], flows=9, forgotten_flows=10,
    link=local.LinkStatus(
        connected=True, url="wss://c1:8744", epoch=3, term=4, fenced=False, trouble="", clock_skew_seconds=-0.5,
        certificate_until=datetime(2026, 3, 1, 12, tzinfo=UTC),
    ),
    moves=[local.MoveStatus(move="0" * 32, vm="/a/b:c", source="a", to="b", phase="copied")],
)  # fmt: skip
TALKS: list[tuple[local.Request, local.Reply]] = [
    (local.Status(), STATUS),
    (local.Apply(ruleset=bytes(range(256))), local.ApplyReply(digest="abc")),
    (local.Change(delta=bytes(range(256))), local.ApplyReply(digest="abd")),
    (local.Enter(definition="<domain/>", incoming=True), local.EnterReply(objections=["a b"], warnings=["c"])),
    (
        local.Describe(definition="<domain/>"),
        local.DescribeReply(definition="ab", boots=[local.BootStatus(what="disk vda", path="/d", sha256="", why="gone")]),
    ),
    (local.Guard(definition='<domain>\n é \u2028 " \\ \U0001f512</domain>'), local.GuardReply(guarded=["a"], closed=["b"])),
    (local.Release(domain="web\n"), local.Done()),
    (local.Rows(), local.RowsReply(rows=[ROW, ROW_6, ROW], rules={"/acme:shop/ingress/r": LARGEST})),
    (local.Samples(), local.SamplesReply(samples=[SAMPLE], rules={"a": 1}, vnics={str(LARGEST): "/a/b:c/eth0"})),
]  # fmt: skip


class RefusedError(Exception):
    """What the agent of these tests refuses with."""


Answer = Callable[[local.Request], Awaitable[local.Reply]]


class Agent:
    """Serves in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[local.Request] = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        server = self._loop.run_until_complete(local.serve(self.path, self._answer, refusals=(RefusedError,)))
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _answer(self, request: local.Request) -> local.Reply:
        self.asked.append(request)
        for known, reply in TALKS:
            if known == request:
                return reply
        raise RefusedError(f"what should become of {type(request).__name__}?")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path / "run" / "agent.sock")
    yield made
    made.close()


class Talk:
    """One connection, by hand."""

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(20)
        self._connection.connect(str(path))
        self._replies = self._connection.makefile("rb")

    def say(self, raw: bytes) -> bytes:
        self._connection.sendall(raw)
        return self._replies.readline()

    def close(self) -> None:
        self._replies.close()
        self._connection.close()


@pytest.fixture
def talk(agent: Agent) -> Iterator[Talk]:
    made = Talk(agent.path)
    yield made
    made.close()


def test_every_message_has_a_case() -> None:
    assert {type(request) for request, _ in TALKS} == set(local.Request.__args__)  # type: ignore[attr-defined]
    assert {type(reply) for _, reply in TALKS} == set(local.Reply.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("request_", "reply"), TALKS, ids=[type(request).__name__ for request, _ in TALKS])
def test_there_and_back(agent: Agent, request_: local.Request, reply: local.Reply) -> None:
    assert local.decode_request(local.encode(request_)) == request_
    assert local.ask(agent.path, request_, type(reply)) == reply
    assert agent.asked == [request_]


@pytest.mark.parametrize("message", [message for talked in TALKS for message in talked], ids=lambda m: type(m).__name__)
def test_a_message_is_one_line(message: Any) -> None:
    raw = local.encode(message)
    assert raw.count(b"\n") == 1
    assert raw.endswith(b"\n")


def test_the_socket_is_nobody_elses(agent: Agent) -> None:
    mode = agent.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    before = os.umask(0o022)
    os.umask(before)
    assert before != 0o177, "and the umask is as it was"


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(0o666)
    agent = Agent(path)
    try:
        assert local.ask(path, local.Status(), local.StatusReply) == STATUS
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        agent.close()


def test_a_refusal_is_told(agent: Agent, talk: Talk) -> None:
    for _ in range(2):
        with pytest.raises(AgentError, match=r"^what should become of Release\?$"):
            local.ask(agent.path, local.Release(domain="db"), local.Done)
        said = msgspec.json.decode(talk.say(local.encode(local.Release(domain="db"))), type=local.Failure)
        assert said == local.Failure(error="what should become of Release?")


MALFORMED = [
    b"\n", b"hello\n", b"{\n", b"[]\n", b"null\n", b"42\n", b'{"ask": "nothing"}\n', b'{"ask": "guard"}\n', b"\0\n",
    b'{"ask": "guard", "definition": 5}\n', b'{"ask": "apply", "ruleset": "no base64!"}\n', b"\xff\xfe\n",
    b'{"ask": "export", "vnic": "1"}\n', b'{"ask": "export", "vnic": 1.5}\n', b'{"domain": "web"}\n',
]  # fmt: skip


@pytest.mark.parametrize("raw", MALFORMED)
def test_what_is_no_request_is_told_and_the_connection_lives_on(agent: Agent, talk: Talk, raw: bytes) -> None:
    failure = msgspec.json.decode(talk.say(raw), type=local.Failure)
    assert "not a request that the agent knows" in failure.error
    assert agent.asked == []
    assert talk.say(local.encode(local.Release(domain="web\n"))) == local.encode(local.Done())


@pytest.mark.parametrize(
    "raw",
    [b'{"ask": "release", "domain": "\xff"}\n', b'{"ask": "status", "x": ' + b"[" * 100_000 + b"\n"],
    ids=["not UTF-8", "nested too deeply"],
)
def test_what_trips_the_decoder_is_told_and_the_connection_lives_on(talk: Talk, raw: bytes) -> None:
    failure = msgspec.json.decode(talk.say(raw), type=local.Failure)
    assert "not a request that the agent knows" in failure.error
    assert talk.say(local.encode(local.Release(domain="web\n"))) == local.encode(local.Done())


def test_many_requests_on_one_connection_are_answered_in_order(talk: Talk) -> None:
    for _ in range(3):
        for request, reply in TALKS:
            assert talk.say(local.encode(request)) == local.encode(reply)


def test_who_hangs_up_amid_a_request_disturbs_nobody(agent: Agent) -> None:
    broken = Talk(agent.path)
    broken._connection.sendall(b'{"ask": "sta')
    broken.close()
    assert local.ask(agent.path, local.Status(), local.StatusReply) == STATUS


def test_a_large_ruleset_passes(agent: Agent) -> None:
    with pytest.raises(AgentError, match="what should become of Apply"):
        local.ask(agent.path, local.Apply(ruleset=bytes(8_000_000)), local.ApplyReply)
    assert len(agent.asked[0].ruleset) == 8_000_000  # type: ignore[union-attr]


def test_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with pytest.raises(AgentError, match=f"{path} .*No such file.*serai agent run"):
        local.ask(path, local.Status(), local.StatusReply)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(AgentError, match=f"{path} .*refused"):
        local.ask(path, local.Status(), local.StatusReply)
    with socket.socket(socket.AF_UNIX) as mute:
        path.unlink()
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(AgentError, match=f"{path} .*timed out"):
            local.ask(path, local.Status(), local.StatusReply, timeout_seconds=0.05)


def _answered(tmp_path: Path, raw: bytes) -> str:
    """What ``ask`` says of an agent that answers with ``raw`` and hangs up."""
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                lines.readline()
                connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(AgentError) as caught:
                local.ask(path, local.Status(), local.StatusReply)
        finally:
            thread.join()
    return str(caught.value)


def test_an_agent_that_goes_away_or_speaks_otherwise(tmp_path: Path) -> None:
    assert "went away" in _answered(tmp_path, b"")
    (tmp_path / "agent.sock").unlink()
    assert "another version" in _answered(tmp_path, b'{"pid": "one"}\n')


@pytest.mark.parametrize("raw", [b"hello\n", b'{"pid": 1', b'{"error": "\xff"}\n'])
def test_whoever_answers_is_no_agent(tmp_path: Path, raw: bytes) -> None:
    assert "another version" in _answered(tmp_path, raw)


@pytest.mark.parametrize("remote", ["10.0.0", "::ffff:10.0.0.2", "", 5])
def test_rows_with_something_else_for_an_address_are_refused(remote: object) -> None:
    told = msgspec.json.decode(local.encode(local.RowsReply(rows=[ROW_6], rules={})))
    told["rows"][0]["remote"] = remote
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec's and ipaddress's own, of whatever text
        facts.read_rows(msgspec.json.encode(told))


def test_a_request_that_is_nested_too_deeply() -> None:
    with pytest.raises(ValueError, match="deep"):
        local.decode_request(b'{"ask": "status", "x": ' + b"[" * 100_000)


@given(st.binary())
def test_random_bytes_raise_value_errors_only(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec's own, of whatever text
        local.decode_request(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=5,
)
KINDS = ("status", "apply", "guard", "release", "rows", "export", "import")
FIELDS = ("ruleset", "definition", "domain", "vnic", "since_ns", "flows", "other")


@given(
    st.dictionaries(st.sampled_from(FIELDS), values), st.sampled_from(KINDS), st.integers(0, 60), st.binary(max_size=3)
)
def test_nearly_right_requests_are_read_or_refused(fields: dict[str, Any], kind: str, at: int, noise: bytes) -> None:
    raw = msgspec.json.encode({"ask": kind, **fields})
    for line in (raw, raw[:at] + noise + raw[at:]):
        try:
            request = local.decode_request(line)
        except ValueError:
            continue
        assert isinstance(request, local.Request)
        assert local.decode_request(local.encode(request)) == request
