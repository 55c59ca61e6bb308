"""What a controller tells of where VMs are: to the provider all of it, to a tenant only what is theirs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_discretion import ADMIN, EVE, NOBODY, change, resource, running, vm

from serai.controller.errors import ForbiddenError
from serai.controller.placing.report import expected, report
from serai.model.decode import decode
from serai.model.tenancy import Scope
from serai.wire import remote
from serai.wire.placementapi import HostBounds, PlacementReport, PlacementViolation

TAGGED = "---\n".join([
    resource("Host", "b", spec="{tags: [pci]}"),
    vm("own", "/acme", 2).replace("{host: a", "{host: a, tags: [pci]"),
    resource("PlacementRule", "apart", spec="{keepApart: {}}"),
    resource("PlacementRule", "cards", spec="{exclusive: pci}"),
    resource("Pool", "west", spec="{hosts: [a]}"),
])  # fmt: skip
SIGHT = remote.Sight(macs=["52:54:00:00:00:01", "52:54:00:00:00:02"], vnics=[])


def told(found: PlacementReport) -> list[tuple[str, str | None, str]]:
    return [(each.vm, each.host, each.message) for each in found.violations]


LACKS = "the network /:shared of its vNIC eth0 does not carry the tag pci"


def test_the_provider_is_told_all_and_a_tenant_of_nobody_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as at:
            revision = await at.service.apply(ADMIN, change(TAGGED))
            found = await at.service.placement(ADMIN)
            assert told(found) == [
                ("/acme:own", "a", "host a does not carry the tag pci"),
                ("/acme:own", "a", "host a has /globex:secret, to be kept apart from it (PlacementRule apart)"),
                ("/acme:own", "a", LACKS),
                ("/globex:secret", "a", "host a has /acme:own, to be kept apart from it (PlacementRule apart)"),
            ]
            assert list(found.hosts) == [
                HostBounds(host="a", pool="west", tags=[], vms=2, tenants=2, tenants_most=1),
                HostBounds(host="b", pool=None, tags=["pci"], vms=0, tenants=0, tenants_most=0),
            ]
            assert (found.vms, found.reported) == (2, 0)
            assert found.revision == revision.revision

            own = await at.service.placement(EVE)
            assert told(own) == [
                ("/acme:own", None, "its host does not carry the tag pci"),
                ("/acme:own", None, "its host has another VM, to be kept apart from it (PlacementRule apart)"),
                ("/acme:own", None, LACKS),
            ]
            assert (list(own.hosts), own.vms, own.reported) == ([], 1, 0)
            assert "globex" not in str(own)
            with pytest.raises(ForbiddenError):
                await at.service.placement(NOBODY)

    asyncio.run(test())


def test_vms_are_where_hosts_report_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as at:
            await at.service.apply(ADMIN, change(TAGGED))
            hello = remote.Hello(version=1, agent="t", epoch=1, term=0, digest=None, parts=[], sight=SIGHT)
            at.shard.arrived("b", hello)
            found = await at.service.placement(ADMIN)
            assert told(found) == [
                ("/acme:own", "b", "host b has /globex:secret, to be kept apart from it (PlacementRule apart)"),
                ("/acme:own", "b", LACKS),
                ("/globex:secret", "b", "host b takes only VMs with the tag pci (PlacementRule cards)"),
                ("/globex:secret", "b", "host b has /acme:own, to be kept apart from it (PlacementRule apart)"),
            ]
            assert [(each.host, each.vms) for each in found.hosts] == [("a", 0), ("b", 2)]
            assert (found.vms, found.reported) == (2, 2)
            at.shard.seen("b", remote.Sight(macs=["52:54:00:00:00:02", "52:54:00:00:00:09"], vnics=[]))
            found = await at.service.placement(ADMIN)
            assert [(each.host, each.vms) for each in found.hosts] == [("a", 1), ("b", 1)]
            assert (found.vms, found.reported) == (2, 1)

    asyncio.run(test())


def test_a_violation_says_what_is_in_the_way_by_fields_too() -> None:
    base = [
        resource("Host", "a", spec="{tags: [ssd]}"), resource("Tenant", "acme"), resource("PlacementRule", "ssd", spec="{exclusive: ssd}"),
        resource("Network", "shared", "/", "{subnets: [10.0.0.0/24]}"), vm("own", "/acme", 2).replace("{host: a", "{host: a, tags: [pci]"),
    ]  # fmt: skip
    world = decode({"x.yaml": "---\n".join(base)})
    found = report(world, expected(world))
    assert found.violations == [
        PlacementViolation(
            vm="/acme:own", host="a", kind="exclusive-host", tag="ssd", rule="ssd",
            message="host a takes only VMs with the tag ssd (PlacementRule ssd)",
        ),
        PlacementViolation(
            vm="/acme:own", host="a", kind="host-lacks-tag", tag="pci", message="host a does not carry the tag pci"
        ),
        PlacementViolation(
            vm="/acme:own", host="a", kind="network-lacks-tag", tag="pci", network="/:shared", message=LACKS
        ),
    ]  # fmt: skip


def test_others_are_counted_and_not_named() -> None:
    world = decode({"x.yaml": "---\n".join([
        resource("Host", "a"), resource("Tenant", "acme"), resource("Tenant", "globex"), resource("PlacementRule", "apart", spec="{keepApart: {}}"),
        resource("Network", "shared", "/", "{subnets: [10.0.0.0/24]}"), vm("x", "/acme", 1), vm("y", "/acme", 2), vm("z", "/globex", 3),
    ])})  # fmt: skip
    found = report(world, expected(world), sees=Scope("/acme").contains, names_hosts=False)
    assert told(found) == [
        ("/acme:x", None, "its host has /acme:y and 1 more, to be kept apart from it (PlacementRule apart)"),
        ("/acme:y", None, "its host has /acme:x and 1 more, to be kept apart from it (PlacementRule apart)"),
    ]
