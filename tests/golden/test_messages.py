"""Nothing that decoding can complain of is without a golden case.

The sentences are read off the source (``messages.py``), so that a new one without a case is found.
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from golden.answers import HERE
from golden.messages import Sentence, modules, sentences
from serai.inventory.files import read_directory
from serai.model.decode import decode
from serai.model.definitions import DefinitionErrors
from serai.model.fields import _INSPECTED
from serai.model.wording import _TYPES

WITHOUT_A_CASE = {
    ("__str__", None): "it names a place, and says nothing",
    ("format_ports", None): "it writes ports in answers; decoding only reads them",
    ("parse_prefix", "has no length"): "`fields` says it in its own words",
    ("_unreadable", "the file is longer"): "it takes 16 MiB; tests/unit/model/test_yaml_nodes.py has it, smaller",
    ("_key", "half of a character"): "PyYAML's parser in C refuses it earlier, in words of its own",
    ("_scalar", "half of a character"): "PyYAML's parser in C refuses it earlier, in words of its own",
    (
        "read_stream",
        "Fault(line=reader.line, path=(), message=f",
    ): "an error without a place: no text is known to bring one",
}
"""Functions and a part of what they say, or of the line where they do (None: all), and why no golden case has it."""


@functools.cache
def told() -> tuple[str, frozenset[tuple[str, int]]]:
    """All that the golden cases complain of, a line each, and the lines of source that were run for it."""
    watched, run, said = set(modules()), set(), set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line":
            run.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    for case in sorted(HERE.glob("error-*")):
        files = read_directory(case / "in")
        sys.settrace(trace)
        try:
            decode(files)
        except DefinitionErrors as errors:
            said |= {error.message for error in errors.errors}
        finally:
            sys.settrace(before)
    return "\n".join(sorted(said)), frozenset(run)


def wording(sentence: Sentence) -> str:
    return re.sub(r"\\(.)", r"\1", sentence.text)


ALL = sentences()


def test_the_sentences_are_found() -> None:
    texts = "\n".join(map(wording, ALL))
    for known in (
        "is required",
        "there are two vNICs",
        "is not a name",
        "did you mean",
        "overlaps",
        "several",
        "nothing",
    ):
        assert known in texts
    assert len({sentence.file for sentence in ALL}) > 10


@pytest.mark.parametrize("sentence", ALL, ids=lambda s: f"{Path(s.file).stem}:{s.line} {wording(s)[:60]}")
def test_every_sentence_has_a_golden_case(sentence: Sentence) -> None:
    said, run = told()
    pattern = f"^{sentence.text}$" if sentence.whole else sentence.text
    has_one = bool(re.search(pattern, said, re.MULTILINE)) and (sentence.file, sentence.line) in run
    assert has_one != (excuse(sentence) is not None), f"{wording(sentence)!r}: {excuse(sentence)}"


@pytest.mark.parametrize("word", sorted({*_TYPES.values(), *_INSPECTED.values()}))
def test_every_word_that_is_filled_in_from_a_table_comes_up(word: str) -> None:
    assert re.search(rf"(must be|is) {re.escape(word)}[,:]", told()[0])


def test_no_sentence_is_left_to_the_library() -> None:
    assert "Input" not in told()[0]


def excuse(sentence: Sentence) -> str | None:
    """Why there need be no case."""
    return next((why for key, why in WITHOUT_A_CASE.items() if is_meant(sentence, *key)), None)


def is_meant(sentence: Sentence, function: str, part: str | None) -> bool:
    """Is this what an excuse is for?"""
    seen = wording(sentence) + linecache.getline(sentence.file, sentence.line)
    return function == sentence.function and (part is None or part in seen)


def test_every_excuse_excuses_something() -> None:
    for key in WITHOUT_A_CASE:
        assert any(is_meant(sentence, *key) for sentence in ALL), key
