"""Who speaks to whom, and how it goes: conversations in columns, before anybody has counted them.

Popular VMs open most of them, to few of their peers mostly. A part goes on for long and is told of again and again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.flowtraffic.books import DENIES, SERVICES, offered
from bench.flowtraffic.population import Population
from serai.model.flow_record import Event
from serai.model.ports import ECHO_REQUEST, ICMP, ICMPV6, TCP
from serai.model.reasons import Reason

Array = NDArray[Any]

ANSWERED, UNANSWERED, REFUSED = range(3)
OPEN, BY_OPENER, BY_TARGET = range(3)
"""Whose gate denies it."""

PEERS: Final = 24
"""That a VM likes to speak to."""
SLOT_MS: Final = 10_000
_DRAWS: Final = 1 << 20
"""Entries of a table to draw from: each talker has as many as it is popular."""
_IN_TENANT, _IN_APP = 0.8, 0.6
_PINGS, _IPV6, _REFUSED, _STRANGERS, _TO_OUTSIDE = 0.015, 0.6, 0.01, 0.05, 0.4
_FIRST_PORT, _PORTS = 32768, 28232
_WHOLE: Final = int(Event.BEGINS | Event.ENDS)
_REASONS: Final = np.array([Reason.DENIED] * 13 + [Reason.FLOW_RATE, Reason.OUT_OF_WINDOW, Reason.NO_FLOW], "u1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Talks:
    """Conversations, each in one interval."""

    slot: Array
    """The interval, counted from the first of the batch; UINT16."""
    opener: Array
    """An end (``population.Ends``), as ``target`` is; INT32."""
    target: Array
    protocol: Array
    service: Array
    port: Array
    """Of the opener."""
    place: Array
    """Which rule of a book allows it."""
    event: Array
    age: Array
    """Milliseconds, as ``idle``; UINT32."""
    idle: Array
    fate: Array
    denied: Array
    reason: Array
    scale: Array
    """How many packets, times what is usual."""

    def __len__(self) -> int:
        return len(self.slot)

    def head(self, count: int) -> Talks:
        """Return the first of them."""
        return Talks(**{field.name: getattr(self, field.name)[:count] for field in dataclasses.fields(self)})


def joined(parts: Sequence[Talks]) -> Talks:
    """Put conversations together."""
    return Talks(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Talks)
        }
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Meetings:
    """Who speaks to whom."""

    opener: Array
    target: Array
    server: Array
    """The VM by which it is settled what for, as it offers it at ``choice``."""
    choice: Array
    denied: Array


class Habits:
    """Who likes to speak to whom: of one population, always the same."""

    def __init__(self, population: Population) -> None:
        """Draw them."""
        rng = np.random.default_rng([population.seed, 1])
        self.population = population
        vms = population.vms
        self.protocols, self.ports = offered(population.tier, rng)
        self._talkers = _popular(population.by_popularity, 1.05)
        self._visitors = _popular(population.outside.start + rng.permutation(len(population.outside)), 1.0)
        self._dual = population.dual[population.tenant]
        self._ipv6 = population.ends.ipv6
        outside = np.asarray(population.outside)
        self._some_client = int(outside[~self._ipv6[outside]][0])
        """That has an IPv4 address."""
        mine = np.arange(vms)[:, np.newaxis]
        lottery = rng.random((vms, PEERS))
        tenant = population.tenant[:, np.newaxis]
        low, high = population.first[tenant], population.first[tenant + 1]
        app_low = low + (mine - low) // PEERS * PEERS
        app_high = np.minimum(app_low + PEERS, high)
        near = lottery < _IN_TENANT * _IN_APP
        low, high = np.where(near, app_low, low), np.where(near, app_high, high)
        inside = (low + rng.random((vms, PEERS)) * (high - low)).astype("i8")
        # Not oneself: whoever sits next to it; and who is alone in its tenant has all its peers elsewhere.
        inside = np.where(inside == mine, np.where(mine + 1 < high, mine + 1, low), inside)
        abroad = (lottery >= _IN_TENANT) | (inside == mine)
        anybody = self._talkers[rng.integers(0, _DRAWS, (vms, PEERS))]
        peers = np.where(abroad, anybody, inside)
        self.peers = np.where(peers == mine, (mine + 1) % vms, peers).astype("<i4")
        self.choices = (rng.random((vms, PEERS)) ** 3 * SERVICES).astype("u1")
        """Which of its services each of them is asked for."""

    def inside(self, count: int, slots: int, rng: np.random.Generator, *, denied: float) -> Talks:
        """Draw short conversations of two VMs, ``denied`` of which policy denies at either end."""
        opener = self._talkers[rng.integers(0, _DRAWS, count)]
        peer = (rng.random(count, "f4") ** 2 * PEERS).astype("i4")
        target, choice = self.peers[opener, peer], self.choices[opener, peer]
        bad = np.flatnonzero(rng.random(count, "f4") < denied)
        target[bad] = (target[bad] + 1 + rng.integers(0, self.population.vms // 2, len(bad))) % self.population.vms
        target[bad] += target[bad] == opener[bad]
        target[bad] %= self.population.vms
        verdicts = np.zeros(count, "u1")
        verdicts[bad] = BY_OPENER + (rng.random(len(bad)) < 0.6)  # noqa: PLR2004
        a, b = self._cards(opener, target, rng)
        return self._short(_Meetings(opener=a, target=b, server=target, choice=choice, denied=verdicts), slots, rng)

    def across(self, count: int, slots: int, rng: np.random.Generator, *, denied: float) -> Talks:
        """Draw short conversations with clients and servers outside."""
        vm = self._talkers[rng.integers(0, _DRAWS, count)]
        card = self.population.first_card[vm].astype("<i4")
        client = self._visitors[rng.integers(0, _DRAWS, count)]
        ipv6 = self._ipv6[client]
        cannot = np.flatnonzero(ipv6 & ~self._dual[vm])
        client[cannot] = self._some_client
        ipv6[cannot] = False
        card[ipv6] += self.population.all_cards
        out = rng.random(count, "f4") < _TO_OUTSIDE
        choice = (rng.random(count, "f4") ** 3 * SERVICES).astype("u1")
        verdicts = np.where(
            rng.random(count, "f4") < denied, np.where(out, np.uint8(BY_OPENER), np.uint8(BY_TARGET)), np.uint8(OPEN)
        )
        ends = np.where(out, card, client), np.where(out, client, card)
        return self._short(
            _Meetings(opener=ends[0], target=ends[1], server=vm, choice=choice, denied=verdicts), slots, rng
        )

    def _short(self, who: _Meetings, slots: int, rng: np.random.Generator) -> Talks:
        count, denied = len(who.opener), who.denied
        lottery = rng.random(count, "f4")
        protocol, service = self._kinds(who, lottery < _PINGS)
        age = rng.integers(1, SLOT_MS, count, dtype="<u4")
        tcp = protocol == TCP
        fate = np.zeros(count, "u1")
        fate[tcp & (lottery > 1 - _REFUSED)] = REFUSED
        fate[denied != OPEN] = UNANSWERED
        reason = np.zeros(count, "u1")
        bad = np.flatnonzero(denied)
        reason[bad] = _REASONS[rng.integers(0, len(_REASONS), len(bad))]
        place = np.where(denied != OPEN, np.uint8(DENIES), who.choice)
        return Talks(
            slot=rng.integers(0, slots, count, dtype="<u2"), opener=who.opener, target=who.target, protocol=protocol, service=service,
            port=rng.integers(_FIRST_PORT, _FIRST_PORT + _PORTS, count, dtype="<u2"), place=place, event=np.full(count, _WHOLE, "u1"),
            age=age, idle=(age * rng.random(count, "f4")).astype("<u4"), fate=fate, denied=denied, reason=reason, scale=np.ones(count, "f4"),
        )  # fmt: skip

    def _kinds(self, who: _Meetings, pings: Array) -> tuple[Array, Array]:
        """Return protocols and services."""
        protocol, service = self.protocols[who.server, who.choice], self.ports[who.server, who.choice]
        which = np.flatnonzero(pings)
        ipv6 = self._ipv6[who.opener[which]]
        protocol[which] = np.where(ipv6, np.uint8(ICMPV6), np.uint8(ICMP))
        service[which] = np.where(ipv6, np.uint16(ECHO_REQUEST[ICMPV6]), np.uint16(ECHO_REQUEST[ICMP]))
        return protocol, service

    def _cards(self, opener: Array, target: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Choose the vNICs and the version of IP that VMs speak with each other."""
        people = self.population
        second = rng.random(len(opener), "f4") < 0.3  # noqa: PLR2004
        ends = [people.first_card[vm] + (second & (people.cards[vm] > 1)) for vm in (opener, target)]
        ipv6 = self._dual[opener] & self._dual[target] & (rng.random(len(opener), "f4") < _IPV6)
        a, b = ((end + ipv6 * people.all_cards).astype("<i4") for end in ends)
        return a, b


def _popular(numbers: Array, steepness: float) -> Array:
    """Return a table to draw numbers from, the first of them far more often than the last."""
    weights = 1 / np.arange(1, len(numbers) + 1) ** steepness
    shares = np.cumsum(weights) / weights.sum()
    places = np.searchsorted(shares, (np.arange(_DRAWS) + 0.5) / _DRAWS)
    found: Array = numbers[np.minimum(places, len(numbers) - 1)].astype("<i4")
    return found
