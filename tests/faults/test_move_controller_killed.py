"""A controller is killed at every step of a move: it is made whole or not at all, by the next one, and one gate forwards."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mortal import MOVE_PLACES

from moving import Scene, resources
from serai.agent.join import join
from serai.controller.config import Config
from serai.model.migration import Step
from serai.wire import api
from serai.wire.client import Client, ClientError
from serai.wire.moveapi import Move, MoveList, MoveRequest
from serai.wire.profile import ProfileError, find

HERE = Path(__file__).parent

NOT_YET = {
    **dict.fromkeys(MOVE_PLACES[: MOVE_PLACES.index("before the leave is written down")], Step.PREPARED),
    **dict.fromkeys(
        ("before the leave is written down", "before the leave is given", "after the leave is given"), Step.COPIED
    ),
}
"""What hosts may not do yet, so that nothing is over before its controller has died."""

T = TypeVar("T")


class Killed(Scene):
    """The hosts of a scene, and a controller in a process of its own."""

    process: subprocess.Popen[bytes] | None = None

    async def start(self, place: str = "", *, answers: bool = True) -> None:
        command = [sys.executable, str(HERE / "mortal.py"), str(written(self.config, self.directory)), place]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 (to begin it takes no time)
                ["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        while answers and not await asyncio.to_thread(self._answers):  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.05)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()[-3000:]
        try:
            return "serai_leads 1.0" in self._ask(lambda client: client.text("/metrics"))
        except (ClientError, ProfileError):
            return False

    def _ask(self, what: Callable[[Client], T]) -> T:
        with Client(find({"XDG_CONFIG_HOME": str(self.directory / "nowhere")}, self.config.client)) as client:
            return what(client)

    async def ask(self, method: str, path: str, kind: type[T], **more: Any) -> T:
        return await asyncio.to_thread(self._ask, lambda client: client.ask(method, path, kind, **more))

    async def dead(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 30)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def written(config: Config, directory: Path) -> Path:
    told = {
        "database": config.database, "keys": str(config.keys), "names": list(config.names), "address": config.address,
        "port": config.port, "agents_port": config.agents_port, "client": str(config.client),
    }  # fmt: skip
    file = directory / "controller.toml"
    file.write_text("".join(f"{n} = {json.dumps(v)}\n" for n, v in told.items()) + '[flows]\nstore = "off"\n')
    return file


async def over(at: Killed, name: str) -> Move:
    move = await at.ask("GET", f"/v1/moves/{name}", Move)
    while move.ended is None:
        params = {"seen": move.version, "timeout": 20}
        move = await at.ask("GET", f"/v1/moves/{move.id}", Move, params=params)
    return move


async def begun(at: Killed) -> None:
    await at.start()
    await at.ask("POST", "/v1/apply", api.Applied, body=api.ChangeRequest(files={"all.yaml": resources("web")}))
    for name, host in at.hosts.items():
        host.url = at.config.agents_url
        token = await at.ask("POST", "/v1/join-tokens", api.JoinToken, body=api.JoinTokenRequest(host=name))
        await asyncio.to_thread(join, at.config.url, token.token, host.state, name)
        host.start()


async def killed_at_every_place(at: Killed) -> Move:
    """Have one move made by as many controllers as there are places to die at, and one more."""
    for place in MOVE_PLACES:
        at.kill()
        at.held_at = NOT_YET.get(place)
        asked_for = place not in MOVE_PLACES[:2]
        await at.start(place, answers=not asked_for)  # who goes on with a move may be dead before it answers
        if not asked_for:
            assert not (await at.ask("GET", "/v1/moves", MoveList)).moves, "what was not written down has begun nothing"
            wanted = MoveRequest(vm="/acme:web", to="b")
            # Hosts may not have told yet whom they run; nobody answers in the end.
            while at.process is not None and at.process.poll() is None:
                await asyncio.gather(at.ask("POST", "/v1/moves", Move, body=wanted), return_exceptions=True)
        assert await at.dead() == -signal.SIGKILL, place
    await at.start()
    return await over(at, "1")


def test_killed_at_every_step_of_a_move(tmp_path: Path) -> None:
    async def play() -> None:
        at = Killed(tmp_path)
        try:
            async with asyncio.timeout(200):
                await begun(at)
                ended = await killed_at_every_place(at)
                assert ended.state == "done"
                assert ended.receipt
                assert (ended.receipt.unheard, ended.receipt.facts.gap_us) == ([], 250_000)
                assert at.guests["web"].host.name == "b"
                at.check()
                page = await at.ask("GET", "/v1/audit", api.AuditPage)
                assert [each.verb for each in page.records if "move" in each.detail] == ["move", "end a move"]
                verdict = await at.ask("POST", "/v1/audit/verify", api.AuditVerdict, body=api.AuditVerifyRequest())
                assert verdict.ok
                assert at.two_gates == []
        finally:
            for host in at.hosts.values():
                await host.stop()
            at.kill()

    asyncio.run(play())
