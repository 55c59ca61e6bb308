"""Rulesets of version 2, in one piece: what an agent may find on its disk after an update."""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec
import pytest

from serai.model.address import pack
from serai.model.inventory import PortSecurity
from serai.model.records import TABLES, endpoint
from serai.model.ruleset import HostRuleset

SECURITY: list[object] = [[], [], True, [], None, None]
ADDRESS = IPv4Address("10.0.0.1")


def vnic(*, mac: str = "52:54:00:00:00:01", mode: str = "enforce", **changes: object) -> list[object]:
    form = {"addresses": [pack(ADDRESS)], "security": SECURITY, "id": 1, **changes}
    return [form["id"], "/a/b:c/eth0", mac, form["addresses"], form["security"], mode, 2, 3, 4, 5]


WHOLE = {
    "version": 2, "host": "h", "vnics": [vnic()], "rules": {"r": 5},
    "tables": {**dict.fromkeys(TABLES, b""), "endpoints": endpoint(2, ADDRESS, 9)},
}  # fmt: skip


def test_it_is_read() -> None:
    ruleset = HostRuleset.decode(msgspec.msgpack.encode(WHOLE))
    (found,) = ruleset.vnics
    assert (found.id, found.path, found.mac, found.addresses) == (1, "/a/b:c/eth0", "52:54:00:00:00:01", (ADDRESS,))
    assert (found.view, found.members, found.egress, found.ingress) == (2, 3, 4, 5)
    assert (found.mode, found.security) == ("enforce", PortSecurity(tunnels=True))
    assert list(ruleset.rules) == ["r"]
    assert ruleset.tables["endpoints"].tobytes() == endpoint(2, ADDRESS, 9)
    assert HostRuleset.decode(ruleset.encode()).digest == ruleset.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"host": 5}, {"tables": {}}, {"tables": {"pages": b""}}, {"more": 1}, {"rules": {"r": "1"}}, {"vnics": [[1]]},
        {"vnics": None}, {"vnics": [vnic(mac="no mac")]}, {"vnics": [vnic(mode="whatever")]}, {"vnics": [vnic(id=-1)]},
        {"vnics": [[*vnic(), 1]]}, {"vnics": [vnic(addresses=[1])]}, {"vnics": [vnic(addresses=[bytes(4)])]},
        {"vnics": [vnic(security=[*SECURITY, 1])]}, {"vnics": [vnic(), vnic()]},
        {"tables": {**dict.fromkeys(TABLES, b""), "endpoints": bytes(33)}},
        {"tables": {**dict.fromkeys(TABLES, b""), "other": b""}},
    ],
    ids=str,
)  # fmt: skip
def test_what_version_2_never_wrote_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ruleset"):
        HostRuleset.decode(msgspec.msgpack.encode({**WHOLE, **changes}))
