"""Passwords: hashed with Argon2id, and looked at in threads, a few at a time."""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from typing import Final

from argon2 import PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError

from serai.controller.errors import BusyError

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
"""Characters."""


def new_hasher() -> PasswordHasher:
    """Return what hashes as RFC 9106 recommends where memory is short: 64 MiB, three passes, four lanes."""
    return PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)


class Passwords:
    """Hashes and verifies. Each takes 64 MiB for its time, so only a few are at work, and only some may wait."""

    def __init__(self, hasher: PasswordHasher, *, at_once: int = 2, most: int = 32) -> None:
        """Hash with ``hasher``, ``at_once`` at a time; of more than ``most``, those who come last are sent away."""
        self._hasher = hasher
        self._turns = asyncio.Semaphore(at_once)
        self._most = most
        self._there = 0

    async def hash(self, password: str) -> str:
        """Return what to keep of a password.

        Raises:
            BusyError: too many wait already.
        """
        return await self._in_turn(password, None) or ""

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Say whether a password is the one that was kept; without any it takes as long to say no.

        Raises:
            BusyError: too many wait already.
        """
        return await self._in_turn(password, encoded or self._nobodys()) is not None and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Say whether a password that was kept should be hashed anew, with the parameters of today."""
        return self._hasher.check_needs_rehash(encoded)

    async def _in_turn(self, password: str, encoded: str | None) -> str | None:
        if self._there >= self._most:
            raise BusyError("too many people are logging in at once: try again in a few seconds", retry_seconds=5)
        self._there += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(self._work, password, encoded)
        finally:
            self._there -= 1

    def _work(self, password: str, encoded: str | None) -> str | None:
        raw = unicodedata.normalize("NFC", password[: LONGEST_PASSWORD + 1]).encode(errors="surrogatepass")
        if encoded is None:
            return self._hasher.hash(raw)
        try:
            self._hasher.verify(encoded, raw)
        except (VerificationError, InvalidHashError):
            return None
        return encoded

    def _nobodys(self) -> str:
        """Return what no password hashes to, and what takes as long to find out."""
        h = self._hasher
        salt, tag = (base64.b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (h.salt_len, h.hash_len))
        return f"$argon2id$v=19$m={h.memory_cost},t={h.time_cost},p={h.parallelism}${salt}${tag}"
