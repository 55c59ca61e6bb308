"""A real service: people of a tenant are told nothing of others'."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.controller.config import Config
from serai.controller.errors import ForbiddenError, InvalidError
from serai.controller.main import Running, controller
from serai.controller.traffic.config import FlowSettings
from serai.model.definitions import DefinitionErrors
from serai.model.tenancy import ROOT, Scope
from serai.wire import api

ADMIN = Caller(name="ada", grants=(Grant(Role.SECURITY_ADMIN, ROOT), Grant(Role.AUDITOR, ROOT)))
EVE = Caller(name="eve", grants=(Grant(Role.SECURITY_ADMIN, Scope("/acme")),))
NOBODY = Caller(name="nobody", grants=())


def resource(kind: str, name: str, scope: str = "", spec: str = "{}") -> str:
    where = f", scope: {scope}" if scope else ""
    return f"apiVersion: serai.dev/v1\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec: {spec}\n"


def vm(name: str, scope: str, number: int) -> str:
    card = f'{{network: "/:shared", mac: "52:54:00:00:00:{number:02x}", addresses: [10.0.0.{number}]}}'
    return resource("VirtualMachine", name, scope, f"{{host: a, vnics: [{card}]}}")


BASE = "---\n".join([
    resource("Site", "site"), resource("Host", "a"), resource("Tenant", "acme"), resource("Tenant", "globex"),
    resource("Network", "shared", "/", "{subnets: [10.0.0.0/24]}"), vm("secret", "/globex", 1), vm("own", "/acme", 2),
])  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    config = Config(
        database=f"sqlite:///{directory}/serai.db", keys=directory / "keys", names=["localhost"], address="127.0.0.1",
        port=free_port(), agents_port=0, client=directory / "client.toml", flows=FlowSettings(store="off"),
    )  # fmt: skip
    async with controller(config) as made:
        await made.service.apply(ADMIN, api.ChangeRequest(files={"base.yaml": BASE}))
        yield made


def change(text: str) -> api.ChangeRequest:
    return api.ChangeRequest(files={"x.yaml": text})


def test_what_others_have_is_not_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as at:
            for clash in (vm("mine", "/acme", 1), vm("mine", "/acme", 1).replace(":01", ":03")):
                with pytest.raises(DefinitionErrors, match="somebody else") as told:
                    await at.service.apply(EVE, change(clash))
                assert "globex" not in str(told.value)
                with pytest.raises(DefinitionErrors, match="globex"):
                    await at.service.apply(ADMIN, change(clash))
            with pytest.raises(DefinitionErrors, match="/acme:own"):
                await at.service.apply(EVE, change(vm("mine", "/acme", 2)))

    asyncio.run(test())


def test_plans_and_answers_show_only_what_is_ones_own(tmp_path: Path) -> None:
    rule = "{tier: Tenant, ingress: [{name: r, action: Accept, from: [{scope: /acme}], ports: [tcp/1]}]}"

    async def test() -> None:
        async with running(tmp_path) as at:
            opened = await at.service.plan(
                EVE, change(resource("Policy", "p", "/acme", rule) + "---\n" + vm("two", "/acme", 4))
            )
            assert list(opened.hosts) == []
            assert "globex" not in str(opened)
            assert opened.connections
            reached = await at.service.reach(EVE, api.ReachQuestion())
            assert "globex" not in str(reached.answer)
            assert "globex" in str((await at.service.reach(ADMIN, api.ReachQuestion())).answer)
            with pytest.raises(InvalidError):
                await at.service.can(EVE, api.Question(source="/globex:secret", target="/acme:own", service="tcp/1"))
            assert list((await at.service.status(EVE)).hosts) == []
            for ask in (
                at.service.status(NOBODY),
                at.service.reach(NOBODY, api.ReachQuestion()),
                at.service.host(EVE, "a"),
            ):
                with pytest.raises(ForbiddenError):
                    await ask

    asyncio.run(test())


def test_refusals_are_on_record(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as at:
            with pytest.raises(ForbiddenError):
                await at.service.apply(EVE, change(resource("Tenant", "more")))
            page = await at.service.audit(ADMIN, after=None, limit=100, scope=None, verb=None, by="eve")
            assert [(each.verb, each.outcome) for each in page.records] == [("apply", "refused")]
            assert (await at.service.audit_verify(ADMIN, [])).ok
            with pytest.raises(ForbiddenError):
                await at.service.audit_verify(EVE, [])

    asyncio.run(test())
