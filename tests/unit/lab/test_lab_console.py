"""The shell keeps its commands through lost connections, against a guest played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from serai.lab.console import GuestShell
from serai.lab.error import LabError


@asynccontextmanager
async def guest(path: Path, answer: Callable[[list[str]], str]) -> AsyncIterator[None]:
    """Serve the guest's side of the control channel at path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if words := line.decode().split():
                writer.write(answer(words).encode())
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    yield
    # Not `async with server`: that waits for the client, which is still connected.
    server.close()


def reply(words: list[str], **members: object) -> str:
    return f"\n{json.dumps({'id': words[1], **members})}\n"


def test_many_probes_answered_in_any_order(tmp_path: Path) -> None:
    held: list[str] = []

    def answer(words: list[str]) -> str:
        held.append(reply(words, ok=True, error="", ms=1.5, peer=words[3]))
        return "".join(reversed(held)) if len(held) == 3 else ""

    async def body() -> None:
        async with guest(tmp_path / "s", answer), GuestShell("web", [tmp_path / "s"]) as shell:
            targets = [IPv4Address(f"10.0.0.{number}") for number in range(3)]
            results = await asyncio.gather(*(shell.probe("tcp", target, 80) for target in targets))
            assert [result.peer for result in results] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]

    asyncio.run(body())


def test_cut_lines_and_strangers_replies_are_ignored(tmp_path: Path) -> None:
    def answer(words: list[str]) -> str:
        return 'ok":true}\n{"id":"other-1","name":"x"}\n[1]\n{"id":"cut' + reply(words, ready=True, name="web")

    async def body() -> None:
        async with guest(tmp_path / "s", answer), GuestShell("web", [tmp_path / "s"]) as shell:
            assert await shell.ready() == "web"

    asyncio.run(body())


def test_open_command_follows_the_guest_to_its_new_host(tmp_path: Path) -> None:
    asked: list[str] = []

    async def body() -> None:
        async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while not (words := (await reader.readline()).decode().split()):
                pass
            asked.append(words[1])
            writer.close()
            old.close()
            await here.put(None)

        def answer(words: list[str]) -> str:
            asked.append(words[1])
            return reply(words, sent=7)

        here: asyncio.Queue[None] = asyncio.Queue()
        old = await asyncio.start_unix_server(vanish, tmp_path / "a")
        async with GuestShell("web", [tmp_path / "a", tmp_path / "b"]) as shell:
            forging = asyncio.create_task(shell.forge("own", marker="M", count=7))
            await here.get()
            async with guest(tmp_path / "b", answer):
                assert await forging == 7

    asyncio.run(body())
    assert len(asked) == 2
    assert len(set(asked)) == 1


def test_refusal_and_silence_are_clear_errors(tmp_path: Path) -> None:
    async def body() -> None:
        refusing = guest(tmp_path / "s", lambda words: reply(words, error="bad count"))
        async with refusing, GuestShell("web", [tmp_path / "s"]) as shell:
            with pytest.raises(LabError, match="guest web refused 'forge': bad count"):
                await shell.forge("own", marker="M")
            with pytest.raises(LabError, match="white space"):
                await shell.forge("own", marker="two words")
        async with GuestShell("web", [tmp_path / "nowhere"]) as shell:
            with pytest.raises(LabError, match="cannot be reached"):
                await shell.command("ready", timeout_seconds=0.1)

    asyncio.run(body())
