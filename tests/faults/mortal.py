"""A controller that dies at a place of one's choice: python mortal.py CONFIG [PLACE].

It kills itself with SIGKILL when a change whose message is ``die``, or any move, comes to PLACE: the real thing all around, and nothing
of it knows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serai.controller import current, shard
from serai.controller.agents import Agents
from serai.controller.config import Config
from serai.controller.main import controller
from serai.migration.states import State
from serai.model.key import Key
from serai.store import moves, revisions
from serai.store.records import Commit, MoveRecord
from serai.wire.remote import Depart, Difference, Expect, Held, Whole

PLACES = (
    "before the transaction",
    "inside the transaction",
    "after the commit",
    "before it is compiled",
    "after it is compiled",
    "after it is sent",
    "when it is acknowledged",
)

MOVE_PLACES = (
    "before a move is written down",
    "when a move is asked for",
    "when there is a ticket",
    "after the destination is asked",
    "before the leave is written down",
    "before the leave is given",
    "after the leave is given",
    "before it is known to be live",
    "before the receipt",
    "after the receipt",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Where it dies, and whether its time has come."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.near = False

    def at(self, place: str) -> None:
        if self.near and place == self.place:
            die()

    def rig(self) -> None:
        """Put the places into the ways that a change, or a move, takes."""
        self.rig_moves()
        real_commit, real_write = revisions.Revisions.commit, revisions._write
        real_catch_up, real_handle, real_held = current.Current.catch_up, shard.Shard._handle, shard.Shard.held
        real_send = Agents.send
        fate = self

        async def commit(self: revisions.Revisions, commit: Commit, *more: Any) -> int:
            fate.near = commit.message == "die"
            fate.at("before the transaction")
            number = await real_commit(self, commit, *more)
            fate.at("after the commit")
            return number

        async def write(act: Any, number: int, writes: Mapping[Key, str | None]) -> None:
            await real_write(act, number, writes)
            fate.at("inside the transaction")

        async def catch_up(self: current.Current) -> current.Edition:
            edition = await real_catch_up(self)
            if fate.near and edition.revision:
                fate.at("before it is compiled")
            return edition

        def handle(self: shard.Shard, events: Any) -> Any:
            outcome = real_handle(self, events)
            if outcome.outgoing:
                fate.at("after it is compiled")
            return outcome

        def send(self: Agents, host: str, message: Any) -> int | None:
            number = real_send(self, host, message)
            if isinstance(message, Whole | Difference) and fate.near and fate.place == "after it is sent":
                asyncio.get_running_loop().call_later(0.05, die)  # the bytes are out, the answer may come or not
            return number

        def held(self: shard.Shard, host: str, held: Held) -> None:
            fate.at("when it is acknowledged")
            real_held(self, host, held)

        patches: list[tuple[Any, str, Callable[..., Any]]] = [
            (revisions.Revisions, "commit", commit), (revisions, "_write", write), (current.Current, "catch_up", catch_up),
            (shard.Shard, "_handle", handle), (Agents, "send", send), (shard.Shard, "held", held),
        ]  # fmt: skip
        for where, name, what in patches:
            setattr(where, name, what)

    def rig_moves(self) -> None:
        """The same with the way of a move."""
        real_ask, real_keep, real_end, real_send = moves.Moves.ask, moves.Moves.keep, moves.Moves.end, Agents.send
        before = {
            State.PREPARED: "before the leave is written down",
            **dict.fromkeys((State.LIVE, State.CARRIED, State.FENCED), "before it is known to be live"),
        }
        after = {State.PLANNED: "when there is a ticket", State.PREPARED: "before the leave is given"}
        sent = {Expect: "after the destination is asked", Depart: "after the leave is given"}
        fate = self

        def at(place: str | None) -> None:
            if place == fate.place:
                die()

        async def ask(self: moves.Moves, **what: Any) -> MoveRecord:
            at("before a move is written down")
            found = await real_ask(self, **what)
            at("when a move is asked for")
            return found

        async def keep(self: moves.Moves, move: MoveRecord, *, term: int) -> None:
            at(before.get(move.state))
            await real_keep(self, move, term=term)
            at(after.get(move.state))

        async def end(self: moves.Moves, *what: Any, **more: Any) -> MoveRecord:
            at("before the receipt")
            found = await real_end(self, *what, **more)
            at("after the receipt")
            return found

        def send(self: Agents, host: str, message: Any) -> int | None:
            number = real_send(self, host, message)
            if sent.get(type(message)) == fate.place:
                asyncio.get_running_loop().call_later(0.05, die)
            return number

        moves.Moves.ask, moves.Moves.keep, moves.Moves.end = ask, keep, end  # type: ignore[method-assign]
        Agents.send = send  # type: ignore[method-assign]


async def main(config: Config) -> None:
    async with controller(config):
        await asyncio.Event().wait()


if __name__ == "__main__":
    Fate(sys.argv[2] if len(sys.argv) > 2 else "").rig()
    asyncio.run(main(Config.read(Path(sys.argv[1]))))
