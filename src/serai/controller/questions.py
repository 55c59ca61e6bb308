"""Questions of people about what is in force, and about what a change would make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from serai.access.decide import Caller, Refused, Subject, decide
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.drafts import Draft
from serai.controller.errors import ForbiddenError, TooLargeError
from serai.controller.requests import invalid
from serai.controller.views import may_see
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World
from serai.policy.questions.form import answer_can, answer_diff, answer_reach, openings
from serai.policy.questions.question import QuestionError
from serai.wire import api

MOST_VMS: Final = 400
"""The most VMs whose connections are calculated for a plan, or for one question: it goes by their square."""


class Questions:
    """Answers them beside the event loop, as far as whoever asks may see.

    Who may not see every VM is told of a data center that has only those that they may see; all policies count there. To an address
    that a VM of somebody else holds, a rule that selects VMs does then not apply.
    """

    def __init__(self, current: Current) -> None:
        """Ask that."""
        self._current = current

    async def can(self, who: Caller, question: api.Question) -> api.Answer:
        """Say whether one end can open a connection to another.

        Raises:
            ForbiddenError: this person may ask nothing.
            InvalidError: the question makes no sense.
        """
        return await self._answer(
            who, lambda world: answer_can(world, question.source, question.target, question.service)
        )

    async def reach(self, who: Caller, question: api.ReachQuestion) -> api.Answer:
        """Say who can open connections to whom.

        Raises:
            ForbiddenError: this person may ask nothing.
            InvalidError: the question makes no sense.
            TooLargeError: it is about too many VMs.
        """

        def answer(world: World) -> dict[str, Any]:
            if len(world.vms) > MOST_VMS:
                raise TooLargeError(
                    f"this is about {len(world.vms)} VMs, and {MOST_VMS} is what is calculated at once: ask with an account that"
                    " sees a part, or ask of files with 'serai reach DIRECTORY'"
                )
            return answer_reach(world, question.source, question.target)

        return await self._answer(who, answer)

    async def diff(self, who: Caller, draft: Draft) -> api.Answer:
        """Say which connections a change opens and closes, as far as this person may see.

        Raises:
            TooLargeError: it is about too many VMs.
        """
        both = _concerned(who, draft)
        if both is None:
            raise TooLargeError(f"this change is about more than {MOST_VMS} VMs: look at a part of it")
        return api.Answer(revision=draft.edition.revision, answer=await self._current.work(answer_diff, *both))

    async def connections(self, who: Caller, draft: Draft) -> list[api.Opening] | None:
        """Say the same in short; None where it is too much."""
        both = _concerned(who, draft)
        if both is None:
            return None
        found = await self._current.work(openings, *both)
        return [
            api.Opening(
                change="opens" if change == "opens" else "closes", sources=sources, targets=targets, ports=ports
            )
            for change, sources, targets, ports in found
        ]

    async def _answer(self, who: Caller, ask: Callable[[World], dict[str, Any]]) -> api.Answer:
        if not any(not isinstance(decide(who, Verb.ASK, Subject(scope=grant.scope)), Refused) for grant in who.grants):
            raise ForbiddenError("your roles do not let you ask: a viewer may")
        edition = await self._current.catch_up()
        try:
            answer = await self._current.work(lambda: ask(visible(who, edition.catalog.world)))
        except QuestionError as error:
            raise invalid("question", str(error)) from error
        return api.Answer(revision=edition.revision, answer=answer)


def visible(who: Caller, world: World) -> World:
    """Return a world of those VMs only that somebody may see, under all policies."""
    if may_see(who, ROOT):
        return world
    visible = {scope: may_see(who, scope) for scope in {vm.scope for vm in world.vms.values()}}
    return dataclasses.replace(world, vms={path: vm for path, vm in world.vms.items() if visible[vm.scope]})


def _concerned(who: Caller, draft: Draft) -> tuple[World, World] | None:
    """Return the parts of the worlds before and after where connections may differ; None where they are too large.

    A VM that changes concerns its routing domains; a policy, those of the VMs in its scope.
    """
    old, new, update = visible(who, draft.edition.catalog.world), visible(who, draft.catalog.world), draft.update
    scopes = [Scope(path.rpartition(":")[0]) for path in update.policies]
    if update.last_word is not None or update.quarantine is not None:
        scopes.append(ROOT)
    domains = {
        vnic.network.routing_domain
        for world in (old, new)
        for path, vm in world.vms.items()
        if path in update.vms or any(scope.contains(vm.scope) for scope in scopes)
        for vnic in vm.vnics
    }
    both = tuple(_within(world, domains) for world in (old, new))
    return None if max(len(world.vms) for world in both) > MOST_VMS else (both[0], both[1])


def _within(world: World, domains: set[str]) -> World:
    there = {
        path: vm for path, vm in world.vms.items() if any(vnic.network.routing_domain in domains for vnic in vm.vnics)
    }
    return dataclasses.replace(world, vms=there)
