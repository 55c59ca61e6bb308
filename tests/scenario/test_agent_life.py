"""An agent of its own on a host of its own: gates come at once, come back when taken, and outlive it.

The host is a network and a mount namespace that the kernel takes away with the test, however it ends.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cases import ACCEPT, IN, MAC, OUT, PEER, PEER_MAC, V4, VM, policy, port
from conftest import NETWORK, machine
from frames import SYN, TCP, tcp
from namespaces import Tap, add_bridge, enter_new_network, in_a_thread, ip, mount_bpf

from serai.model.columns import Columns
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.datacenter import Compiler
from serai.wire import local

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it attaches programs to taps"),
]

BPFFS = Path("/sys/fs/bpf")
PATIENCE = 30.0
"""Seconds: on a machine that does much else an agent may need ten to be read from disk."""
SERAI = [sys.executable, "-c", "from serai.cli.main import main; main()"]


def on_its_own(test: Callable[..., None]) -> Callable[[Path], None]:
    """Run a test in namespaces of its own, with a bridge ``br0``."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        def body() -> None:
            enter_new_network()
            mount_bpf(BPFFS)
            add_bridge("br0")
            test(tmp_path)

        in_a_thread(body)

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for the arguments of `test`
    return run


def plug(name: str) -> Tap:
    """Make a tap on the bridge."""
    tap = Tap(name)
    ip("link", "set", name, "master", "br0", "up")
    return tap


class Agent:
    """An agent as a process."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "agent.sock"
        self._log = directory / "log"
        command = [
            "setpriv", "--pdeathsig", "KILL", *SERAI, "agent", "run", "--host", "a", "--socket", self.socket,
            "--state", directory / "state", "--libvirt", "test:///default",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stderr=log, stdout=log)

    def status(self) -> local.StatusReply:
        return local.ask(self.socket, local.Status(), local.StatusReply)

    def log(self) -> str:
        return self._log.read_text()

    def ready(self) -> Agent:
        def answers() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                return bool(self.status().pid == self.process.pid)
            except local.AgentError:
                return False

        wait(answers, "the agent answers")
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(PATIENCE)


def wait(condition: Callable[[], bool], what: str) -> float:
    """Wait for ``condition`` and return after how many seconds it held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, f"never: {what}"
        time.sleep(0.002)
    return time.monotonic() - began


def passes(source: Tap, target: Tap) -> bool:
    """Say whether a broadcast from one tap reaches the other."""
    target.received()
    source.send(b"\xff" * 6 + b"\x52\x54\0\0\0\1" + b"\x08\x06" + bytes(46))
    return bool(select.select([target.fd], [], [], 0.05)[0])


def force_off(tap: str) -> None:
    """Take the gate off a tap as a careless administrator would, with no regard for the agent."""
    bpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for pin in (BPFFS / "serai").glob(f"v*/links/{socket.if_nametoindex(tap)}-*"):
        link = bpf.bpf_obj_get(str(pin).encode())
        assert link >= 0
        assert bpf.bpf_link_detach(link) == 0
        os.close(link)


def plugged(*names: str) -> Iterator[Tap]:
    return map(plug, names)


def gated(agent: Agent, *names: str) -> bool:
    return {gate.tap for gate in agent.status().gates} == set(names)


@on_its_own
def test_a_tap_that_appears_has_a_closed_gate_within_moments(tmp_path: Path) -> None:
    agent = Agent(tmp_path).ready()
    first, second = plugged("t1", "t2")
    seconds = wait(lambda: gated(agent, "t1", "t2"), "both taps have gates")
    assert seconds < 1
    assert not passes(first, second)
    assert all(gate.vnic is None for gate in agent.status().gates)
    assert sum(drop.packets for drop in agent.status().drops) >= 1
    agent.stop()


@on_its_own
def test_a_gate_that_something_else_took_off_is_put_back_and_told(tmp_path: Path) -> None:
    first, second = plugged("t1", "t2")
    agent = Agent(tmp_path).ready()
    wait(lambda: gated(agent, "t1", "t2"), "both taps have gates")
    assert not passes(first, second)
    force_off("t1")
    force_off("t2")
    assert passes(first, second), "the test takes nothing off"
    wait(lambda: agent.status().restored_gates == 2, "the agent has put both back")
    assert not passes(first, second)
    assert "taken the gate off" in agent.log()
    agent.stop()


@on_its_own
def test_gates_outlive_the_agent_and_the_next_one_adopts_them(tmp_path: Path) -> None:
    first, second = plugged("t1", "t2")
    agent = Agent(tmp_path).ready()
    wait(lambda: gated(agent, "t1", "t2"), "both taps have gates")
    agent.stop(signal.SIGKILL)
    assert not passes(first, second)
    plug("t3").delete()  # comes and goes unseen
    again = Agent(tmp_path).ready()
    wait(lambda: gated(again, "t1", "t2"), "both gates are adopted")
    assert again.log().count("gate attached") == 2, "only the first agent attached"
    second.delete()
    wait(lambda: gated(again, "t1"), "the gate of a tap that goes is forgotten")
    plug("t2")
    wait(lambda: gated(again, "t1", "t2"), "the same name has a gate again")
    again.stop()


@on_its_own
def test_a_second_agent_refuses(tmp_path: Path) -> None:
    agent = Agent(tmp_path).ready()
    other = tmp_path / "other"
    other.mkdir()
    second = Agent(other)
    assert second.process.wait(PATIENCE) == 2
    assert "another agent guards this host already" in second.log()
    assert agent.status().pid == agent.process.pid
    agent.stop()


