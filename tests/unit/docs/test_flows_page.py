"""The page about traffic says what the code does."""

import re

import pytest
from pages import Page

from serai.analysis.filter import DEEPEST, FIELDS, LONGEST, Field, FilterError, Operator, parse
from serai.model.ports import FIRST_DYNAMIC

PAGE = Page.read("docs/FLOWS.md")
BLOCKS = [fence.text for fence in PAGE.section("Filters").fences("text")]
FILTERS = [line for block in BLOCKS if "^" not in block for line in block.splitlines()]
ERRORS = [block for block in BLOCKS if "^" in block]


def row(name: str, field: Field) -> list[str]:
    """What the page says about a field."""
    names = ", ".join(f"`{known}.KEY`" if field.keyed else f"`{known}`" for known in (name, *field.aliases))
    operators = " ".join(f"`{operator}`" for operator in field.kind.operators)
    return [names, field.kind.takes, operators, field.help]


def test_every_field_is_described_as_it_is() -> None:
    assert PAGE.section("Fields").rows() == [row(name, field) for name, field in FIELDS.items()]


def test_every_operator_is_described() -> None:
    described = [
        operator for cells in PAGE.section("Operators").rows() for operator in re.findall("`([^`]+)`", cells[0])
    ]
    assert sorted(described) == sorted(operator.value for operator in Operator)


@pytest.mark.parametrize("text", FILTERS)
def test_filters_that_are_shown_are_filters(text: str) -> None:
    assert str(parse(text))


@pytest.mark.parametrize("block", ERRORS)
def test_errors_that_are_shown_are_what_is_said(block: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(block.splitlines()[0])
    assert str(caught.value) == block.rstrip("\n")


def test_bounds_are_those_of_the_code() -> None:
    assert f"at most {LONGEST} characters" in PAGE.text
    assert f"in one another {DEEPEST} deep" in PAGE.text
    assert f"from {FIRST_DYNAMIC} up" in PAGE.text


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_values_that_the_table_shows_are_read(field: Field) -> None:
    for shown in re.findall("`([^`]*)`", field.kind.takes):
        field.kind.value(Operator.IN, shown.strip('"'))
