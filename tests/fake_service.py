"""A service with no database behind it, for tests of the HTTP API and of those who use it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fake_relocations import FakeRelocations
from fake_traffic import FakeTraffic
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotAuthenticatedError,
    NotFoundError,
    PendingError,
    ProposalClosedError,
    StaleError,
)
from serai.controller.placing.report import expected, report
from serai.model.audit_trail import AuditTrail
from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.model.decode import decode
from serai.model.resources import KINDS, path_of
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World
from serai.model.yaml_nodes import read_stream
from serai.policy.questions import form
from serai.wire import api, placementapi
from serai.wire.oidc import hashed

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ADMIN = Caller(name="admin", grants=(Grant(Role.SECURITY_ADMIN, ROOT),))
VIEWER = Caller(name="eve", grants=(Grant(Role.VIEWER, Scope("/acme")),))
PASSWORD = "correct horse"  # noqa: S105  # the fake person's

Name = tuple[str, str]


def _claims(id_token: str) -> dict[str, object]:
    try:
        part = id_token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class FakeService(FakeTraffic, FakeRelocations):
    """Keeps everything in dicts. ``admin`` may do all, ``viewer`` may read."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self.callers = {"admin-token": ADMIN, "viewer-token": VIEWER}
        self.in_force: dict[Name, api.Resource] = {}
        self.made: list[api.Revision] = []
        self.before: list[dict[Name, api.Resource]] = [{}]
        self.open: dict[int, tuple[api.Proposal, api.ChangeRequest]] = {}
        self.persons = {"admin": api.Person(name="admin", grants=(api.GrantBody(role="security-admin", scope="/"),))}
        self.made_tokens: dict[str, api.Token] = {}
        self.states = [api.HostStatus(name="h1", joined=True, connected=True, behind=False, revision=1, since=NOW)]
        self.log: list[api.AuditRecord] = []
        self.known_pools: list[placementapi.Pool] = []
        self.admissions: dict[str, placementapi.Admission] = {}
        self.needs = 1
        self.changed = asyncio.Event()
        self.slow = 0.0
        self.key = Ed25519PrivateKey.generate()
        self.issuer: str | None = None
        self.sick: dict[str, str] = {}
        self.begin_moves()
        self.begin_relocations()
        if files:
            self._do(ADMIN, self._change(api.ChangeRequest(files=files)), "begin", None, None)

    # People

    async def authenticate(self, bearer: str) -> Caller | None:
        return self.callers.get(bearer)

    async def login_ways(self) -> api.LoginWays:
        return api.LoginWays(issuer=self.issuer, client="serai" if self.issuer else None)

    async def login(self, body: api.Login, address: str) -> api.Token:
        if body.password != PASSWORD:
            raise NotAuthenticatedError(f"the name or the password is wrong (from {address})")
        return self._token("session", body.name, secret="admin-token")  # noqa: S106  # as above

    async def login_oidc(self, id_token: str, secret: str, address: str) -> api.Token:
        if _claims(id_token).get("nonce") != hashed(secret):
            raise NotAuthenticatedError(f"this ID token is no good, {address}")
        return self._token("session", "admin", secret="admin-token")  # noqa: S106  # as above

    async def whoami(self, who: Caller) -> api.Person:
        grants = [api.GrantBody(role=grant.role, scope=grant.scope) for grant in who.grants]
        return api.Person(name=who.name, grants=grants)

    async def people(self, who: Caller) -> Sequence[api.Person]:
        self._admin(who)
        return [self.persons[name] for name in sorted(self.persons)]

    async def put_person(self, who: Caller, body: api.PersonRequest) -> api.Person:
        self._admin(who)
        for grant in body.grants:
            if grant.role not in set(Role):
                raise InvalidError(f"there is no role {grant.role!r}")
        person = api.Person(name=body.name, grants=body.grants, disabled=body.disabled, oidc=body.oidc)
        self.persons[body.name] = person
        self._note(who, "manage-people", body.name)
        return person

    async def tokens(self, who: Caller) -> Sequence[api.Token]:
        return [each for each in self.made_tokens.values() if each.person == who.name]

    async def add_token(self, who: Caller, body: api.TokenRequest) -> api.Token:
        return self._token(body.name, who.name, secret=f"serai_{body.name}_secret")

    async def revoke_token(self, who: Caller, token: str) -> None:
        if self.made_tokens.pop(token, None) is None:
            raise NotFoundError(f"{who.name} has no token {token!r}")

    def _token(self, name: str, person: str, *, secret: str) -> api.Token:
        made = api.Token(
            id=f"t{len(self.made_tokens)}", name=name, person=person, expires=NOW + timedelta(hours=12), grants=()
        )
        self.made_tokens[made.id] = made
        return api.Token(id=made.id, name=name, person=person, expires=made.expires, grants=(), secret=secret)

    # Resources

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
        del who
        await asyncio.sleep(self.slow)
        found = [
            self.in_force[name]
            for name in sorted(self.in_force)
            if (kind is None or name[0] == kind)
            and (scope is None or self.in_force[name].scope.startswith(scope))
            and (after is None or " ".join(name) > after)
            and labels.items() <= self.in_force[name].body.get("spec", {}).get("labels", {}).items()
        ]
        page = found[:limit]
        more = f"{page[-1].kind} {page[-1].path}" if len(found) > limit else None
        return api.Page(resources=page, revision=len(self.made), after=more)

    async def resource(self, who: Caller, kind: str, path: str) -> api.Resource:
        del who
        if (kind, path) not in self.in_force:
            raise NotFoundError(f"there is no {kind} {path}")
        return self.in_force[kind, path]

    async def plan(self, who: Caller, body: api.ChangeRequest) -> api.Plan:
        del who
        change = self._change(body)
        opened = form.openings(self._world(self.in_force), self._world({**self.in_force, **change[1]}))
        return api.Plan(
            digest=change[0], base=len(self.made), steps=change[2], approvals=self.needs,
            connections=[api.Opening(change=c, sources=s, targets=t, ports=p) for c, s, t, p in opened],
        )  # fmt: skip

    async def apply(self, who: Caller, body: api.ChangeRequest) -> api.Applied | api.Proposed:
        self._admin(who)
        change = self._change(body)
        if body.expect is not None and body.expect != change[0]:
            raise ConflictError("this is not the change that was planned: plan it again")
        if self.needs > 1:
            number = len(self.open) + 1
            proposal = api.Proposal(
                id=number, digest=change[0], by=who.name, message=body.message, created=NOW,
                expires=NOW + timedelta(hours=24), state="open", approvals=[who.name], needs=self.needs, steps=change[2],
            )  # fmt: skip
            self.open[number] = proposal, body
            return api.Proposed(proposal=number, digest=change[0], expires=proposal.expires, steps=change[2])
        return self._do(who, change, body.message, body.confirm_seconds, None)

    def _change(self, body: api.ChangeRequest) -> tuple[str, dict[Name, api.Resource | None], list[api.Step]]:
        if any(not revision.confirmed for revision in self.made):
            raise PendingError("a change waits to be confirmed: run `serai confirm`, or wait until it is rolled back")
        decoded: dict[Name, api.Resource | None] = {}
        for file, text in body.files.items():
            stream = read_stream(text)
            if stream.fault:
                fault = api.Fault(where=f"{file}:{stream.fault.line}", message=stream.fault.message)
                raise InvalidError(stream.fault.message, faults=[fault])
            for document in stream.documents:
                data = document.data
                if not isinstance(data, dict) or data.get("kind") not in set(KINDS):
                    raise InvalidError(
                        "this is no resource", faults=[api.Fault(where=f"{file}:1", message="no resource")]
                    )
                try:
                    resource = KINDS[data["kind"]].model_validate_json(json.dumps(data))
                except ValueError as error:
                    raise InvalidError(str(error)) from error
                path = path_of(resource)
                scope = path.rpartition(":")[0] or "/"
                decoded[resource.kind, path] = api.Resource(
                    kind=resource.kind, path=path, scope=scope, revision=len(self.made) + 1, body=data
                )
        for named in body.delete:
            if (named.kind, named.path) not in self.in_force:
                raise NotFoundError(f"there is no {named.kind} {named.path}")
            decoded[named.kind, named.path] = None
        stale = [
            n for n in decoded if body.base is not None and n in self.in_force and self.in_force[n].revision > body.base
        ]
        if stale:
            faults = [api.Fault(where="base", resource=" ".join(n), message="was changed since") for n in stale]
            raise StaleError("what this changes was changed since its base: get it again", faults=faults)
        after = {**self.in_force, **decoded}
        try:
            self._world(after)
        except ValueError as error:
            raise InvalidError(str(error)) from error
        steps = [
            api.Step(
                kind=name[0], path=name[1],
                does="delete" if new is None else "change" if name in self.in_force else "create",
            )
            for name, new in sorted(decoded.items())
            if name not in self.in_force or new is None or new.body != self.in_force[name].body
        ]  # fmt: skip
        digest = hashlib.sha256(repr(sorted((n, r and r.body) for n, r in decoded.items())).encode()).hexdigest()
        return digest, decoded, steps

    def _do(
        self, who: Caller, change: tuple[str, dict[Name, api.Resource | None], list[api.Step]], message: str,
        confirm: int | None, reverts: int | None,
    ) -> api.Applied:  # fmt: skip
        digest, decoded, steps = change
        self.in_force = {n: r for n, r in {**self.in_force, **decoded}.items() if r is not None}
        number = len(self.made) + 1
        by = NOW + timedelta(seconds=confirm) if confirm else None
        self.made.append(
            api.Revision(
                number=number, at=NOW, by=who.name, message=message, digest=digest, steps=steps, confirm_by=by,
                confirmed=by is None, reverts=reverts,
            )
        )  # fmt: skip
        self.before.append(dict(self.in_force))
        self._note(who, "write", f"revision {number}")
        self.changed.set()
        self.changed = asyncio.Event()
        return api.Applied(revision=number, steps=steps, hosts=["h1"], confirm_by=by)

    @staticmethod
    def _world(resources: Mapping[Name, api.Resource | None]) -> World:
        return decode({" ".join(n): json.dumps(r.body) for n, r in resources.items() if r is not None})

    async def confirm(self, who: Caller, revision: int) -> api.Revision:
        self._admin(who)
        found = await self.revision(who, revision)
        if found.confirmed:
            raise ConflictError(f"revision {revision} waits for nothing")
        stands = api.Revision(
            number=found.number, at=found.at, by=found.by, message=found.message, digest=found.digest, steps=found.steps
        )
        self.made[revision - 1] = stands
        return stands

    async def rollback(self, who: Caller, body: api.RollbackRequest) -> api.Applied | api.Proposed:
        self._admin(who)
        if body.to >= len(self.before):
            raise NotFoundError(f"there is no revision {body.to}")
        then = self.before[body.to]
        changes = {
            name: then.get(name) for name in {*then, *self.in_force} if then.get(name) != self.in_force.get(name)
        }
        steps = [
            api.Step(kind=n[0], path=n[1], does="delete" if r is None else "change" if n in self.in_force else "create")
            for n, r in sorted(changes.items())
        ]
        return self._do(who, ("digest", changes, steps), body.message, body.confirm_seconds, body.to + 1)

    async def revisions(self, who: Caller, *, before: int | None, limit: int) -> Sequence[api.Revision]:
        del who
        return [each for each in reversed(self.made) if before is None or each.number < before][:limit]

    async def revision(self, who: Caller, number: int) -> api.Revision:
        del who
        if not 1 <= number <= len(self.made):
            raise NotFoundError(f"there is no revision {number}")
        return self.made[number - 1]

    async def watch(self, who: Caller, since: int) -> AsyncIterator[api.Revision]:
        del who
        while True:
            changed = self.changed
            for revision in self.made[since:]:
                since = revision.number
                yield revision
            await changed.wait()

    # Proposals

    async def proposals(self, who: Caller) -> Sequence[api.Proposal]:
        del who
        return [self.open[number][0] for number in sorted(self.open, reverse=True)]

    async def approve(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal | api.Applied:
        self._admin(who)
        found, request = self._proposal(proposal, body)
        if found.by == who.name:
            raise ProposalClosedError("nobody approves what they propose themselves")
        del self.open[proposal]
        return self._do(who, self._change(request), found.message, None, None)

    async def reject(self, who: Caller, proposal: int, body: api.Vote) -> api.Proposal:
        found, _ = self._proposal(proposal, body)
        del self.open[proposal]
        self._note(who, "reject", str(proposal))
        return found

    def _proposal(self, number: int, body: api.Vote) -> tuple[api.Proposal, api.ChangeRequest]:
        if number not in self.open:
            raise NotFoundError(f"there is no open proposal {number}")
        if self.open[number][0].digest != body.digest:
            raise ProposalClosedError("this is not the proposal that you have seen")
        return self.open[number]

    # Hosts

    async def status(self, who: Caller) -> api.Status:
        del who
        waits = [each for each in self.made if not each.confirmed]
        behind = sum(host.behind for host in self.states)
        return api.Status(
            revision=len(self.made), hosts=self.states, leader="https://c1:8743", confirm=waits, behind=behind
        )

    async def host(self, who: Caller, name: str) -> api.HostStatus:
        del who
        for host in self.states:
            if host.name == name:
                return host
        raise NotFoundError(f"there is no host {name!r}")

    async def revoke_host(self, who: Caller, name: str) -> None:
        self._admin(who)
        await self.host(who, name)
        self.states = [host for host in self.states if host.name != name]

    async def join_token(self, who: Caller, body: api.JoinTokenRequest) -> api.JoinToken:
        self._admin(who)
        return api.JoinToken(token="serai1.1.secret.hash", host=body.host, expires=NOW + timedelta(minutes=15))  # noqa: S106  # as above

    async def join(self, body: api.JoinRequest) -> api.Certificate:
        raise NotAuthenticatedError(f"this join token is used, is over, or never was: {len(body.token)} characters")

    async def renew(self, body: api.RenewRequest) -> api.Certificate:
        raise NotAuthenticatedError(f"nobody knows this key: {len(body.certificate)} characters")

    async def ca(self) -> str:
        return "-----BEGIN CERTIFICATE-----\n"

    async def wait(self, who: Caller, revision: int, seconds: float) -> api.Status:
        await asyncio.sleep(min(seconds, 0.01) if revision > len(self.made) else 0)
        return await self.status(who)

    # Where VMs may run

    async def placement(self, who: Caller) -> placementapi.PlacementReport:
        del who
        world = self._world(self.in_force)
        return report(world, expected(world), revision=len(self.made))

    async def pools(self, who: Caller) -> placementapi.Pools:
        del who
        return placementapi.Pools(revision=len(self.made), pools=self.known_pools)

    async def admission(self, who: Caller, pool: str, host: str) -> placementapi.Admission:
        del who
        if pool not in {each.name for each in self.known_pools}:
            raise NotFoundError(f"there is no pool {pool!r}")
        if host not in self.admissions:
            raise NotFoundError(f"nothing is known of host {host!r}")
        return msgspec.structs.replace(self.admissions[host], pool=pool)

    # Questions

    async def can(self, who: Caller, body: api.Question) -> api.Answer:
        del who
        answer = form.answer_can(self._world(self.in_force), body.source, body.target, body.service)
        return api.Answer(revision=len(self.made), answer=answer)

    async def reach(self, who: Caller, body: api.ReachQuestion) -> api.Answer:
        del who
        answer = form.answer_reach(self._world(self.in_force), body.source, body.target)
        return api.Answer(revision=len(self.made), answer=answer)

    async def diff(self, who: Caller, body: api.ChangeRequest) -> api.Answer:
        del who
        _, decoded, _ = self._change(body)
        answer = form.answer_diff(self._world(self.in_force), self._world({**self.in_force, **decoded}))
        return api.Answer(revision=len(self.made), answer=answer)

    # Audit

    async def audit(
        self, who: Caller, *, after: int | None, limit: int, scope: str | None, verb: str | None, by: str | None
    ) -> api.AuditPage:
        self._admin(who)
        first = 0 if after is None else after + 1
        found = [
            each
            for each in self.log[first:]
            if (scope is None or each.scope.startswith(scope))
            and (verb is None or each.verb == verb)
            and (by is None or each.who == by)
        ]
        page = found[:limit]
        return api.AuditPage(records=page, size=len(self.log), after=page[-1].seq if len(found) > limit else None)

    async def checkpoint(self, who: Caller) -> api.Checkpoint:
        self._admin(who)
        note, trail = self._note_now()
        key = base64.b64encode(self.public).decode()
        return api.Checkpoint(size=trail.size, root=trail.root.hex(), note=note, key=key)

    async def audit_export(self, who: Caller) -> AsyncIterator[bytes]:
        self._admin(who)

        async def lines() -> AsyncIterator[bytes]:
            for record in self.log:
                yield self._leaf(record) + b"\n"
            yield json.dumps({"checkpoint": self._note_now()[0]}).encode() + b"\n"

        return lines()

    async def audit_verify(self, who: Caller, checkpoints: Sequence[str]) -> api.AuditVerdict:
        self._admin(who)
        try:
            _, trail = self._note_now(checkpoints)
        except CheckpointError as error:
            raise InvalidError(str(error)) from error
        faults = trail.verdict(None)
        return api.AuditVerdict(ok=not faults, size=trail.size, root=trail.root.hex(), faults=faults)

    def _note_now(self, expected: Sequence[str] = ()) -> tuple[str, AuditTrail]:
        trail = AuditTrail()
        for note in expected:
            trail.expect(Checkpoint.parse(note))
        for record in self.log:
            trail.append(record.seq, self._leaf(record))
        return Checkpoint(origin=self.origin, size=trail.size, root=trail.root).signed(self), trail

    @staticmethod
    def _leaf(record: api.AuditRecord) -> bytes:
        return json.dumps({"seq": record.seq, "who": record.who, "object": record.object}).encode()

    origin = "serai/fake"

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)

    async def health(self) -> api.Health:
        return api.Health(ok=not self.sick, parts=self.sick or {"database": "ok"}, version="1")

    async def metrics(self, who: Caller) -> bytes:
        self._admin(who)
        return b"# TYPE serai_revision gauge\nserai_revision 1.0\n"

    def _note(self, who: Caller, verb: str, what: str) -> None:
        self.log.append(
            api.AuditRecord(seq=len(self.log), at=NOW, who=who.name, verb=verb, object=what, scope="/", outcome="done")
        )

    @staticmethod
    def _admin(who: Caller) -> None:
        if who != ADMIN and not who.name.startswith("second"):
            raise ForbiddenError(f"{who.name} may not do this: it takes security-admin at /")
