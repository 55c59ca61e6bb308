"""Takes Markdown pages apart, as far as the tests beside this file look at them."""

from __future__ import annotations

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

_FENCE = re.compile(
    r"(?:^[ ]*<!-- (?P<note>[^\n]*?) -->\n)?^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_CODE = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^(#+) (.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A block of code."""

    place: str
    """File and line."""
    language: str
    note: str
    """The comment on the line before; empty where there is none."""
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A Markdown file."""

    path: Path
    text: str

    @classmethod
    def read(cls, name: str | Path) -> Page:
        path = ROOT / name
        return cls(path=path, text=path.read_text())

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def headings(self) -> list[str]:
        return [match[2] for match in _HEADING.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """What GitHub makes of the headings."""
        seen: dict[str, int] = {}
        anchors = set()
        for heading in self.headings:
            plain = _LINK.sub(lambda link: link[0][1:].partition("]")[0], heading).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
            seen[slug] = seen.get(slug, 0) + 1
        return anchors

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_CODE.sub("code", self.prose))

    @property
    def inline_code(self) -> list[str]:
        return [" ".join(text.split()) for text in _CODE.findall(self.prose)]

    def fences(self, *languages: str) -> list[Fence]:
        return [
            Fence(
                place=f"{self.name}:{self.text.count(chr(10), 0, match.start('text'))}",
                language=match["language"],
                note=match["note"] or "",
                text=textwrap.dedent(match["text"]),
            )
            for match in _FENCE.finditer(self.text)
            if not languages or match["language"] in languages
        ]

    def section(self, heading: str) -> Page:
        """What stands below a heading, up to the next one of its level or a higher one."""
        hashes, text = next((h[1], self.text[h.end() :]) for h in _HEADING.finditer(self.text) if h[2] == heading)
        end = next((h.start() for h in _HEADING.finditer(text) if len(h[1]) <= len(hashes)), len(text))
        return Page(path=self.path, text=text[:end])

    def rows(self) -> list[list[str]]:
        """The cells of every row of every table, headings and rulers left out."""
        lines = self.prose.splitlines()
        return [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line, before in zip(lines[1:], lines, strict=False)
            if line.startswith("|") and before.startswith("|") and not line.startswith("| ---")
        ]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A ``serai`` command that a page shows."""

    place: str
    words: list[str]
    """Behind ``serai``."""
    output: str
    """What the page says that it prints; empty where it does not say."""
    mention: bool
    """It stands in a sentence, perhaps without its arguments."""


def command_lines(page: Page) -> Iterator[CommandLine]:
    """Find the ``serai`` commands of a page."""
    for fence in page.fences("sh", "console"):
        shown = fence.text if fence.language == "console" else textwrap.indent(fence.text, "$ ")
        for part in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "serai":
                yield CommandLine(place=fence.place, words=words[1:], output=output, mention=False)
    for text in page.inline_code:
        if re.match(r"(\S*/)?serai ", text):
            yield CommandLine(place=page.name, words=shlex.split(text)[1:], output="", mention=True)


PAGES = [
    Page.read(path)
    for path in sorted(
        [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *ROOT.glob("docs/**/*.md")]
    )
]
