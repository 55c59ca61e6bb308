"""What somebody would use in place of the gate: netfilter on the bridge, in three of its forms.

All three track connections and let packets of known ones pass early, as is good practice. They are loaded
once; what goes on and off is the one chain or rule through which packets reach them, and the switch that sends
bridged packets to netfilter at all.
"""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from bench.topology import NETFILTER_SWITCH, End, run

MAP_ENTRIES: Final = 65_536
RULES: Final = 1000
TAPS: Final = 320

_STRANGERS: Final = IPv4Network("10.128.0.0/9")
"""Fills tables; none of them ever speaks."""

_NETLINK_NETFILTER: Final = 12
_FLUSH_CONNTRACK: Final = struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 0x5, 1, 0, socket.AF_INET, 0, 0)
"""struct nlmsghdr and nfgenmsg: IPCTNL_MSG_CT_DELETE with no attribute deletes all; request, with acknowledgement."""


class NftMap:
    """nftables with a verdict map: one lookup, however many pairs of addresses may talk."""

    name = "nft_vmap"

    def __init__(self, ends: Sequence[End]) -> None:
        """Let ``ends`` talk with each other."""
        self._ends = ends

    def missing(self) -> str:
        """Say what this machine lacks."""
        return _missing("nft")

    def load(self) -> None:
        """Fill the map: who may talk with whom, and ``MAP_ENTRIES`` less a few who never do."""
        friends = [(one.address, other.address) for one in self._ends for other in self._ends if one is not other]
        strangers = ((str(a), self._ends[1].address) for a in _strangers(MAP_ENTRIES - len(friends)))
        elements = ", ".join(f"{a} . {b} : accept" for a, b in (*friends, *strangers))
        _nft(
            f"add table ip paired\n"
            f"add map ip paired pairs {{ type ipv4_addr . ipv4_addr : verdict; size {MAP_ENTRIES}; }}\n"
            f"add element ip paired pairs {{ {elements} }}\n"
        )

    def on(self) -> None:
        """Hook it into the forwarding path."""
        _nft(_hooked("paired", "ip saddr . ip daddr vmap @pairs"))
        _send_bridged_packets(on=True)

    def off(self) -> None:
        """Take the hook away."""
        _send_bridged_packets(on=False)
        _nft("delete chain ip paired forward\n")
        _flush_connections()


class NftLinear:
    """nftables with a list of rules, one for each thing that is allowed: ours is the last."""

    name = f"nft_linear_{RULES}"

    def __init__(self, ends: Sequence[End]) -> None:
        """Let ``ends`` talk with each other."""
        self._ends = ends

    def missing(self) -> str:
        """Say what this machine lacks."""
        return _missing("nft")

    def load(self) -> None:
        """Write the rules into a chain that nothing leads to yet."""
        rules = [f"ip saddr {a} ip daddr {self._ends[1].address} accept" for a in _strangers(RULES - 1)]
        ours = ", ".join(end.address for end in self._ends)
        rules.append(f"ip saddr {{ {ours} }} ip daddr {{ {ours} }} accept")
        _nft("add table ip linear\nadd chain ip linear rules\n")
        _nft("".join(f"add rule ip linear rules {rule}\n" for rule in rules))

    def on(self) -> None:
        """Hook it into the forwarding path."""
        _nft(_hooked("linear", "jump rules"))
        _send_bridged_packets(on=True)

    def off(self) -> None:
        """Take the hook away."""
        _send_bridged_packets(on=False)
        _nft("delete chain ip linear forward\n")
        _flush_connections()


class IpsetChains:
    """What OpenStack's agent writes for a Linux bridge: two chains a tap, found by going through all taps.

    See neutron/agent/linux/iptables_firewall.py. Left out, in its favour: conntrack zones in the raw table and the
    chains against forged addresses.
    """

    name = f"ipset_{TAPS}"

    def __init__(self, ends: Sequence[End]) -> None:
        """Let ``ends`` talk with each other; their chains stand in the middle of those of all taps."""
        self._ends = ends

    def missing(self) -> str:
        """Say what this machine lacks."""
        return _missing("iptables-legacy", "iptables-legacy-restore", "ipset")

    def load(self) -> None:
        """Write sets and chains that nothing leads to yet."""
        members = (*(end.address for end in self._ends), *map(str, _strangers(TAPS)))
        run("ipset", "restore", text="".join(["create peers hash:ip\n", *(f"add peers {m}\n" for m in members)]))
        run("iptables-legacy-restore", text="\n".join(["*filter", *chains(self._taps()), "COMMIT", ""]))

    def on(self) -> None:
        """Hook it into the forwarding path."""
        run("iptables-legacy", "-w", "-A", "FORWARD", "-m", "physdev", "--physdev-is-bridged", "-j", "sg-chain")
        _send_bridged_packets(on=True)

    def off(self) -> None:
        """Take the hook away."""
        _send_bridged_packets(on=False)
        run("iptables-legacy", "-w", "-F", "FORWARD")
        _flush_connections()

    def _taps(self) -> list[str]:
        others = [f"other{n}" for n in range(TAPS - len(self._ends))]
        middle = len(others) // 2
        return [*others[:middle], *(end.tap for end in self._ends), *others[middle:]]


def chains(taps: Sequence[str]) -> Iterator[str]:
    """The lines of iptables-restore for ``taps``: a chain that goes through them, and two chains each."""
    yield ":sg-chain - [0:0]"
    yield from (f":{way}-{tap} - [0:0]" for tap in taps for way in ("i", "o"))
    for tap in taps:
        yield f"-A sg-chain -m physdev --physdev-out {tap} --physdev-is-bridged -j i-{tap}"
        yield f"-A sg-chain -m physdev --physdev-in {tap} --physdev-is-bridged -j o-{tap}"
    yield "-A sg-chain -j ACCEPT"
    for tap in taps:
        for way, match in (("i", "-m set --match-set peers src"), ("o", "")):
            yield f"-A {way}-{tap} -m state --state RELATED,ESTABLISHED -j RETURN"
            yield f"-A {way}-{tap} {match} -j RETURN".replace("  ", " ")
            yield f"-A {way}-{tap} -m state --state INVALID -j DROP"
            yield f"-A {way}-{tap} -j DROP"


def _missing(*commands: str) -> str:
    if absent := [command for command in commands if shutil.which(command) is None]:
        return f"no {' and no '.join(absent)} on this machine: run make setup"
    if not NETFILTER_SWITCH.exists():
        return "bridges do not know netfilter here: modprobe br_netfilter, where the kernel has it"
    return ""


def _hooked(table: str, rule: str) -> str:
    return (
        f"add chain ip {table} forward {{ type filter hook forward priority 0; policy drop; }}\n"
        f"add rule ip {table} forward ct state established,related accept\n"
        f"add rule ip {table} forward ct state invalid drop\n"
        f"add rule ip {table} forward {rule}\n"
    )


def _nft(script: str) -> None:
    run("nft", "-f", "-", text=script)


def _strangers(count: int) -> Iterator[IPv4Address]:
    return (_STRANGERS[n] for n in range(1, count + 1))


def _send_bridged_packets(*, on: bool) -> None:
    NETFILTER_SWITCH.write_text("1" if on else "0")


def _flush_connections() -> None:
    """What ``conntrack -F`` does, without the command."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(_FLUSH_CONNTRACK)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if error:
        raise OSError(-error, "the connections cannot be flushed")
