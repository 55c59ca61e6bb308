"""What is let in from YAML, and on which line it stands."""

import pytest

from serai.model.yaml_nodes import read_stream, resolve_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("FALSE", False), ("no", "no"), ("on", "on"), ("y", "y"),
        ("", None), ("~", None), ("Null", None), ("nil", "nil"),
        ("12", 12), ("-3", -3), ("007", 7), ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"),
        ("1.10", 1.1), ("1e3", 1000.0), ("-.inf", float("-inf")), ("22:30", "22:30"),
        ("2024-01-01", "2024-01-01"),
        ("10.0.0.1", "10.0.0.1"), ("52:54:00:12:34:56", "52:54:00:12:34:56"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert resolve_scalar(text) == value
    assert type(resolve_scalar(text)) is type(value)


def test_every_value_knows_its_line() -> None:
    stream = read_stream("a: 1\nb:\n  - x\n  - {c: 1.10}\n---\nd: |\n  text\n")
    first, second = stream.documents
    assert first.data == {"a": 1, "b": ["x", {"c": 1.1}]}
    assert first.lines == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4}
    assert first.written == {("a",): "1", ("b", 1, "c"): "1.10"}
    assert (second.data, second.lines) == ({"d": "text\n"}, {(): 6, ("d",): 6})


def test_documents_before_a_syntax_error_are_kept() -> None:
    stream = read_stream("a: b\n---\n[\n")
    assert [document.data for document in stream.documents] == [{"a": "b"}]
    assert stream.fault
    assert stream.fault.line in {3, 4}


def test_a_byte_order_mark_is_no_content() -> None:
    assert read_stream("\ufeffa: b\n").documents[0].data == {"a": "b"}


def test_too_long_a_file_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.model.yaml_nodes.MAX_CHARACTERS", 10)
    fault = read_stream("a: [" + "x" * 20).fault
    assert fault
    assert fault.message == "the file is longer than 10 characters"


def test_aliases_do_not_multiply() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    [document] = read_stream(bomb).documents
    assert len(document.faults) == 1 + 8 * 3
