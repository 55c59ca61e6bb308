"""YAML text to plain data that remembers its lines.

Only what reads the same to everybody is let in: scalars of the YAML 1.2 core schema, no anchors, no tags, no
key twice, no empty values.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

import yaml

from serai.model.definitions import Path

MAX_CHARACTERS = 16 * 1024 * 1024
"""The longest file that is looked at."""
MAX_DEPTH = 32
"""How deep lists and mappings may be nested; resources need 8."""

# The C parser is ten times as fast; wheels bring it, bare builds of PyYAML may not.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_OCTAL = re.compile(r"0o[0-7]{1,18}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that the text should not hold."""

    line: int
    path: Path
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file. Faulty values stand as None in ``data``."""

    data: object
    lines: Mapping[Path, int]
    """Where every value stands (the line of its key, where it has one); counted from 1."""
    written: Mapping[Path, str]
    """How every number, truth value and null was written."""
    faults: tuple[Fault, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """All documents of one file up to the first fault that makes the rest unreadable."""

    documents: tuple[Document, ...]
    fault: Fault | None


class _TooDeepError(Exception):
    """Nesting went past ``MAX_DEPTH``."""


def read_stream(text: str) -> Stream:
    """Take a file apart. Empty documents are left out. Never raises."""
    fault = _unreadable(text)
    if fault:
        return Stream(documents=(), fault=fault)
    documents: list[Document] = []
    reader = _Reader(yaml.parse(text.removeprefix("\ufeff"), Loader=_Loader))
    try:
        documents.extend(reader.documents())
    except _TooDeepError:
        message = f"lists and mappings are nested more than {MAX_DEPTH} deep"
        fault = Fault(line=reader.line, path=(), message=message)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be read"
        fault = Fault(line=mark.line + 1 if mark else 1, path=(), message=f"not valid YAML: {problem}")
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        fault = Fault(line=reader.line, path=(), message=f"not valid YAML: {problem}")
    return Stream(documents=tuple(documents), fault=fault)


def _unreadable(text: str) -> Fault | None:
    """Look for what no parser should even be shown."""
    if len(text) > MAX_CHARACTERS:
        return Fault(line=1, path=(), message=f"the file is longer than {MAX_CHARACTERS} characters")
    match = _FORBIDDEN.search(text, 1 if text.startswith("\ufeff") else 0)
    if not match:
        return None
    line = text.count("\n", 0, match.start()) + 1
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 (where "surrogateescape" keeps bytes that are not UTF-8)
        return Fault(line=line, path=(), message=f"byte 0x{code - 0xDC00:02x} is not UTF-8 text")
    return Fault(line=line, path=(), message=f"character U+{code:04X} is not allowed in YAML")


class _Reader:
    """Builds plain data out of parser events, one document at a time."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.line = 1
        self._events = events
        self._lines: dict[Path, int] = {}
        self._written: dict[Path, str] = {}
        self._faults: list[Fault] = []

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            self._lines, self._written, self._faults = {}, {}, []
            root = self._next()
            self._lines[()] = self.line
            if isinstance(root, yaml.ScalarEvent) and root.implicit[0] and root.value in _NULL:
                continue
            data = self._value(root, ())
            yield Document(data=data, lines=self._lines, written=self._written, faults=tuple(self._faults))

    def _next(self) -> yaml.Event:
        event = next(self._events)
        if event.start_mark:
            self.line = event.start_mark.line + 1
        return event

    def _fault(self, path: Path, message: str) -> None:
        self._faults.append(Fault(line=self.line, path=path, message=message))

    def _value(self, event: yaml.Event, path: Path) -> object:
        if isinstance(event, yaml.AliasEvent):
            self._fault(path, f"anchors are not used here: write out what *{event.anchor} stands for")
            return None
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._fault(path, f"anchors are not used here: take '&{event.anchor}' away")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._fault(path, f"tags are not used here: take {_short(tag)!r} away")
            self._skip(event)
            return None
        if len(path) > MAX_DEPTH:
            raise _TooDeepError
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        return self._mapping(path)

    def _skip(self, event: yaml.Event) -> None:
        """Pass over all events of the value that ``event`` opens."""
        depth = int(isinstance(event, yaml.CollectionStartEvent))
        while depth:
            inner = self._next()
            depth += isinstance(inner, yaml.CollectionStartEvent) - isinstance(inner, yaml.CollectionEndEvent)

    def _list(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self._lines[inner] = self.line
            items.append(self._value(event, inner))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        entries: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key is None:
                self._skip(self._next())
                continue
            inner = (*path, key)
            if key in entries:
                self._fault(inner, f"is written twice; the first time on line {self._lines[inner]}")
                self._skip(self._next())
                continue
            self._lines[inner] = self.line
            entries[key] = self._value(self._next(), inner)
        return entries

    def _key(self, event: yaml.Event, path: Path) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            self._fault(path, "a key must be a single word")
            self._skip(event)
            return None
        if event.anchor is not None or event.tag is not None:
            self._fault((*path, event.value), "anchors and tags are not used here")
        if _SURROGATE.search(event.value):
            self._fault(path, "a key holds half of a character (a lone surrogate)")
            return None
        if event.implicit[0] and not isinstance(resolve_scalar(event.value), str):
            self._fault((*path, event.value), f'a key must be text: write "{event.value}" in quotes')
            return None
        return event.value

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        text = event.value
        if _SURROGATE.search(text):
            self._fault(path, "holds half of a character (a lone surrogate)")
            return None
        if not event.implicit[0]:
            return text
        value = resolve_scalar(text)
        if not isinstance(value, str):
            self._written[path] = text
        if value is None:
            self._fault(path, "has no value: write one, or leave the field out")
        return value


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """Read an unquoted scalar as the YAML 1.2 core schema does. Whole numbers past 18 digits turn inexact."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            return int(text, base)
    if not _FLOAT.fullmatch(text):
        return text
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
