"""An agent that finds the gates of an older layout: it replaces them, and nobody notices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from frames import ACK, SYN, TCP, UDP, tcp, udp
from oldhosts import ALLOWED, EACH, FORBIDDEN, OUT, Flood, Host, Stream, names, of_layout_2, upgraded

from serai.datapath import attach, layout, upgrade
from serai.datapath.gates import Gates
from serai.datapath.libbpf import KernelError
from serai.model.reasons import Reason


def check_all_is_well(host: Host, gates: Gates) -> None:
    assert names(host.bpffs) == {f"v{layout.VERSION}"}
    links = host.bpffs / f"v{layout.VERSION}" / "links"
    if links.exists():  # clsact filters have none
        assert names(links) == {f"{host.vm.ifindex}-{name}" for name in ("from_vm", "to_vm")}
    assert not gates.attach(host.vm.ifindex)
    assert gates.is_attached(host.vm.ifindex)
    assert gates.bound() == {host.vm.ifindex: host.vnic.id}
    assert host.talk(110, 501)
    assert host.out(UDP, udp(1, ALLOWED), source="10.0.0.9")
    assert not host.out(UDP, udp(1, ALLOWED), source="10.0.0.8")
    assert not host.out(UDP, udp(1, FORBIDDEN))
    (flow,) = [row for row in gates.flows.rows(0) if row.protocol == TCP]
    assert (flow.packets_out, flow.packets_in) == (3, 3)
    drops = {(drop.direction, drop.reason): drop.packets for drop in gates.drops()}
    assert drops[OUT, Reason.DENIED] >= 2
    assert drops[OUT, Reason.FOREIGN_IP] == 1


@pytest.mark.parametrize("has_tcx", [True, False], ids=["tcx", "clsact"])
@EACH
def test_nothing_is_lost_and_nothing_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: int, has_tcx: bool
) -> None:
    under_load(tmp_path, monkeypatch, version=version, has_tcx=has_tcx)


@upgraded
def under_load(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    with Flood(host) as flood:
        gates = host.start()
    assert flood.sent > 100
    assert flood.leaked == 0
    assert flood.arrived == flood.sent
    assert gates.upgraded == [host.vm.ifindex]
    check_all_is_well(host, gates)
    denied = next(d.packets for d in gates.drops() if (d.direction, d.reason) == (OUT, Reason.DENIED))
    assert denied <= flood.sent + 2
    assert denied == flood.sent + 2 or host.version == 1, "where both gates count in the same place, it is exact"
    gates.close()


@upgraded
def test_the_next_start_finds_nothing_to_do(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    host.start().close()
    again = host.start()
    assert again.upgraded == []
    check_all_is_well(host, again)
    again.close()


@upgraded
def test_rules_that_stay_judge_no_flow_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    gates = host.start()
    gates.prepare(host.rules)
    gates.bind({host.vm.ifindex: host.vnic})
    assert gates.discard_others(host.rules)
    check_all_is_well(host, gates)
    gates.close()


STEPS: list[tuple[int, tuple[Any, str, int]]] = [
    (1, (upgrade, "_carry_tables", 1)),
    (1, (upgrade, "_carry_flows", 1)),
    (1, (upgrade, "_carry_records", 1)),
    (1, (attach.Attacher, "_adopt", 1)),
    (1, (attach.Attacher, "_adopt", 2)),
    (1, (upgrade, "_carry_flows", 2)),
    (1, (upgrade, "_remove", 1)),
    (2, (upgrade, "check", 5)),
    (2, (upgrade, "_tables_v2", 1)),
    (2, (upgrade, "_carry_tables_v2", 1)),
    (2, (attach.Attacher, "_adopt", 1)),
    (2, (attach.Attacher, "_adopt", 2)),
    (2, (upgrade, "_carry_tables_v2", 3)),
    (2, (upgrade, "_remove", 1)),
]


@pytest.mark.parametrize(
    ("version", "step"), STEPS, ids=[f"v{version}-{name}-{time}" for version, (_, name, time) in STEPS]
)
def test_cut_short_it_is_finished_by_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, step: tuple[Any, str, int]
) -> None:
    cut_short(tmp_path, monkeypatch, version=version, step=step)


@upgraded
def cut_short(host: Host, monkeypatch: pytest.MonkeyPatch, *, step: tuple[Any, str, int]) -> None:
    place, name, time = step
    calls = 0
    real = getattr(place, name)

    def dies(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        done = real(*arguments)
        if calls == time:
            raise KernelError(5, "cut short")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dies)
        with pytest.raises(KernelError, match="cut short"):
            host.start()
    assert not host.out(UDP, udp(1, FORBIDDEN)), "whichever gate is there, one is"
    gates = host.start()
    check_all_is_well(host, gates)
    gates.close()


@upgraded
def test_a_tap_that_has_gone_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    host.vm.delete()
    gates = host.start()
    assert gates.upgraded == []
    assert gates.bound() == {}
    assert names(host.bpffs) == {f"v{layout.VERSION}"}
    gates.close()


@upgraded
def test_gates_of_a_newer_agent_are_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    (host.bpffs / "v99").mkdir()
    with pytest.raises(KernelError, match="layout 99"):
        host.start()
    assert not host.out(UDP, udp(1, FORBIDDEN))
    assert host.talk(110, 501)
    assert (host.bpffs / f"v{host.version}").exists()


@upgraded
def test_a_stream_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    stream = Stream(host)
    stream.start()
    try:
        gates = host.start()
        then, until = stream.segments, time.monotonic() + 10
        while stream.segments < then + 20 and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        stream.over.set()
        stream.join()
    assert stream.segments >= then + 20, f"it stands still at {stream.seq}"
    gates.close()


@of_layout_2
def test_windows_are_kept(host: Host) -> None:
    gates = host.start()
    assert not host.out(TCP, tcp(1000, ALLOWED, ACK, b"x", seq=100_000, ack=501))
    assert host.talk(110, 501)
    gates.close()


@of_layout_2
def test_a_connection_whose_answer_comes_after_is_not_timed(host: Host) -> None:
    assert host.out(TCP, tcp(1001, ALLOWED, SYN, seq=100))
    gates = host.start()
    assert host.into(TCP, tcp(ALLOWED, 1001, SYN | ACK, seq=500, ack=101))
    assert host.out(TCP, tcp(1002, ALLOWED, SYN, seq=100))
    assert host.into(TCP, tcp(ALLOWED, 1002, SYN | ACK, seq=500, ack=101))
    table = gates.flows.table(host.vnic.id)
    assert table is not None
    times = {int(key["local_port"]): int(flow["rtt_us"]) for key, flow in zip(*table.dump(), strict=True)}
    assert (times[1000], times[1001]) == (0, 0)
    assert times[1002] > 0
    gates.close()


@of_layout_2
def test_records_of_denials_go_on(host: Host) -> None:
    gates = host.start()
    (row,) = gates.denials.rows(0)
    before = row.packets_out
    assert before >= 1
    assert not host.out(UDP, udp(1, FORBIDDEN))
    (row,) = gates.denials.rows(0)
    assert row.packets_out == before + 1
    gates.close()


@of_layout_2
def test_old_tables_are_let_go(host: Host) -> None:
    gates = host.start()
    flows = host.bpffs / f"v{layout.VERSION}" / "flows"
    assert names(flows) == {str(slot) for slot in gates._slots.given.values()}
    gates.close()
    again = host.start()
    assert host.talk(110, 501)
    again.close()


def test_both_layouts_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent of layout 2 that had hardly begun with the gates of layout 1."""
    beside_layout_2(tmp_path, monkeypatch, version=1)


@upgraded
def beside_layout_2(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    (host.bpffs / "v2" / "maps").mkdir(parents=True)
    gates = host.start()
    assert gates.upgraded == [host.vm.ifindex]
    check_all_is_well(host, gates)
    gates.close()
