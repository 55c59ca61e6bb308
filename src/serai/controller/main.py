"""Puts a controller together and runs it in this process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import structlog
import uvicorn

from serai import journal
from serai.controller.agents import Agents
from serai.controller.api.app import make_app
from serai.controller.audit import Audit
from serai.controller.changes import Changes
from serai.controller.config import Config
from serai.controller.current import Current
from serai.controller.gatekeeper import Gatekeeper
from serai.controller.hosts import Hosts
from serai.controller.moves.escorts import Escorts
from serai.controller.moves.moves import Moves
from serai.controller.moves.requests import MoveRequests
from serai.controller.oidc import Oidc
from serai.controller.parallel import compile_in_parallel
from serai.controller.passwords import Passwords, new_hasher
from serai.controller.people import People
from serai.controller.placing.doorman import Doorman
from serai.controller.placing.facts import Facts
from serai.controller.placing.placing import Placing
from serai.controller.placing.pools import Pools
from serai.controller.planning.planning import Planning
from serai.controller.questions import Questions
from serai.controller.relocating.relocations import Relocations
from serai.controller.relocating.requests import RelocationRequests
from serai.controller.service import Service
from serai.controller.shard import Shard
from serai.controller.standing import Standing
from serai.controller.traffic.asking import Asking
from serai.controller.traffic.traffic import Traffic
from serai.controller.views import Views
from serai.controller.witnesses import Witnesses
from serai.serving import Server
from serai.store.engine import address
from serai.store.store import Store
from serai.wire import remote
from serai.wire.keys import Keys
from serai.wire.profile import Profile
from serai.wire.tls import agents_context

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Running:
    """A controller that has begun."""

    config: Config
    service: Service
    shard: Shard
    hosts: Hosts
    store: Store
    keys: Keys
    traffic: Traffic
    agents: Agents


@contextlib.asynccontextmanager
async def controller(config: Config, people: socket.socket | None = None) -> AsyncIterator[Running]:
    """Run a controller as long as the context is not left; it is ready when that is entered.

    People are answered where ``config`` says, and at the listening socket ``people`` too.

    Raises:
        UrlError: that is no address of a database.
        StoreError: the database does not answer, or is of a newer version.
        KeysError: the keys cannot be used.
        DefinitionErrors: what the database holds is not what this version understands.
        ChannelError: agents cannot be listened to there.
        OSError: people cannot.
    """
    address(config.database)  # a mistake in it must not leave keys behind
    keys = Keys.open(config.keys, names=config.names, now=_now())
    signer = keys.audit_signer()
    web = httpx2.AsyncClient(timeout=5)
    oidc = Oidc(settings, web) if (settings := config.oidc) else None
    store = await Store.open(config.database, signer=signer)
    current = Current(store)
    try:
        await current.load()
        shard = Shard(store, current, name="all", url=config.agents_url, by=compile_in_parallel, clock=_now)
        hosts = Hosts(
            store, current, shard, keys.authority, agents=[config.agents_url, *config.controllers], clock=_now
        )
        audit, witnesses = Audit(store, signer), Witnesses(store, signer)
        known = People(store.people, passwords=Passwords(new_hasher()), oidc=oidc)
        traffic = Traffic(config.flows, current, clock=time.time)
        facts = Facts(store, clock=_now)
        moves = Moves(store, current, shard, config.moves, clock=_now)
        planning = Planning(store, current, shard, moves, facts, config.planning)
        relocations = Relocations(store, shard, moves, clock=_now)
        service = Service(
            store, current, shard=shard, people=known, hosts=hosts, standing=Standing(store, current, shard), audit=audit, witnesses=witnesses, views=Views(store, current),
            changes=Changes(store, current, preview=shard.preview, clock=_now), questions=Questions(current), placing=Placing(current, shard), pools=Pools(store, current, shard, facts),
            traffic=traffic, asking=Asking(traffic, clock=_now), clock=_now,
            moves=moves, wanted=MoveRequests(store, current, moves, signer, clock=_now),
            planning=planning, relocations=RelocationRequests(store, planning, relocations, clock=_now),
        )  # fmt: skip
        await _first_start(known, config, keys)
        gatekeeper = Gatekeeper(store, shard, hosts)
        escorts = Escorts(store, current, moves, clock=_now)
        doorman = Doorman(current, shard, moves, escorts.escort, config.entry)
        agents = Agents(gatekeeper, Ears(shard, moves, witnesses, traffic, facts, doorman))
        shard.serve(agents)
        moves.serve(agents)
        doorman.serve(agents.send)
        witnesses.serve(agents)
        traffic.serve(agents.send)
        context = agents_context(keys.server, keys.server_key, keys.ca)
        async with (
            _running(
                current.run(),
                gatekeeper.run(),
                witnesses.run(),
                facts.run(),
                service.run(),
                shard.run(),
                traffic.run(lambda: shard.term is not None),
            ),
            agents.serve(config.address, config.agents_port, context),
            _served(service, config, keys, [people] if people else []),
        ):
            _log.info("controller is ready", url=config.url, agents=config.agents_url)
            yield Running(
                config=config,
                service=service,
                shard=shard,
                hosts=hosts,
                store=store,
                keys=keys,
                traffic=traffic,
                agents=agents,
            )
    finally:
        current.close()
        await store.close()
        await web.aclose()


class Ears:
    """Passes on what agents tell: to the shard first, then to moves; what they are witnesses of, what their gates have counted, what hosts are made of and ask."""

    def __init__(  # noqa: PLR0917  # one argument a listener
        self, shard: Shard, moves: Moves, witnesses: Witnesses, traffic: Traffic, facts: Facts, doorman: Doorman
    ) -> None:
        """Pass it on to these."""
        self._shard, self._moves, self._witnesses = shard, moves, witnesses
        self.moving, self.told = moves.moving, traffic.records
        self.described, self.entering = facts.described, doorman.asked

    def arrived(self, host: str, hello: remote.Hello) -> None:
        """An agent is there."""
        self._witnesses.told(host, hello.checkpoint)
        self._shard.arrived(host, hello)
        self._moves.arrived(host)

    def seen(self, host: str, sight: remote.Sight) -> None:
        """A host runs others than before."""
        self._shard.seen(host, sight)
        self._moves.changed(host)

    def held(self, host: str, held: remote.Held) -> None:
        """A host holds a ruleset, or goes on with the one it had."""
        self._shard.held(host, held)
        self._moves.changed(host)

    def left(self, host: str) -> None:
        """The agent is gone."""
        self._shard.left(host)
        self._moves.left(host)


async def _first_start(people: People, config: Config, keys: Keys) -> None:
    """Let whoever administers this machine in, where nobody has been let in yet."""
    token = await people.bootstrap(_now())
    if token is not None:
        Profile(url=config.url, token=token.secret, ca=keys.ca).write(config.client)
        _log.info("the first person is made, and a token for them", name=token.person, file=str(config.client))


@contextlib.asynccontextmanager
async def _served(service: Service, config: Config, keys: Keys, more: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Answer people's requests, also those that come at ``more``."""
    server = Server(
        uvicorn.Config(
            make_app(service, config.limits), ssl_certfile=keys.server, ssl_keyfile=keys.server_key,
            log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2, lifespan="on",
        )
    )  # fmt: skip
    own = _people_socket(config)
    serving = asyncio.create_task(server.serve(sockets=[own, *more]))
    try:
        if not await server.began(serving):
            serving.result()
            raise OSError(f"people cannot be answered at {config.address}:{config.port}")
        yield
    finally:
        server.should_exit = True
        await serving


def _people_socket(config: Config) -> socket.socket:
    """Listen for people."""
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        return socket.create_server((config.address, config.port), family=family)
    except OSError as error:
        raise OSError(
            f"people cannot be listened to at {config.address}:{config.port}: {error.strerror or error}"
        ) from error


@contextlib.asynccontextmanager
async def _running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Keep parts of the controller at work; where one of them fails for good, all of it ends, and says why."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _now() -> datetime:
    return datetime.now(UTC)


def main(config: Config, *, people: socket.socket | None = None) -> None:
    """Run a controller until SIGTERM or SIGINT. Hosts go on with what they hold.

    Raises:
        Exception: as for ``controller``.
    """
    journal.configure(os.environ)
    asyncio.run(_until_told(config, people))


async def _until_told(config: Config, people: socket.socket | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        async with controller(config, people):
            await told.wait()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    _log.info("controller stops; hosts go on with what they hold")
