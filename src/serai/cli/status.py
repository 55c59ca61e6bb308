"""How one agent's status is shown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from serai.cli.show import line
from serai.model.reasons import Reason
from serai.wire import local


def gate_table(*before: str) -> Table:
    """An empty table of gates, with columns ``before`` in front."""
    table = Table(box=None, pad_edge=False)
    for heading in (*before, "TAP", "DOMAIN", "VNIC", "GATE", "DROPPED"):
        table.add_column(heading, justify="right" if heading == "DROPPED" else "left")
    return table


def add_gates(table: Table, reply: local.StatusReply, *before: str) -> None:
    """Add a row for each gate, with the cells ``before`` in front."""
    dropped: dict[int, int] = {}
    for drop in reply.drops:
        dropped[drop.vnic_id] = dropped.get(drop.vnic_id, 0) + drop.packets
    for gate in reply.gates:
        state = gate.mode or "closed: nobody is known behind this tap"
        packets = dropped.get(gate.vnic_id, 0) if gate.vnic_id else 0
        table.add_row(*before, gate.tap, gate.domain or "-", gate.vnic or "-", state, str(packets))


def show_status(to: Console, reply: local.StatusReply) -> None:
    """Print an agent's status for a person."""
    ruleset = f"ruleset {reply.digest[:12]}" if reply.digest else "no ruleset yet: all gates are closed"
    line(to, f"Agent {reply.pid}, up {reply.uptime_seconds:.0f} s, {ruleset}, {reply.flows} flows.")
    for number, what in _troubles(reply):
        if number:
            line(to, f"Note: {number} {what}.")
    if reply.link is not None:
        line(to, _linked(reply.link))
    if reply.records is not None:
        line(to, _recorded(reply.records))
    for move in reply.moves:
        line(to, f"Move of {move.vm} from {move.source} to {move.to}: {move.phase} here.")
    if not reply.gates:
        line(to, "No taps.")
        return
    table = gate_table()
    add_gates(table, reply)
    to.print(table)


def _linked(link: local.LinkStatus) -> str:
    if link.fenced:
        return f"Fenced: {link.trouble}."
    told = (
        f"Linked to {link.url} (epoch {link.epoch}, term {link.term})"
        if link.connected
        else "Not linked to a controller"
    )
    return f"{told}{f': {link.trouble}' if link.trouble else ''}."


def _recorded(records: local.RecordsStatus) -> str:
    waiting = f"{records.records} records of traffic wait on disk ({records.bytes / 1e6:.1f} MB)"
    lost = f", {records.lost} lost" if records.lost else ""
    return f"{waiting}, {records.sent} sent{lost}{f': {records.trouble}' if records.trouble else ''}."


def _troubles(reply: local.StatusReply) -> tuple[tuple[int, str], ...]:
    return (
        (reply.restored_gates, "times something else took a gate off its tap, and the agent put it back"),
        (reply.lost_denials, "dropped packets are counted by reason only: there were too many kinds of them"),
        (reply.lost_events, "samples or ended flows were lost: the gates told more than the agent could read"),
        (reply.forgotten_flows, "ended flows were forgotten before anybody read them"),
        (reply.forgotten_denials, "records of denials were forgotten before anybody read them"),
    )


def status_fields(reply: local.StatusReply) -> dict[str, object]:
    """The same for a program."""
    return {
        "pid": reply.pid,
        "uptimeSeconds": reply.uptime_seconds,
        "digest": reply.digest,
        "flows": reply.flows,
        "forgottenFlows": reply.forgotten_flows,
        "forgottenDenials": reply.forgotten_denials,
        "lostDenials": reply.lost_denials,
        "lostEvents": reply.lost_events,
        "restoredGates": reply.restored_gates,
        "link": _link_fields(reply.link) if reply.link else None,
        "records": _records_fields(reply.records) if reply.records else None,
        "moves": [
            {"move": m.move, "vm": m.vm, "from": m.source, "to": m.to, "phase": m.phase}
            for m in reply.moves
        ],
        "gates": [
            {
                "tap": g.tap, "ifindex": g.ifindex, "domain": g.domain, "mac": g.mac, "vnic": g.vnic,
                "mode": g.mode,
            }
            for g in reply.gates
        ],
        "drops": [
            {
                "vnic": next((g.vnic for g in reply.gates if g.vnic_id == d.vnic_id), None),
                "direction": d.direction, "reason": Reason(d.reason).name.lower(), "packets": d.packets,
            }
            for d in reply.drops
        ],
    }  # fmt: skip


def _link_fields(link: local.LinkStatus) -> dict[str, object]:
    until = link.certificate_until
    return {
        "connected": link.connected,
        "url": link.url,
        "epoch": link.epoch,
        "term": link.term,
        "fenced": link.fenced,
        "trouble": link.trouble,
        "certificateUntil": until.isoformat() if until else None,
        "clockSkewSeconds": link.clock_skew_seconds,
    }


def _records_fields(records: local.RecordsStatus) -> dict[str, object]:
    return {
        "batches": records.batches,
        "records": records.records,
        "bytes": records.bytes,
        "sent": records.sent,
        "removed": records.removed,
        "lost": records.lost,
        "trouble": records.trouble,
    }
