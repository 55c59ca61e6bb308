"""Every role, in every scope, at every door of a real controller: who gets in stands here, written by hand."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_discretion import resource, running, vm

from serai.access.roles import Role
from serai.wire import api
from serai.wire.client import Client, ClientError
from serai.wire.moveapi import AbortRequest, MoveRequest
from serai.wire.planapi import PlanRequest
from serai.wire.profile import find
from serai.wire.relocationapi import RelocationRequest, StopRequest

ALL = ("viewer", "operator", "policy-editor", "security-admin", "auditor")
SCOPES = ("/", "/acme", "/globex")


@dataclasses.dataclass(frozen=True)
class Door:
    """Something that is asked for, and by whom it may be."""

    name: str
    method: str
    path: str
    at: Mapping[str, tuple[str, ...]]
    """The roles that get in, by the scope where they were granted."""
    body: Any = None
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)


def apply(text: str) -> api.ChangeRequest:
    return api.ChangeRequest(files={"x.yaml": text})


def policy(scope: str, tier: str) -> api.ChangeRequest:
    return apply(resource("Policy", f"p-{tier.lower()}", scope, f"{{tier: {tier}, ingress: []}}"))


EDITORS, ADMINS = ("policy-editor", "security-admin"), ("security-admin",)
DOORS = (
    Door("who am I", "GET", "/v1/whoami", dict.fromkeys(SCOPES, ALL)),
    Door("resources", "GET", "/v1/resources", dict.fromkeys(SCOPES, ALL)),
    Door("one of acme", "GET", "/v1/resources/VirtualMachine/%2Facme:own", {"/": ALL, "/acme": ALL}),
    Door("status", "GET", "/v1/status", dict.fromkeys(SCOPES, ALL)),
    Door("a host", "GET", "/v1/hosts/none", {"/": ALL}),
    Door("where VMs are", "GET", "/v1/placement", dict.fromkeys(SCOPES, ALL)),
    Door("pools", "GET", "/v1/pools", {"/": ALL}),
    Door("a pool", "POST", "/v1/apply", {"/": ADMINS}, apply(resource("Pool", "west"))),
    Door("a placement rule", "POST", "/v1/apply", {"/": ADMINS}, apply(resource("PlacementRule", "r", spec="{exclusive: pci}"))),
    Door("a VM's tags", "POST", "/v1/apply", {"/": ADMINS}, apply(vm("own", "/acme", 2).replace("{host", "{tags: [pci], host"))),
    Door("metrics", "GET", "/metrics", {"/": ALL}),
    Door("the log", "GET", "/v1/audit", {"/": ("security-admin", "auditor")}),
    Door("the log of acme", "GET", "/v1/audit", dict.fromkeys(("/", "/acme"), ("security-admin", "auditor")), params={"scope": "/acme"}),
    Door("its checkpoint", "GET", "/v1/audit/checkpoint", {"/": ("security-admin", "auditor")}),
    Door("a tenant's policy", "POST", "/v1/apply", dict.fromkeys(("/", "/acme"), EDITORS), policy("/acme", "Tenant")),
    Door("a baseline policy", "POST", "/v1/apply", dict.fromkeys(("/", "/acme"), EDITORS), policy("/acme", "Baseline")),
    Door("an admin policy", "POST", "/v1/apply", dict.fromkeys(("/", "/acme"), ADMINS), policy("/acme", "Admin")),
    Door("the provider's policy", "POST", "/v1/apply", {"/": EDITORS}, policy("/", "Baseline")),
    Door("a VM", "POST", "/v1/apply", dict.fromkeys(("/", "/acme"), ADMINS), apply(vm("new", "/acme", 9))),
    Door("a tenant", "POST", "/v1/apply", {"/": ADMINS}, apply(resource("Tenant", "initech"))),
    Door("a host's resource", "POST", "/v1/apply", {"/": ADMINS}, apply(resource("Host", "b"))),
    Door("the site", "POST", "/v1/apply", {"/": ADMINS}, apply(resource("Site", "site", spec="{mode: observe}"))),
    Door("a join token", "POST", "/v1/join-tokens", {"/": ("operator", "security-admin")}, api.JoinTokenRequest(host="b")),
    Door("moves", "GET", "/v1/moves", {"/": ALL}),
    Door("a move", "GET", "/v1/moves/7", {"/": ALL}),
    Door("to move", "POST", "/v1/moves", {"/": ("operator", "security-admin")}, MoveRequest(vm="/acme:own", to="none")),
    Door("to plan moves", "POST", "/v1/plans", {"/": ("operator", "security-admin")}, PlanRequest(evacuate=["none"])),
    Door("to abort", "POST", "/v1/moves/7/abort", {"/": ("operator", "security-admin")}, AbortRequest()),
    Door("relocations", "GET", "/v1/relocations", {"/": ALL}),
    Door("a relocation", "GET", "/v1/relocations/7", {"/": ALL}),
    Door("to relocate", "POST", "/v1/relocations", {"/": ("operator", "security-admin")}, RelocationRequest(evacuate=["none"])),
    Door("to stop one", "POST", "/v1/relocations/7/stop", {"/": ("operator", "security-admin")}, StopRequest()),
    Door("to revoke", "POST", "/v1/hosts/none/revoke", {"/": ADMINS}),
)  # fmt: skip

NOT_LET_IN = frozenset({403, 404})
"""What may not be seen is not there."""


def test_who_gets_in_where(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path):
            await asyncio.to_thread(_try_all, tmp_path)

    asyncio.run(test())


def _try_all(directory: Path) -> None:
    assert set(ALL) == set(Role)
    profile = find({"XDG_CONFIG_HOME": str(directory / "nowhere")}, directory / "client.toml")
    with Client(profile) as admin:
        wrong = []
        for role, scope in itertools.product(ALL, SCOPES):
            name = f"{role}-{scope.strip('/') or 'site'}"
            grants = [api.GrantBody(role=role, scope=scope)]
            password = "a-long-enough-password"  # noqa: S105 (of nobody)
            person = api.PersonRequest(name=name, grants=grants, password=password)
            admin.ask("PUT", f"/v1/people/{name}", api.Person, body=person)
            given = admin.ask("POST", "/v1/login", api.Token, body=api.Login(name=name, password=password))
            with Client(dataclasses.replace(profile, token=given.secret)) as client:
                for door in DOORS:
                    if _got_in(client, door) != (role in door.at.get(scope, ())):
                        wrong.append((name, door.name))
                    if door.body is not None and door.method == "POST" and door.path == "/v1/apply":
                        admin.ask("POST", "/v1/rollback", msgspec.Raw, body=api.RollbackRequest(to=1))
        assert wrong == []


def _got_in(client: Client, door: Door) -> bool:
    try:
        client._request(door.method, door.path, body=door.body, params=door.params)
    except ClientError as error:
        if error.status not in NOT_LET_IN:
            raise
        # A host or a move that is not there is looked for by whoever may look.
        looked_for = ("hosts/none", "/moves", "/plans", "/relocations")
        return error.status == 404 and any(part in door.path for part in looked_for)
    return True


def test_without_a_token_nobody_gets_in(tmp_path: Path) -> None:
    def look() -> None:
        profile = find({"XDG_CONFIG_HOME": str(tmp_path / "nowhere")}, tmp_path / "client.toml")
        for token in (None, "serai_0123456789abcdef_" + "0" * 64):
            with Client(dataclasses.replace(profile, token=token)) as client:
                for door in DOORS:
                    with pytest.raises(ClientError) as refused:
                        client._request(door.method, door.path, body=door.body, params=door.params)
                    assert refused.value.status == 401, door.name

    async def test() -> None:
        async with running(tmp_path):
            await asyncio.to_thread(look)

    asyncio.run(test())
