"""What the HTTP API asks of the service behind it.

Whoever implements this raises the exceptions of ``serai.controller.errors``, and decides who may do what: the API knows
only who asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from serai.access.decide import Caller
from serai.controller.traffic.asking import Span
from serai.wire import api, flowapi, moveapi, placementapi, planapi, relocationapi


class Facade(Protocol):
    """A controller, as people and their tools see it."""

    async def authenticate(self, bearer: str) -> Caller | None:
        """Say whose token this is; None: nobody's."""
        ...

    async def login_ways(self) -> api.LoginWays:
        """Say how people log in."""
        ...

    async def login(self, body: api.Login, address: str) -> api.Token:
        """Give a person a token for a session. ``address``: where they call from."""
        ...

    async def login_oidc(self, id_token: str, secret: str, address: str) -> api.Token:
        """Do the same for somebody for whom an OpenID provider speaks; the token's nonce is the hash of ``secret``."""
        ...

    async def whoami(self, who: Caller) -> api.Person:
        """Say who they are."""
        ...

    async def people(self, who: Caller) -> Sequence[api.Person]:
        """List people, by name."""
        ...

    async def put_person(self, who: Caller, body: api.PersonRequest) -> api.Person:
        """Make somebody, or make them otherwise."""
        ...

    async def tokens(self, who: Caller) -> Sequence[api.Token]:
        """List one's tokens."""
        ...

    async def add_token(self, who: Caller, body: api.TokenRequest) -> api.Token:
        """Make a token for oneself."""
        ...

    async def revoke_token(self, who: Caller, token: str) -> None:
        """Make a token worthless."""
        ...

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
        ...

    async def resource(self, who: Caller, kind: str, path: str) -> api.Resource:
        """Show one resource in force."""
        ...

    async def plan(self, who: Caller, body: api.ChangeRequest) -> api.Plan:
        """Say what a change would do."""
        ...

    async def apply(self, who: Caller, body: api.ChangeRequest) -> api.Applied | api.Proposed:
        """Make a change, or propose it where it needs a second person."""
        ...

    async def confirm(self, who: Caller, revision: int) -> api.Revision:
        """Let a change stand."""
        ...

    async def rollback(self, who: Caller, body: api.RollbackRequest) -> api.Applied | api.Proposed:
        """Make everything as it was."""
        ...

    async def revisions(self, who: Caller, *, before: int | None, limit: int) -> Sequence[api.Revision]:
        """List changes, the latest first."""
        ...

    async def revision(self, who: Caller, number: int) -> api.Revision:
        """Show one change."""
        ...

    async def proposals(self, who: Caller) -> Sequence[api.Proposal]:
        """List proposals, the latest first."""
        ...

    async def approve(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal | api.Applied:
        """Stand behind a proposal; it is applied where enough people do."""
        ...

    async def reject(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal:
        """Close a proposal."""
        ...

    def watch(self, who: Caller, since: int) -> AsyncIterator[api.Revision]:
        """Tell every change after a revision, for ever, as far as whoever asks may read it."""
        ...

    async def status(self, who: Caller) -> api.Status:
        """Say where everything stands."""
        ...

    async def host(self, who: Caller, name: str) -> api.HostStatus:
        """Say where one host stands, with its gates."""
        ...

    async def revoke_host(self, who: Caller, name: str) -> None:
        """Make the certificate of a host worthless."""
        ...

    async def join_token(self, who: Caller, body: api.JoinTokenRequest) -> api.JoinToken:
        """Let a host join."""
        ...

    async def join(self, body: api.JoinRequest) -> api.Certificate:
        """Take in a host that shows a join token."""
        ...

    async def renew(self, body: api.RenewRequest) -> api.Certificate:
        """Give a host another certificate whose last one is over."""
        ...

    async def ca(self) -> str:
        """Give the certificate of the site's CA, in PEM."""
        ...

    async def wait(self, who: Caller, revision: int, seconds: float) -> api.Status:
        """Wait until all hosts that are connected hold a revision, or the time is over."""
        ...

    async def placement(self, who: Caller) -> placementapi.PlacementReport:
        """Say what is wrong about where VMs are, and whom hosts can meet."""
        ...

    async def pools(self, who: Caller) -> placementapi.Pools:
        """List pools, and which of their hosts do not fit."""
        ...

    async def admission(self, who: Caller, pool: str, host: str) -> placementapi.Admission:
        """Say in what a host does not fit a pool."""
        ...

    async def move_vm(self, who: Caller, body: moveapi.MoveRequest) -> moveapi.Move:
        """Have a VM moved."""
        ...

    async def moves(
        self, who: Caller, *, vm: str | None, host: str | None, still_open: bool, before: int | None, limit: int
    ) -> moveapi.MoveList:
        """List moves, the latest first."""
        ...

    async def move(self, who: Caller, name: str, *, seen: int | None, seconds: float) -> moveapi.Move:
        """Show a move; with ``seen``, as soon as its version is another, or it is over, or the time is."""
        ...

    async def abort_move(self, who: Caller, name: str, body: moveapi.AbortRequest) -> moveapi.Move:
        """Have a move aborted."""
        ...

    async def move_proof(self, who: Caller, name: str, *, since: int) -> moveapi.MoveProof:
        """Prove that the audit log has the receipt of a move, and continues what it was at the size ``since``."""
        ...

    async def plan_moves(self, who: Caller, body: planapi.PlanRequest) -> planapi.PlanReply:
        """Say who would move where, so that hosts become empty, or a pool level."""
        ...

    async def relocate(self, who: Caller, body: relocationapi.RelocationRequest) -> relocationapi.RelocationShown:
        """Have a plan of moves made, and carried out."""
        ...

    async def relocations(self, who: Caller, *, before: int | None, limit: int) -> relocationapi.RelocationList:
        """List relocations, the latest first."""
        ...

    async def relocation(
        self, who: Caller, name: str, *, seen: int | None, seconds: float
    ) -> relocationapi.RelocationShown:
        """Show a relocation; with ``seen``, as soon as its version is another, or it is over, or the time is."""
        ...

    async def stop_relocation(
        self, who: Caller, name: str, body: relocationapi.StopRequest
    ) -> relocationapi.RelocationShown:
        """Have no more moves of a relocation begin."""
        ...

    async def can(self, who: Caller, body: api.Question) -> api.Answer:
        """Answer what ``serai can`` asks."""
        ...

    async def reach(self, who: Caller, body: api.ReachQuestion) -> api.Answer:
        """Answer what ``serai reach`` asks."""
        ...

    async def diff(self, who: Caller, body: api.ChangeRequest) -> api.Answer:
        """Answer which connections a change would open and close."""
        ...

    async def flows(self, who: Caller, span: Span, *, limit: int, after: str | None) -> flowapi.FlowPage:
        """List records of traffic, the latest first."""
        ...

    async def top(self, who: Caller, span: Span, *, by: str, group: str, limit: int) -> flowapi.Top:
        """List the most of something."""
        ...

    async def trend(self, who: Caller, span: Span, *, of: str, by: str, steps: int) -> flowapi.Trend:
        """Say how the traffic of a VM, or of a scope, went."""
        ...

    async def service_map(
        self, who: Caller, span: Span, *, scope: str, group: str, depth: int, limit: int
    ) -> flowapi.ServiceMap:
        """Say which groups talk to which."""
        ...

    async def suggest(self, who: Caller, body: flowapi.SuggestRequest) -> flowapi.Suggestion:
        """Write the least policy that admits what was seen."""
        ...

    async def whatif(self, who: Caller, body: flowapi.WhatIfRequest) -> flowapi.WhatIf:
        """Replay what was seen against other policies."""
        ...

    async def spoke(self, who: Caller, span: Span, *, vm: str, limit: int) -> flowapi.Who:
        """Say with whom a VM spoke."""
        ...

    async def drops(self, who: Caller, span: Span, *, of: str, limit: int) -> flowapi.Drops:
        """Say what gates dropped, and why."""
        ...

    async def sightings(self, who: Caller, span: Span, *, vm: str) -> flowapi.Sightings:
        """Say what the links of a VM needed to work."""
        ...

    async def audit(
        self, who: Caller, *, after: int | None, limit: int, scope: str | None, verb: str | None, by: str | None
    ) -> api.AuditPage:
        """List the audit log, oldest first."""
        ...

    async def checkpoint(self, who: Caller) -> api.Checkpoint:
        """Show the latest checkpoint of the audit log."""
        ...

    async def audit_export(self, who: Caller) -> AsyncIterator[bytes]:
        """Give the whole audit log, a record a line, and its checkpoint."""
        ...

    async def audit_verify(self, who: Caller, checkpoints: Sequence[str]) -> api.AuditVerdict:
        """Look for anything that was done to the audit log behind the controllers' backs."""
        ...

    async def health(self) -> api.Health:
        """Say whether this controller does what it should."""
        ...

    async def metrics(self, who: Caller) -> bytes:
        """Count, in the text format of Prometheus."""
        ...
