"""What several gates told of one conversation: whether it was let pass, and who scans."""

from __future__ import annotations

from ipaddress import ip_address

from recording import NOW

from serai.model.flow_record import Verdict
from serai.model.policy import Direction
from serai.policy.traffic.kinds import Kind, kinds, scans
from serai.policy.traffic.seen import Conversation

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
ACCEPTED, DENIED, OBSERVED = Verdict.ACCEPTED, Verdict.DENIED, Verdict.OBSERVED


def told(side: Direction, verdict: Verdict, connections: int = 3, unanswered: int = 0, **more: object) -> Conversation:
    fields = {
        "source": "/a:x", "target": "/a:y", "protocol": 6, "port": 80, "first": NOW, "last": NOW, "packets": 9,
        "verdict": verdict, "side": side, "connections": connections, "unanswered": unanswered,
    }  # fmt: skip
    return Conversation(**fields | more)  # type: ignore[arg-type]


def passed(*several: Conversation) -> int | None:
    [kind] = kinds(several)
    return kind.admitted and kind.admitted.connections


def test_one_gate_speaks_for_both() -> None:
    assert passed(told(EGRESS, ACCEPTED)) == 3
    assert passed(told(INGRESS, OBSERVED)) == 3
    assert passed(told(EGRESS, DENIED)) is None


def test_what_both_gates_told_counts_once() -> None:
    assert passed(told(EGRESS, ACCEPTED, 5), told(INGRESS, ACCEPTED, 4)) == 5
    assert passed(told(EGRESS, ACCEPTED, 5), told(EGRESS, OBSERVED, 2)) == 7


def test_what_the_target_denies_was_not_let_pass() -> None:
    assert passed(told(EGRESS, ACCEPTED, 5, 5), told(INGRESS, DENIED, 0)) is None
    assert passed(told(EGRESS, ACCEPTED, 5), told(INGRESS, DENIED, 0), told(INGRESS, OBSERVED, 1)) == 5


def test_what_was_answered_was_let_pass_at_times() -> None:
    assert passed(told(EGRESS, ACCEPTED, 5, 2), told(INGRESS, DENIED, 0)) == 5
    # No other protocol tells whether there were answers.
    assert passed(told(EGRESS, ACCEPTED, 5, protocol=17), told(INGRESS, DENIED, 0, protocol=17)) is None
    assert passed(told(EGRESS, DENIED, 0), told(INGRESS, ACCEPTED, 5)) is None


def test_other_ports_and_addresses_are_of_another_kind() -> None:
    both = [told(EGRESS, ACCEPTED), told(INGRESS, ACCEPTED)]
    assert len(kinds(both)) == 1
    assert len(kinds([*both, told(EGRESS, ACCEPTED, port=81)])) == 2
    assert len(kinds([*both, told(EGRESS, ACCEPTED, source_address=ip_address("10.0.0.1"))])) == 2


def tried(ports: range, unanswered: int) -> list[Kind]:
    return kinds(told(EGRESS, ACCEPTED, 1, unanswered, port=port) for port in ports)


def found(several: list[Kind]) -> list[tuple[str, int, int, int]]:
    pairs = [(kind, kind.admitted) for kind in several if kind.admitted]
    return [(scan.source, scan.ports, scan.targets, len(scan.left_out)) for scan in scans(pairs)]


def test_who_tries_too_many_ports_scans() -> None:
    assert not found(tried(range(1, 101), 1))
    assert found(tried(range(1, 102), 1)) == [("/a:x", 101, 1, 101)]
    # What had an answer, but once only, belongs to it.
    assert found([*tried(range(1, 102), 1), *tried(range(200, 203), 0)]) == [("/a:x", 101, 1, 104)]
    assert not found(tried(range(1, 500), 0))


def test_who_tries_too_many_targets_scans() -> None:
    several = kinds(
        told(EGRESS, ACCEPTED, 1, 1, target=None, target_address=ip_address(f"192.0.2.{n}")) for n in range(101)
    )
    assert found(several) == [("/a:x", 1, 101, 101)]
