"""Changes, against a real store: what is refused, what is taken back, what waits for whom."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from credentials import Site
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.changes import Changes
from serai.controller.current import Current
from serai.controller.errors import ForbiddenError, NotFoundError, PendingError, StaleError
from serai.controller.views import Views
from serai.model.catalog import Key
from serai.model.definitions import DefinitionErrors
from serai.model.tenancy import ROOT, Scope
from serai.model.update import Update
from serai.model.world import World
from serai.store.errors import ProposalError
from serai.store.store import Store
from serai.wire import api

ADMIN = Caller(name="ada", grants=(Grant(Role.SECURITY_ADMIN, ROOT), Grant(Role.VIEWER, ROOT)))
OTHER = Caller(name="bob", grants=(Grant(Role.SECURITY_ADMIN, ROOT),))
ACME = Caller(name="eve", grants=(Grant(Role.POLICY_EDITOR, Scope("/acme")), Grant(Role.VIEWER, Scope("/acme"))))

SITE = "apiVersion: serai.dev/v1\nkind: Site\nmetadata: {name: site}\n"
TENANTS = "\n---\n".join(
    f"apiVersion: serai.dev/v1\nkind: Tenant\nmetadata: {{name: {name}}}\n" for name in ("acme", "globex")
)


def policy(scope: str, name: str = "p", port: int = 80, tier: str = "Tenant") -> str:
    return (
        f"apiVersion: serai.dev/v1\nkind: Policy\nmetadata: {{name: {name}, scope: {scope}}}\n"
        f"spec:\n  tier: {tier}\n  ingress:\n    - {{name: r, action: Accept, ports: [tcp/{port}]}}\n"
    )


def files(*texts: str, **more: object) -> api.ChangeRequest:
    return api.ChangeRequest(files={f"{at}.yaml": text for at, text in enumerate(texts)}, **more)  # type: ignore[arg-type]


@dataclasses.dataclass
class House:
    """A controller's changes over a store, and a clock to turn."""

    store: Store
    current: Current
    changes: Changes
    views: Views
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def later(self, **by: int) -> None:
        self.now += timedelta(**by)

    async def apply(self, request: api.ChangeRequest, who: Caller = ADMIN) -> int:
        made = await self.changes.apply(who, request)
        assert isinstance(made, api.Applied)
        return made.revision

    def body(self, kind: str, path: str) -> str | None:
        return self.current.edition.body(Key(kind, path))


@asynccontextmanager
async def house(directory: Path) -> AsyncIterator[House]:
    async def preview(revision: int, world: World, update: Update) -> Sequence[str]:
        del revision, world, update
        return []

    signer = Site.make(directory).keys.audit_signer()
    store = await Store.open(f"sqlite:///{directory}/serai.db", signer=signer)
    current = Current(store)
    made = House(
        store, current, Changes(store, current, preview=preview, clock=lambda: made.now), Views(store, current)
    )
    try:
        await current.load()
        yield made
    finally:
        current.close()
        await store.close()


Play = Callable[[House], Awaitable[None]]


def run(directory: Path, play: Play) -> None:
    async def playing() -> None:
        async with house(directory) as made:
            await made.apply(files(SITE, TENANTS))
            await play(made)

    asyncio.run(playing())