@on_its_own
def test_samples_of_drops_are_told(tmp_path: Path) -> None:
    first, second = plugged("t1", "t2")
    agent = Agent(tmp_path).ready()
    wait(lambda: gated(agent, "t1", "t2"), "both taps have gates")
    assert not passes(first, second)

    def told() -> bool:
        return bool(local.ask(agent.socket, local.Samples(), local.SamplesReply).samples)

    wait(told, "a sample")
    shown = subprocess.run(
        [*SERAI, "agent", "drops", "--socket", str(agent.socket)], check=True, capture_output=True, text=True
    )
    assert "unknown_vnic" in shown.stdout
    agent.stop()


@on_its_own
def test_limits_come_from_a_file_and_mistakes_in_it_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[idle_seconds]\ntcp_establised = 5\n")
    command = [*SERAI, "agent", "run", "--host", "a", "--config", str(file), "--state", str(tmp_path)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert refused.returncode == 2
    assert str(file) in refused.stderr
    assert "tcp_establised" in refused.stderr
    assert "tcp_established" in refused.stderr


def open_at(number: int) -> World:
    """Two VMs that may talk TCP with each other on one port."""
    vms = [machine("vm", VM, role="vm"), machine("peer", PEER, role="vm")]
    policies = tuple(policy(str(side), side, (ACCEPT, None, (port(TCP, number),))) for side in (IN, OUT))
    return World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=policies)


def rulesets(*numbers: int, host: str = "a") -> tuple[list[HostRuleset], list[Delta]]:
    """What a host is to enforce, one after the other, and the changes between."""
    world = open_at(numbers[0])
    compiler = Compiler.of(world.policies, Columns.of(world.vms.values()), dict.fromkeys(world.vms, (host,)))
    found, deltas = [compiler.ruleset(host)], []
    for number in numbers[1:]:
        deltas.append(compiler.update(Update.between(world, open_at(number)))[host])
        found.append(compiler.ruleset(host))
        world = open_at(number)
    return found, deltas


def opens(source: Tap, target: Tap, number: int) -> bool:
    """Say whether a connection to a port gets from one VM to the other."""
    target.received()
    source.send(V4.out(TCP, tcp(1000, number, SYN)))
    return bool(select.select([target.fd], [], [], 0.05)[0])


def definition(name: str, tap: str, mac: str) -> str:
    card = f"<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><target dev='{tap}'/></interface>"
    return f"<domain type='kvm'><name>{name}</name><devices>{card}</devices></domain>"


def guard(agent: Agent) -> None:
    """Tell the agent which VM is behind which tap."""
    for name, tap, mac in (("vm", "t1", MAC), ("peer", "t2", PEER_MAC)):
        reply = local.ask(agent.socket, local.Guard(definition=definition(name, tap, mac)), local.GuardReply)
        assert reply.guarded == [tap], agent.log()


def change(agent: Agent, raw: bytes) -> str:
    return local.ask(agent.socket, local.Change(delta=raw), local.ApplyReply).digest


def refusal(agent: Agent, raw: bytes) -> str:
    """Have a change refused, and return the sentence."""
    before = agent.status().digest
    with pytest.raises(local.AgentError) as caught:
        change(agent, raw)
    assert agent.status().digest == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@on_its_own
def test_a_change_is_enforced_and_kept_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    first, second = plugged("t1", "t2")
    agent = Agent(tmp_path).ready()
    (old, new, later), (delta, following) = rulesets(1, 2, 3)
    assert "there is none yet: send all of it" in refusal(agent, delta.encode())
    assert agent.status().digest is None

    assert local.ask(agent.socket, local.Apply(ruleset=old.encode()), local.ApplyReply).digest == old.digest
    guard(agent)
    assert [opens(first, second, number) for number in (1, 2, 3)] == [True, False, False]
    raw, (_, (theirs,)) = delta.encode(), rulesets(1, 2, host="b")
    for bad, sentence in (
        (following.encode(), f"for ruleset {new.digest[:12]} of host a, not for {old.digest[:12]} of a"),
        (theirs.encode(), "of host b, not for"),
        (raw[:-1], "these bytes are not a change of a ruleset"),
        (b"", "these bytes are not a change of a ruleset"),
        (dataclasses.replace(delta, add=delta.add[1:]).encode(), "comes out of this change, and"),
        (dataclasses.replace(delta, after=old.digest).encode(), "comes out of this change, and"),
        (old.encode(), "these bytes are not a change of a ruleset"),
    ):
        assert sentence in refusal(agent, bad)
        assert agent.status().digest == old.digest
    assert [opens(first, second, number) for number in (1, 2, 3)] == [True, False, False]

    assert change(agent, raw) == new.digest == agent.status().digest
    assert {gate.vnic for gate in agent.status().gates} == {"/acme/shop:vm/eth0", "/acme/shop:peer/eth0"}
    assert [opens(first, second, number) for number in (1, 2, 3)] == [False, True, False]
    assert f"this change is for ruleset {old.digest[:12]}" in refusal(agent, raw), "a replay"

    agent.stop(signal.SIGKILL)
    again = Agent(tmp_path).ready()
    assert again.status().digest == new.digest
    guard(again)
    assert [opens(first, second, number) for number in (1, 2, 3)] == [False, True, False]
    assert change(again, following.encode()) == later.digest == again.status().digest
    assert [opens(first, second, number) for number in (1, 2, 3)] == [False, False, True]
    again.stop()
