"""Whose token is this? Asked at every request, so what is known is kept for a moment."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from serai.access.decide import Caller
from serai.controller.bearer import Bearer
from serai.controller.peoplestore import PeopleStore

_KEPT: Final = timedelta(seconds=1)
"""So long another controller may take to see that a token was revoked."""
_MOST: Final = 4096


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    caller: Caller
    since: datetime
    expires: datetime

    def holds(self, now: datetime) -> bool:
        return self.since <= now < min(self.since + _KEPT, self.expires)


class Callers:
    """Makes callers of tokens."""

    def __init__(self, store: PeopleStore) -> None:
        """Ask ``store``; nothing is known yet."""
        self._store = store
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._generation = 0

    async def authenticate(self, bearer: str, now: datetime) -> Caller | None:
        """Say who shows ``bearer``, with the grants that they have now; None: nobody who may do anything."""
        shown = Bearer.read(bearer)
        if shown is None:
            return None
        key = hashlib.sha256(shown.text.encode()).digest()
        known = self._known.get(key)
        if known is not None and known.holds(now):
            return known.caller
        generation = self._generation
        token = await self._store.token(shown.id)
        if token is None or not shown.proves(token.secret_digest) or token.revoked or token.expires <= now:
            return None
        person = await self._store.person(token.person)
        if person is None or person.disabled:
            return None
        caller = Caller(name=person.name, grants=person.grants, within=token.grants, token=token.id)
        # What changed while the store was asked may not be in its answers.
        if generation == self._generation:
            self._known[key] = _Known(caller=caller, since=now, expires=token.expires)
            self._known.move_to_end(key)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return caller

    def forget(self) -> None:
        """Something about people or tokens has changed: it holds from the next request on."""
        self._generation += 1
        self._known.clear()
