"""Resources as they stand in files: where each one is written, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from serai.model.resources import Resource, label

Path = tuple[str | int, ...]
"""The way to a field inside a document, e.g. ``("spec", "ingress", 0, "ports")``."""

_LONGEST_KEY = 80
_NUMBERED = re.compile(r"([^0-9]+|^)([0-9]{0,9})", re.ASCII)

R_co = TypeVar("R_co", bound=Resource, covariant=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionError:
    """One thing that is wrong in one file. Its text is ``file:line: resource: field: message``."""

    file: str
    line: int
    """Counted from 1; 0 where what is wrong stands in no file, and ``file`` says where else."""
    resource: str
    """E.g. ``Policy /acme:shop``; empty where no resource can be made out."""
    field: str
    """E.g. ``spec.ingress[0].ports[1]``; empty where the resource as a whole is meant."""
    message: str

    @property
    def place(self) -> str:
        """File and line, or what else says where it stands."""
        return _place(self.file, self.line)

    def __str__(self) -> str:
        parts = (self.place, self.resource, self.field, self.message)
        return ": ".join(part for part in parts if part)


class DefinitionErrors(ValueError):  # noqa: N818 (it is several)
    """The files do not describe a world. ``errors`` holds everything wrong with them, by file and line."""

    def __init__(self, errors: Iterable[DefinitionError]) -> None:
        """Take the errors in any order; the same one twice counts once."""
        order = sorted(set(errors), key=lambda e: (e.file, e.line, e.resource, _natural(e.field), e.message))
        self.errors: tuple[DefinitionError, ...] = tuple(order)
        super().__init__("\n".join(map(str, self.errors)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Definition(Generic[R_co]):
    """One well-formed resource and where it is written."""

    resource: R_co
    file: str
    """The name of the file; of what is in force already, ``revision N``."""
    lines: Mapping[Path, int]
    """The line of every field; ``()`` is the document's own, and 0 where there are no lines."""
    body: str
    """The document as it is written, as canonical JSON: of the same content, always the same text."""

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.lines[()]

    @property
    def place(self) -> str:
        """File and line, for other errors to point at."""
        return _place(self.file, self.line)


class Complaints:
    """Gathers errors, and remembers which resources they leave undefined."""

    def __init__(self) -> None:
        """Begin with none."""
        self.errors: list[DefinitionError] = []
        self._broken: set[tuple[str, str]] = set()
        self._anything_broken = False

    def about(self, definition: Definition[Resource], path: Path, message: str) -> None:
        """Record what is wrong with one field of a resource."""
        self.add(
            DefinitionError(
                file=definition.file,
                line=line_of(definition.lines, path),
                resource=label(definition.resource),
                field=dotted(path),
                message=message,
            ),
            kind=definition.resource.kind,
            name=definition.resource.metadata.name,
        )

    def add(self, error: DefinitionError, *, kind: str | None, name: str | None) -> None:
        """Record an error in the resource called ``name`` (None: it cannot be told which one it is)."""
        self.errors.append(error)
        if kind is None or name is None:
            self._anything_broken = True
        else:
            self._broken.add((kind, name))

    def excuse(self, kind: str, name: str) -> bool:
        """Say whether a missing resource may be one of the broken ones.

        Telling people that it does not exist would then send them the wrong way.
        """
        return self._anything_broken or (kind, name) in self._broken

    def settle(self) -> None:
        """Let the work go on when there is nothing to complain about.

        Raises:
            DefinitionErrors: something is wrong.
        """
        if self.errors:
            raise DefinitionErrors(self.errors)


def _place(file: str, line: int) -> str:
    return f"{file}:{line}" if line else file


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of ``path``, or of the nearest thing around it that is written down."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def dotted(path: Path) -> str:
    """Write a path as people do: ``spec.ingress[0].ports[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in path)
    return text.removeprefix(".")


def _natural(field: str) -> tuple[tuple[str, int], ...]:
    """Order ``ports[2]`` before ``ports[10]``."""
    return tuple((text, int(number or 0)) for text, number in _NUMBERED.findall(field))


def _plain(key: str) -> str:
    """Keep what somebody else wrote from writing to the terminal of whoever reads the error."""
    short = key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + "..."
    return short if short.isprintable() else short.encode("unicode_escape").decode()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known word looks like ``word``, else nothing."""
    close = difflib.get_close_matches(word[:100], sorted(known), n=1, cutoff=0.65)
    return f"; did you mean {close[0]!r}?" if close else ""
