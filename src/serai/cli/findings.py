"""How ``serai check`` shows what should be tidied up: file by file, one rule below the other."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from serai.cli.show import line
from serai.policy.questions.hygiene import Finding, Kind

_SEEN = 3
"""How many of the other rules are pointed at."""


def tell(to: Console, findings: Sequence[Finding]) -> None:
    """Show findings, which come by file and line."""
    number = Counter(finding.kind for finding in findings)
    kinds = ", ".join(f"{number[kind]} {kind}" for kind in Kind if kind in number)
    line(to, f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'}: {kinds}.")
    lines = max(len(str(finding.line)) for finding in findings)
    widest = max(len(finding.kind) for finding in findings)
    for file, those in itertools.groupby(findings, lambda finding: finding.file):
        line(to, "")
        line(to, file, style="bold")
        for finding in those:
            head = Text.assemble(
                f"  {finding.line:>{lines}}  ", (f"{finding.kind:<{widest}}", "yellow"), f"  {finding.rule}"
            )
            line(to, head)
            _tell_below(to, finding.message, lines + widest + 6)
            if finding.others:
                _tell_below(to, f"See {_places(finding)}.", lines + widest + 6, style="dim")


def _places(finding: Finding) -> str:
    """Point at a few of the other rules; the file goes without saying where it is the same."""
    shown = [
        f"line {other.line}" if other.file == finding.file else f"{other.file}:{other.line}"
        for other in finding.others[:_SEEN]
    ]
    if len(finding.others) > _SEEN:
        shown.append(f"{len(finding.others) - _SEEN} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _tell_below(to: Console, text: str, indent: int, style: str = "") -> None:
    """Write a paragraph below a rule; only a terminal has an edge to fold it at."""
    space = " " * indent
    if not to.is_terminal or to.width <= 2 * indent:
        line(to, space + text, style=style)
        return
    for part in textwrap.wrap(text, to.width - indent, break_long_words=False, break_on_hyphens=False):
        line(to, space + part, style=style)
