"""Draws a plan up, whole: looks, plans, proves, tells. It takes its time: whoever has others to serve does it elsewhere. No I/O."""

from __future__ import annotations

from serai.controller.planning.known import Known
from serai.controller.planning.survey import Survey, survey
from serai.controller.planning.telling import reply
from serai.migration.plan.answer import Plan
from serai.migration.plan.asked import Rebalance
from serai.migration.plan.planner import plan
from serai.migration.plan.proof import faults
from serai.wire.planapi import PlanReply, PlanRequest


class UnsoundError(RuntimeError):
    """A plan was made that is none: it is shown to nobody. The message says what is wrong with it."""


def draw(known: Known, request: PlanRequest) -> PlanReply:
    """Make a plan.

    Args:
        known: what is known now.
        request: names hosts that there are, or a pool that there is.

    Raises:
        UnsoundError: what was made does not hold.
    """
    seen = survey(known, request)
    made = _made(seen)
    if found := faults(seen.hosts.values(), seen.machines.values(), seen.goal, made):
        raise UnsoundError("; ".join(found))
    return reply(known, request, seen, made)


def _made(seen: Survey) -> Plan:
    if isinstance(seen.goal, Rebalance) and len(seen.goal.hosts) < 2:  # noqa: PLR2004 (there is nothing to compare)
        return Plan(rounds=(), proven=True)
    return plan(seen.hosts.values(), seen.machines.values(), seen.goal)
