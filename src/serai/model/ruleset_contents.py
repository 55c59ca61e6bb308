"""What the parts of a ruleset say together: books filled in with the numbers of the domains that use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from serai.model.form import GAP, WORD, Form
from serai.model.records import CAPACITY, JUDGED, TABLES
from serai.model.ruleset_form import FrozenBook, FrozenDomain, FrozenForm, FrozenGuest, FrozenPart, FrozenWhole

_NO_BOOK = bytes(32)

GuestKey = tuple[bytes, int]
"""The digest of the part that a guest stands in, and which of several there it is."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """Everything in a ruleset, as bytes and texts."""

    parts: Mapping[bytes, FrozenPart]
    """By digest."""
    guests: Mapping[GuestKey, FrozenGuest]
    judged: NDArray[Any]
    """Records of ``JUDGED``."""
    rules: list[str]
    tables: Mapping[str, tuple[bytes, ...]]
    """The records of each table in several pieces, in no order, some of them several times."""

    @classmethod
    def of(
        cls,
        parts: Mapping[bytes, bytes],
        leaving: frozenset[int] = frozenset(),
        known: Mapping[bytes, FrozenPart] | None = None,
    ) -> Self:
        """Read parts, by their digest; only what VMs among them need is filled in, and what is there for kinds that leave.

        Args:
            parts: the bytes of each.
            leaving: kinds of vNICs that are no more here.
            known: parts that have been read before, by their digest too; they are not read again.

        Raises:
            ValueError: a part is damaged, or one that is needed is missing.
        """
        decoder, known = msgspec.msgpack.Decoder(FrozenPart), known or {}
        read: dict[bytes, FrozenPart] = {
            digest: known[digest] if digest in known else decoder.decode(raw) for digest, raw in sorted(parts.items())
        }
        wholes = [part for part in read.values() if isinstance(part, FrozenWhole)]
        domains = [part for part in read.values() if isinstance(part, FrozenDomain)]
        spread: list[FrozenDomain | FrozenWhole] = [*domains, *wholes]
        guests = {(digest, 0): part for digest, part in read.items() if isinstance(part, FrozenGuest)}
        for digest, whole in read.items():
            if isinstance(whole, FrozenWhole):
                guests |= {(digest, at): guest for at, guest in enumerate(whole.guests)}
        judged = np.frombuffer(b"".join([part.judged for part in spread]), JUDGED)
        kinds = {kind for guest in guests.values() for kind in np.frombuffer(guest.kinds, "<u8").tolist()}
        filled = _Filled(read, kinds, leaving)
        for domain in domains:
            filled.take(domain)
        lists, pages = filled.records()
        return cls(
            parts=read,
            guests=guests,
            judged=judged,
            rules=[*filled.rules, *(rule for whole in wholes for rule in whole.rules)],
            tables={
                "endpoints": tuple(part.endpoints for part in spread),
                "prefixes": tuple(part.prefixes for part in spread),
                "lists": (lists, *(whole.lists for whole in wholes)),
                "pages": (pages, *(whole.pages for whole in wholes)),
            },
        )


class _Filled:
    """Books, and the numbers of all domains that use them: each book is filled in once for all."""

    def __init__(self, parts: Mapping[bytes, FrozenPart], kinds: set[int], leaving: frozenset[int]) -> None:
        self._parts, self._kinds, self._leaving = parts, kinds, leaving
        self._numbers: dict[bytes, list[bytes]] = {}
        self.rules: set[str] = set()

    def take(self, domain: FrozenDomain) -> None:
        records = np.frombuffer(domain.judged, JUDGED)
        books = {
            book
            for kind, book in zip(records["kind"].tolist(), map(bytes, records["book"]), strict=True)
            if kind in self._kinds or (kind in self._leaving and book in self._parts)
        }
        for digest in books - {_NO_BOOK}:
            self._numbers.setdefault(digest, []).append(domain.numbers)
            self.rules.update(_name(rule, domain.root) for rule in self._book(digest).rules)

    def records(self) -> tuple[bytes, bytes]:
        """Return the lists and the pages of all domains.

        Raises:
            ValueError: they are more than any host has room for: few bytes could ask for all of its memory.
        """
        sizes = {"lists": 0, "pages": 0}
        for digest, several in self._numbers.items():
            book = self._book(digest)
            sizes["lists"] += len(several) * len(book.lists.text)
            sizes["pages"] += len(several) * len(book.pages.text)
        for name, size in sizes.items():
            if size > CAPACITY[name] * TABLES[name].itemsize:
                raise ValueError(f"there are more {name} than a host has room for")
        lists: list[bytes] = []
        pages: list[bytes] = []
        for digest, several in sorted(self._numbers.items()):
            book = self._book(digest)
            by_width: dict[int, list[bytes]] = {}
            for numbers in several:
                by_width.setdefault(len(numbers), []).append(numbers)
            for width, alike in by_width.items():
                table = np.frombuffer(b"".join(alike), np.uint64).reshape(len(alike), width // WORD)
                lists.append(_thaw(book.lists).filled(table))
                pages.append(_thaw(book.pages).filled(table))
        return b"".join(lists), b"".join(pages)

    def _book(self, digest: bytes) -> FrozenBook:
        book = self._parts.get(digest)
        if not isinstance(book, FrozenBook):
            raise ValueError(f"the book {digest.hex()[:12]} is missing")  # noqa: TRY004 (whoever wrote it is wrong, not its type)
        return book


def _name(rule: str, root: str) -> str:
    return root + rule[1:] if rule.startswith("$") else rule


def _thaw(form: FrozenForm) -> Form:
    return Form(form.text, np.frombuffer(form.gaps, GAP))
