"""Whatever comes from elsewhere is read, or refused in the decoder's own words: nothing else comes out of it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.model.audit_trail import verify_export
from serai.model.catalog import Key, read_files, read_stored
from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.model.definitions import DefinitionErrors
from serai.model.merkle import Frontier
from serai.wire.jointoken import JoinToken, JoinTokenError
from serai.wire.keypair import PkiError, requested_key
from serai.wire.pki import read_certificate

NOTE = f"log\n3\n{base64.b64encode(b'r' * 32).decode()}\n\n— log {base64.b64encode(b's' * 68).decode()}\n"
TOKEN = str(JoinToken(id="one", secret=b"s" * 32, ca_hash="sha256:" + "0b" * 32))
RECORD = json.dumps({"seq": 0}).encode()


def mutated(text: str) -> st.SearchStrategy[str]:
    """Something that is nearly ``text``, or nothing like it."""
    cut = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.text(max_size=5))
    return st.one_of(st.text(), cut.map(lambda c: text[: c[0]] + c[2] + text[c[1] :]))


DECODERS: dict[str, tuple[Callable[[Any], Any], st.SearchStrategy[Any], type[Exception]]] = {
    "checkpoint": (Checkpoint.parse, mutated(NOTE), CheckpointError),
    "join token": (JoinToken.parse, mutated(TOKEN), JoinTokenError),
    "frontier": (Frontier.decode, st.binary(max_size=200), ValueError),
    "certificate": (read_certificate, mutated("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), PkiError),
    "request for one": (requested_key, mutated("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"), PkiError),
    "files": (lambda text: read_files({"x.yaml": text}), mutated("kind: Site\nmetadata: {name: x}"), DefinitionErrors),
    "what is stored": (
        lambda text: read_stored(Key("Site", "x"), text, 1), mutated('{"kind":"Site"}'), (DefinitionErrors, ValueError),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_but_its_own_refusal(name: str) -> None:
    decode, texts, refusal = DECODERS[name]

    @settings(max_examples=150, deadline=None)
    @given(texts)
    def attempt(raw: Any) -> None:
        with contextlib.suppress(refusal):
            decode(raw)

    attempt()


def test_what_is_right_is_read() -> None:
    assert Checkpoint.parse(NOTE).size == 3
    assert JoinToken.parse(TOKEN).id == "one"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.just(RECORD), st.just(json.dumps({"checkpoint": NOTE}).encode()))))
def test_an_export_that_is_none_is_never_whole(lines: list[bytes]) -> None:
    _size, _root, faults = verify_export(lines, [], None)
    assert faults, "this checkpoint fits no records"
