"""A controller: all that people, tools and agents ask of it, in one place that only passes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final, TypeVar

import structlog

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.audit import Audit
from serai.controller.changes import Changes, told
from serai.controller.current import Current
from serai.controller.discretion import applied_for, errors_for
from serai.controller.errors import ConflictError, ForbiddenError, InvalidError, UnavailableError
from serai.controller.figures import figures
from serai.controller.hosts import Hosts
from serai.controller.moves.moves import Moves
from serai.controller.moves.requests import MoveRequests
from serai.controller.people import People
from serai.controller.placing.placing import Placing
from serai.controller.placing.pools import Pools
from serai.controller.planning.planning import Planning
from serai.controller.questions import Questions
from serai.controller.refusals import Refusals
from serai.controller.relocating.requests import RelocationRequests
from serai.controller.shard import Shard
from serai.controller.standing import Standing, may_see_hosts
from serai.controller.traffic.asking import Asking, Span
from serai.controller.traffic.counted import CounterQuestions
from serai.controller.traffic.learning import Learning
from serai.controller.traffic.questions import TrafficQuestions
from serai.controller.traffic.traffic import Traffic
from serai.controller.views import Views, proposal_of, require
from serai.controller.witnesses import Witnesses
from serai.model.definitions import DefinitionErrors
from serai.model.tenancy import ROOT
from serai.policy.compiler.fit import FitError
from serai.policy.compiler.numbering import CollisionError
from serai.store.errors import (
    JoinError,
    MoveError,
    NotWaitingError,
    PersonError,
    ProposalError,
    RelocationError,
    StoreError,
)
from serai.store.records import Entry, Proposal
from serai.store.store import Store
from serai.wire import api, flowapi, moveapi, placementapi, planapi, relocationapi

_log = structlog.get_logger(__name__)

_TICK_SECONDS: Final = 0.5
"""How often it is looked for changes that nobody has confirmed in time."""

T = TypeVar("T")


class Service:
    """What ``api/facade.py`` asks for. Each part does its own work; here stands what all need: clocks, refusals, the store's errors."""

    def __init__(
        self,
        store: Store,
        current: Current,
        *,
        shard: Shard,
        people: People,
        changes: Changes,
        views: Views,
        hosts: Hosts,
        standing: Standing,
        placing: Placing,
        pools: Pools,
        questions: Questions,
        traffic: Traffic,
        asking: Asking,
        audit: Audit,
        witnesses: Witnesses,
        moves: Moves,
        wanted: MoveRequests,
        planning: Planning,
        relocations: RelocationRequests,
        clock: Callable[[], datetime],
    ) -> None:
        """Nothing is done yet."""
        self._store, self._current, self._shard, self._clock = store, current, shard, clock
        self._people, self._changes, self._views, self._hosts = people, changes, views, hosts
        self._questions, self._audit, self._standing = questions, audit, standing
        self._witnesses, self._traffic, self._asked = witnesses, traffic, TrafficQuestions(asking)
        self._counted, self._placing, self._pools = CounterQuestions(asking), placing, pools
        self._moves, self._wanted = moves, wanted
        self._planning, self._relocations = planning, relocations
        self._learning = Learning(current, changes, self._asked, clock=clock)
        self._refusals = Refusals(store.people)

    async def run(self) -> None:
        """Do what time asks for, until cancelled: take back what nobody has confirmed, as long as this controller leads."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                await self._people.tick(self._clock())
                await self._refusals.flush(self._clock())
                if self._shard.term is not None:
                    await self._changes.take_back_overdue()
            except Exception as error:  # noqa: BLE001 (it is tried again)
                _log.error("cannot do what is due", error=str(error))

    # People

    async def authenticate(self, bearer: str) -> Caller | None:
        """Say whose token this is; None: nobody's."""
        return await _answered(self._people.authenticate(bearer, self._clock()))

    async def login_ways(self) -> api.LoginWays:
        """Say how people log in."""
        ways = self._people.login_ways()
        return api.LoginWays(issuer=ways[0], client=ways[1]) if ways else api.LoginWays()

    async def login(self, body: api.Login, address: str) -> api.Token:
        """Give a person a token for a session."""
        return await _answered(self._people.login(body, address, self._clock()))

    async def login_oidc(self, id_token: str, secret: str, address: str) -> api.Token:
        """Do the same for somebody for whom an OpenID provider speaks."""
        return await _answered(self._people.login_oidc(id_token, secret, address, self._clock()))

    async def whoami(self, who: Caller) -> api.Person:
        """Say who they are."""
        return await _answered(self._people.whoami(who))

    async def people(self, who: Caller) -> Sequence[api.Person]:
        """List people, by name."""
        return await _answered(self._people.people(who, self._clock()))

    async def put_person(self, who: Caller, body: api.PersonRequest) -> api.Person:
        """Make somebody, or make them otherwise."""
        return await _answered(self._people.put_person(who, body, self._clock()))

    async def tokens(self, who: Caller) -> Sequence[api.Token]:
        """List one's tokens."""
        return await _answered(self._people.tokens(who))

    async def add_token(self, who: Caller, body: api.TokenRequest) -> api.Token:
        """Make a token for oneself."""
        return await _answered(self._people.add_token(who, body, self._clock()))

    async def revoke_token(self, who: Caller, token: str) -> None:
        """Make a token worthless."""
        await _answered(self._people.revoke_token(who, token, self._clock()))

    # Resources and changes

    async def resources(
        self,
        who: Caller,
        *,
        kind: str | None,
        scope: str | None,
        labels: Mapping[str, str],
        limit: int,
        after: str | None,
    ) -> api.Page:
        """List what is in force."""
        return await _answered(
            self._views.resources(who, kind=kind, scope=scope, labels=labels, limit=limit, after=after)
        )

    async def resource(self, who: Caller, kind: str, path: str) -> api.Resource:
        """Show one resource in force."""
        return await _answered(self._views.resource(who, kind, path))

    async def plan(self, who: Caller, body: api.ChangeRequest) -> api.Plan:
        """Say what a change would do."""
        draft, hosts, needs = await _discreetly(who, _answered(self._changes.plan(who, body)))
        return api.Plan(
            digest=draft.digest, base=draft.edition.revision, steps=told(draft.steps), hosts=list(hosts) if may_see_hosts(who) else [], approvals=needs,
            connections=await self._questions.connections(who, draft),
        )  # fmt: skip

    async def apply(self, who: Caller, body: api.ChangeRequest) -> api.Applied | api.Proposed:
        """Make a change, or propose it where it needs a second person."""
        made = await self._told(who, "apply", self._changes.apply(who, body))
        return applied_for(who, made) if isinstance(made, api.Applied) else made

    async def confirm(self, who: Caller, revision: int) -> api.Revision:
        """Let a change stand."""
        await self._told(who, "confirm", self._changes.confirm(who, revision))
        return await _answered(self._views.revision(who, revision))

    async def rollback(self, who: Caller, body: api.RollbackRequest) -> api.Applied | api.Proposed:
        """Make everything as it was."""
        made = await self._told(who, "roll back", self._changes.roll_back(who, body))
        return applied_for(who, made) if isinstance(made, api.Applied) else made

    async def revisions(self, who: Caller, *, before: int | None, limit: int) -> Sequence[api.Revision]:
        """List changes, the latest first."""
        return await _answered(self._views.revisions(who, before=before, limit=limit))

    async def revision(self, who: Caller, number: int) -> api.Revision:
        """Show one change."""
        return await _answered(self._views.revision(who, number))

    def watch(self, who: Caller, since: int) -> AsyncIterator[api.Revision]:
        """Tell every change after a revision, for ever."""
        return self._views.watch(who, since)

    async def proposals(self, who: Caller) -> Sequence[api.Proposal]:
        """List proposals, the latest first."""
        return await _answered(self._views.proposals(who))

    async def approve(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal | api.Applied:
        """Stand behind a proposal; it is applied where enough people do."""
        made = await self._told(who, "approve", self._changes.approve(who, proposal, body))
        return proposal_of(self._current.edition, made) if isinstance(made, Proposal) else applied_for(who, made)

    async def reject(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal:
        """Close a proposal."""
        made = await self._told(who, "reject", self._changes.reject(who, proposal, body))
        return proposal_of(self._current.edition, made)

    # Hosts

    async def status(self, who: Caller) -> api.Status:
        """Say where everything stands."""
        return await _answered(self._standing.status(who))

    async def host(self, who: Caller, name: str) -> api.HostStatus:
        """Say where one host stands, with its gates."""
        return await _answered(self._standing.host(who, name))

    async def wait(self, who: Caller, revision: int, seconds: float) -> api.Status:
        """Wait until all hosts hold a revision, or the time is over."""
        return await _answered(self._standing.wait(who, revision, seconds))

    async def revoke_host(self, who: Caller, name: str) -> None:
        """Make the certificate of a host worthless."""
        await self._told(who, "revoke", self._hosts.revoke(who, name))

    async def join_token(self, who: Caller, body: api.JoinTokenRequest) -> api.JoinToken:
        """Let a host join."""
        return await self._told(who, "let a host join", self._hosts.token(who, body))

    async def join(self, body: api.JoinRequest) -> api.Certificate:
        """Take in a host that shows a join token."""
        return await self._told(None, "join", self._hosts.join(body))

    async def renew(self, body: api.RenewRequest) -> api.Certificate:
        """Give a host another certificate whose last one is over."""
        return await self._told(None, "renew", self._hosts.renew(body))

    async def ca(self) -> str:
        """Give the certificate of the site's CA, in PEM."""
        return self._hosts.ca

    # Where VMs may run

    async def placement(self, who: Caller) -> placementapi.PlacementReport:
        """Say what is wrong about where VMs are, and whom hosts can meet."""
        return await _answered(self._placing.report(who))

    async def pools(self, who: Caller) -> placementapi.Pools:
        """List pools, and which of their hosts do not fit."""
        return await _answered(self._pools.all(who))

    async def admission(self, who: Caller, pool: str, host: str) -> placementapi.Admission:
        """Say in what a host does not fit a pool."""
        return await _answered(self._pools.admission(who, pool, host))

    # Moves

    async def move_vm(self, who: Caller, body: moveapi.MoveRequest) -> moveapi.Move:
        """Have a VM moved."""
        return await self._told(who, "move", self._wanted.ask(who, body))

    async def moves(
        self, who: Caller, *, vm: str | None, host: str | None, still_open: bool, before: int | None, limit: int
    ) -> moveapi.MoveList:
        """List moves, the latest first."""
        return await _answered(
            self._wanted.moves(who, vm=vm, host=host, still_open=still_open, before=before, limit=limit)
        )

    async def move(self, who: Caller, name: str, *, seen: int | None, seconds: float) -> moveapi.Move:
        """Show a move, or wait until it has come further than it was seen."""
        return await _answered(self._wanted.move(who, name, seen=seen, seconds=seconds))

    async def abort_move(self, who: Caller, name: str, body: moveapi.AbortRequest) -> moveapi.Move:
        """Have a move aborted."""
        return await self._told(who, "abort a move", self._wanted.abort(who, name, body))

    async def move_proof(self, who: Caller, name: str, *, since: int) -> moveapi.MoveProof:
        """Prove that the audit log has the receipt of a move."""
        return await _answered(self._wanted.proof(who, name, since=since))

    async def plan_moves(self, who: Caller, body: planapi.PlanRequest) -> planapi.PlanReply:
        """Say who would move where, so that hosts become empty, or a pool level."""
        return await self._told(who, "plan moves", self._planning.plan(who, body))

    async def relocate(self, who: Caller, body: relocationapi.RelocationRequest) -> relocationapi.RelocationShown:
        """Have a plan of moves made, and carried out."""
        return await self._told(who, "relocate", self._relocations.ask(who, body))

    async def relocations(self, who: Caller, *, before: int | None, limit: int) -> relocationapi.RelocationList:
        """List relocations, the latest first."""
        return await _answered(self._relocations.relocations(who, before=before, limit=limit))

    async def relocation(
        self, who: Caller, name: str, *, seen: int | None, seconds: float
    ) -> relocationapi.RelocationShown:
        """Show a relocation, or wait until it has come further than it was seen."""
        return await _answered(self._relocations.relocation(who, name, seen=seen, seconds=seconds))

    async def stop_relocation(
        self, who: Caller, name: str, body: relocationapi.StopRequest
    ) -> relocationapi.RelocationShown:
        """Have no more moves of a relocation begin."""
        return await self._told(who, "stop a relocation", self._relocations.stop(who, name, body))

    # Questions

    async def can(self, who: Caller, body: api.Question) -> api.Answer:
        """Answer what ``serai can`` asks."""
        return await _answered(self._questions.can(who, body))

    async def reach(self, who: Caller, body: api.ReachQuestion) -> api.Answer:
        """Answer what ``serai reach`` asks."""
        return await _answered(self._questions.reach(who, body))

    async def diff(self, who: Caller, body: api.ChangeRequest) -> api.Answer:
        """Answer which connections a change would open and close."""
        draft, _hosts, _needs = await _discreetly(who, _answered(self._changes.plan(who, body)))
        return await _answered(self._questions.diff(who, draft))

    # Traffic

    async def flows(self, who: Caller, span: Span, *, limit: int, after: str | None) -> flowapi.FlowPage:
        """List records of traffic, the latest first."""
        return await self._asked.flows(who, span, limit=limit, after=after)

    async def top(self, who: Caller, span: Span, *, by: str, group: str, limit: int) -> flowapi.Top:
        """List the most of something."""
        return await self._asked.top(who, span, by=by, group=group, limit=limit)

    async def trend(self, who: Caller, span: Span, *, of: str, by: str, steps: int) -> flowapi.Trend:
        """Say how traffic went."""
        return await self._asked.trend(who, span, of=of, by=by, steps=steps)

    async def service_map(
        self, who: Caller, span: Span, *, scope: str, group: str, depth: int, limit: int
    ) -> flowapi.ServiceMap:
        """Say which groups talk to which."""
        return await self._asked.map(who, span, scope=scope, group=group, depth=depth, limit=limit)

    async def suggest(self, who: Caller, body: flowapi.SuggestRequest) -> flowapi.Suggestion:
        """Write the least policy that admits what was seen."""
        return await _answered(self._learning.suggest(who, body))

    async def whatif(self, who: Caller, body: flowapi.WhatIfRequest) -> flowapi.WhatIf:
        """Replay what was seen against other policies."""
        return await _discreetly(who, _answered(self._learning.whatif(who, body)))

    async def spoke(self, who: Caller, span: Span, *, vm: str, limit: int) -> flowapi.Who:
        """Say with whom a VM spoke."""
        return await self._asked.who(who, span, vm=vm, limit=limit)

    async def drops(self, who: Caller, span: Span, *, of: str, limit: int) -> flowapi.Drops:
        """Say what gates dropped, and why."""
        return await self._counted.drops(who, span, of=of, limit=limit)

    async def sightings(self, who: Caller, span: Span, *, vm: str) -> flowapi.Sightings:
        """Say what the links of a VM needed to work."""
        return await self._counted.sightings(who, span, vm=vm)

    # The audit log

    async def audit(
        self, who: Caller, *, after: int | None, limit: int, scope: str | None, verb: str | None, by: str | None
    ) -> api.AuditPage:
        """List the audit log, oldest first."""
        return await _answered(self._audit.page(who, after=after, limit=limit, scope=scope, verb=verb, by=by))

    async def checkpoint(self, who: Caller) -> api.Checkpoint:
        """Show the latest checkpoint of the audit log."""
        return await _answered(self._audit.checkpoint(who))

    async def audit_export(self, who: Caller) -> AsyncIterator[bytes]:
        """Give the whole audit log, a record a line, and its checkpoint."""
        return await _answered(self._audit.export(who))

    async def audit_verify(self, who: Caller, checkpoints: Sequence[str]) -> api.AuditVerdict:
        """Look for anything that was done to the audit log behind the controllers' backs."""
        return await _answered(self._audit.verify(who, checkpoints))

    # How this controller is

    async def health(self) -> api.Health:
        """Say whether this controller does what it should."""
        parts = self._troubles() | {"leader": ""}
        if not parts["database"] and self._shard.term is None and not await self._standing.somebody_leads():
            parts["leader"] = (
                "no controller leads: hosts go on with what they hold; look at the logs of the controllers"
            )
        told = {name: trouble or "ok" for name, trouble in parts.items()}
        return api.Health(ok=not any(parts.values()), parts=told, version=version("serai"))

    def _troubles(self) -> dict[str, str]:
        """What is wrong, by part; empty where nothing is."""
        return {
            "database": self._current.trouble, "compiler": self._shard.trouble, "audit": self._witnesses.trouble,
            "confirmations": self._changes.trouble, "flows": self._traffic.trouble,
        }  # fmt: skip

    async def metrics(self, who: Caller) -> bytes:
        """Count, in the text format of Prometheus."""
        require(who, Verb.READ_METRICS)
        return figures(self._current, self._shard, self._moves, self._traffic, self._troubles())

    async def _told(self, who: Caller | None, verb: str, doing: Awaitable[T]) -> T:
        """Do something; that somebody was not let is on record."""
        try:
            return await (_discreetly(who, _answered(doing)) if who else _answered(doing))
        except ForbiddenError as error:
            name = who.name if who else "nobody"
            entry = Entry(
                who=name, verb=verb, object="", scope=ROOT, outcome="refused",
                detail={"why": str(error), "token": who.token if who else ""},
            )  # fmt: skip
            await _answered(self._refusals.tell(entry, name, self._clock()))
            raise


async def _discreetly(who: Caller, doing: Awaitable[T]) -> T:
    """Do something; what is wrong with it is told without the names of what this person may not see."""
    try:
        return await doing
    except DefinitionErrors as errors:
        raise errors_for(who, errors) from errors


async def _answered(doing: Awaitable[T]) -> T:
    """Do something, and tell what the store has against it as the API does."""
    try:
        return await doing
    except JoinError as error:
        raise ForbiddenError(str(error)) from error
    except (ProposalError, NotWaitingError, PersonError, MoveError, RelocationError) as error:
        raise ConflictError(str(error)) from error
    except (FitError, CollisionError) as error:
        raise InvalidError(str(error)) from error
    except StoreError as error:
        raise UnavailableError(str(error), retry_seconds=2) from error
