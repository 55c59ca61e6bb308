"""The taps of this network namespace, told by the kernel the moment they change (rtnetlink)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import structlog
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_LINK

_log = structlog.get_logger(__name__)
_AF_UNSPEC = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """A tap as the kernel describes it."""

    ifindex: int
    name: str
    bridged: bool
    """It is a port of a bridge."""
    gone: bool = False


async def watch_taps() -> AsyncIterator[Tap]:
    """Yield every tap there is, then every change, without end.

    When the kernel's messages outrun us (ENOBUFS) everything is read again, and taps that are gone are told.
    """
    known: set[int] = set()
    while True:
        async with AsyncIPRoute() as netlink:
            # Joined first, read second: no change falls between.
            await netlink.bind(groups=RTMGRP_LINK)
            seen = {tap.ifindex: tap async for tap in _all_taps()}
            for ifindex in known - seen.keys():
                yield Tap(ifindex=ifindex, name="", bridged=False, gone=True)
            for found in seen.values():
                yield found
            known = set(seen)
            try:
                while True:
                    async for message in netlink.get():
                        if (tap := _tap(message)) is not None and (not tap.gone or tap.ifindex in known):
                            (known.discard if tap.gone else known.add)(tap.ifindex)
                            yield tap
            except (OSError, NetlinkError) as error:
                _log.warning("kernel messages about taps were lost: reading all again", error=str(error))
        await asyncio.sleep(0)


async def _all_taps() -> AsyncIterator[Tap]:
    async with AsyncIPRoute() as netlink:
        async for message in await netlink.link("dump"):
            if (tap := _tap(message)) is not None:
                yield tap


def _tap(message: Any) -> Tap | None:  # noqa: ANN401  # pyroute2's messages have no static type
    # Bridges speak of their ports in messages of another family, which lack what tells a tap.
    if message.get("family") != _AF_UNSPEC or message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "tun":
        return None
    return Tap(
        ifindex=message["index"],
        name=message.get("ifname"),
        bridged=bool(message.get("master")),
        gone=message["event"] == "RTM_DELLINK",
    )