def test_a_change_comes_into_force_with_its_revision(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        assert await at.apply(files(policy("/acme"))) == 2
        assert [p.name for p in at.current.edition.catalog.world.policies] == ["p"]
        assert at.current.edition.written[Key("Policy", "/acme:p")] == 2
        assert await at.apply(files(policy("/acme"))) == 2, "nothing is otherwise: no revision"
        assert await at.apply(files(policy("/acme", port=81))) == 3
        (latest, *_) = await at.views.revisions(ADMIN, before=None, limit=10)
        assert [(s.does, s.path, list(s.fields)) for s in latest.steps] == [
            ("change", "/acme:p", ["spec.ingress[0].ports[0]"])
        ]

    run(tmp_path, play)


def test_what_contradicts_what_is_in_force_is_refused_whole(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        with pytest.raises(DefinitionErrors, match="nowhere"):
            await at.apply(files(policy("/acme"), policy("/nowhere")))
        assert await at.store.revisions.head() == 1
        with pytest.raises(DefinitionErrors, match=r"defined already, at 0\.yaml:1"):
            await at.apply(files(policy("/acme"), policy("/acme", port=81)))
        await at.apply(files(policy("/acme")))
        with pytest.raises(DefinitionErrors, match="acme"):
            await at.apply(api.ChangeRequest(delete=[api.Named(kind="Tenant", path="acme")]))
        assert await at.store.revisions.head() == 2

    run(tmp_path, play)


def test_a_stale_write_is_told_what_changed(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        base = await at.apply(files(policy("/acme")))
        await at.apply(files(policy("/acme", port=81)), OTHER)
        with pytest.raises(StaleError) as caught:
            await at.apply(files(policy("/acme", port=82), base=base))
        assert [(f.where, f.resource) for f in caught.value.faults] == [("revision 3", "Policy /acme:p")]
        assert "bob" in str(caught.value)
        await at.apply(files(policy("/globex"), base=base))  # others' resources were not touched
        await at.apply(files(policy("/acme", port=81), base=base))  # it says what is in force already

    run(tmp_path, play)


def test_only_what_was_planned_is_applied(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        request = files(policy("/acme"))
        draft, _hosts, needs = await at.changes.plan(ADMIN, request)
        assert (draft.edition.revision, needs) == (1, 1)
        await at.apply(files(policy("/acme", port=99)), OTHER)
        with pytest.raises(StaleError, match="look at it again"):
            await at.apply(files(policy("/acme"), expect=draft.digest))
        assert await at.store.revisions.head() == 2

    run(tmp_path, play)


def test_people_of_a_tenant_stay_in_it(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(policy("/globex")))
        await at.apply(files(policy("/acme")), ACME)
        for forbidden in (files(policy("/globex", port=1)), files(policy("/")), files(SITE.replace("site}", "other}"))):
            with pytest.raises(ForbiddenError):
                await at.apply(forbidden, ACME)
        with pytest.raises(ForbiddenError):
            await at.apply(api.ChangeRequest(delete=[api.Named(kind="Policy", path="/globex:p")]), ACME)
        with pytest.raises(ForbiddenError):
            await at.changes.roll_back(ACME, api.RollbackRequest(to=1))
        await at.changes.roll_back(ACME, api.RollbackRequest(to=1, scope="/acme"))
        assert at.body("Policy", "/acme:p") is None
        assert at.body("Policy", "/globex:p") is not None
        assert {r.number for r in await at.views.revisions(ACME, before=None, limit=10)} == {3, 4}
        with pytest.raises(NotFoundError):
            await at.views.revision(ACME, 2)
        page = await at.views.resources(ACME, kind=None, scope=None, labels={}, limit=10, after=None)
        assert list(page.resources) == []

    run(tmp_path, play)


def test_prune_deletes_what_no_file_has(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(policy("/acme", "a"), policy("/acme", "b"), policy("/globex", "c")))
        await at.apply(files(policy("/acme", "b"), prune="/acme"))
        kept = sorted(str(key) for key in at.current.edition.written if key.kind == "Policy")
        assert kept == ["Policy /acme:b", "Policy /globex:c"]

    run(tmp_path, play)


def test_what_nobody_confirms_is_taken_back(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(policy("/acme")))
        await at.apply(files(policy("/acme", port=81), confirm_seconds=60))
        with pytest.raises(PendingError, match="revision 3 of ada"):
            await at.apply(files(policy("/acme", "other")))
        with pytest.raises(PendingError):
            await at.apply(files(policy("/")))
        await at.apply(files(policy("/globex")))  # another tenant does not wait
        at.later(seconds=59)
        await at.changes.take_back_overdue()
        assert "tcp/81" in (at.body("Policy", "/acme:p") or "")
        at.later(seconds=1)
        await at.changes.take_back_overdue()
        await at.changes.take_back_overdue()
        assert "tcp/80" in (at.body("Policy", "/acme:p") or "")
        assert at.body("Policy", "/globex:p") is not None
        (latest, *_) = await at.views.revisions(ADMIN, before=None, limit=1)
        assert (latest.number, latest.reverts, latest.by) == (5, 3, "serai")
        await at.apply(files(policy("/acme", "other")))  # and nothing waits any more

    run(tmp_path, play)


def test_what_is_confirmed_stays(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        revision = await at.apply(files(policy("/acme"), confirm_seconds=60))
        await at.changes.confirm(ADMIN, revision)
        at.later(seconds=61)
        await at.changes.take_back_overdue()
        assert at.body("Policy", "/acme:p") is not None
        with pytest.raises(NotFoundError):
            await at.changes.confirm(ADMIN, revision)

    run(tmp_path, play)


def test_an_unconfirmed_change_can_be_taken_back_at_once(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        revision = await at.apply(files(policy("/acme"), confirm_seconds=60))
        await at.changes.roll_back(ADMIN, api.RollbackRequest(to=revision - 1))
        assert at.body("Policy", "/acme:p") is None
        at.later(seconds=61)
        await at.changes.take_back_overdue()
        assert await at.store.revisions.head() == revision + 1

    run(tmp_path, play)


TWO = "apiVersion: serai.dev/v1\nkind: Tenant\nmetadata: {name: acme}\nspec: {approval: 2}\n"


def test_a_second_person_must_agree_to_just_this(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(TWO))
        proposed = await at.changes.apply(ADMIN, files(policy("/acme")))
        assert isinstance(proposed, api.Proposed)
        assert await at.store.revisions.head() == 2, "nothing is in force"
        vote = api.Vote(digest=proposed.digest)
        with pytest.raises(ForbiddenError, match="own"):
            await at.changes.approve(ADMIN, proposed.proposal, vote)
        with pytest.raises(ProposalError):
            await at.changes.approve(OTHER, proposed.proposal, api.Vote(digest="0" * 64))
        with pytest.raises(ForbiddenError):
            await at.changes.approve(Caller(name="v", grants=(Grant(Role.VIEWER, ROOT),)), proposed.proposal, vote)
        made = await at.changes.approve(OTHER, proposed.proposal, vote)
        assert isinstance(made, api.Applied)
        assert at.body("Policy", "/acme:p") is not None
        (latest, *_) = await at.views.revisions(ADMIN, before=None, limit=1)
        assert latest.by == "ada"
        assert [list(p.approvals) for p in await at.views.proposals(ADMIN)] == [["ada", "bob"]]
        with pytest.raises(ProposalError):
            await at.changes.approve(OTHER, proposed.proposal, vote)
        await at.apply(files(policy("/globex")))  # where nothing is marked, one is enough

    run(tmp_path, play)


def test_a_proposal_is_over_when_what_it_changes_was_changed(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(policy("/acme")))
        await at.apply(files(TWO))
        first, second = [await at.changes.apply(ADMIN, files(policy("/acme", port=port))) for port in (81, 82)]
        assert isinstance(first, api.Proposed)
        assert isinstance(second, api.Proposed)
        await at.changes.approve(OTHER, first.proposal, api.Vote(digest=first.digest))
        with pytest.raises(StaleError):
            await at.changes.approve(OTHER, second.proposal, api.Vote(digest=second.digest))
        assert {p.id: p.state for p in await at.views.proposals(ADMIN)} == {
            first.proposal: "applied", second.proposal: "stale",
        }  # fmt: skip

    run(tmp_path, play)


def test_a_proposal_expires(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(TWO))
        proposed = await at.changes.apply(ADMIN, files(policy("/acme")))
        assert isinstance(proposed, api.Proposed)
        at.later(hours=25)
        with pytest.raises(ProposalError):
            await at.changes.approve(OTHER, proposed.proposal, api.Vote(digest=proposed.digest))
        assert await at.store.revisions.head() == 2

    run(tmp_path, play)


def test_taking_the_mark_away_needs_the_second_person_too(tmp_path: Path) -> None:
    async def play(at: House) -> None:
        await at.apply(files(TWO))
        assert isinstance(await at.changes.apply(ADMIN, files(TENANTS)), api.Proposed)

    run(tmp_path, play)


def test_two_controllers_on_one_store_do_not_lose_each_others_changes(tmp_path: Path) -> None:
    async def playing() -> None:
        async with house(tmp_path) as one, house(tmp_path) as other:
            await one.apply(files(SITE, TENANTS))
            both = [
                (at, files(policy(scope, f"p{number}", port=number + 1)))
                for number in range(6)
                for at, scope in ((one, "/acme"), (other, "/globex"))
            ]
            revisions = await asyncio.gather(*(at.apply(request) for at, request in both))
            assert sorted(revisions) == list(range(2, 14))
            for at in (one, other):
                edition = await at.current.catch_up()
                assert edition.revision == 13
                assert len(edition.catalog.world.policies) == 12

    asyncio.run(playing())
