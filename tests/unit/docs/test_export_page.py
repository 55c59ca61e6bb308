"""The page about exports says what the code does."""

import re
import tomllib

import msgspec
from pages import Page

from serai.analysis.export import elements, ipfix
from serai.analysis.export.ocsf import SCHEMA_VERSION
from serai.flowstore.exporter import ExportSettings

PAGE = Page.read("docs/EXPORT.md")


def test_every_element_is_described_with_its_number() -> None:
    rows = [cells for cells in PAGE.section("IPFIX").rows() if cells[1].isdecimal()]
    told = {name.strip("`"): int(number) for name, number, _ in rows}
    assert told == {name: each.number for template in elements.TEMPLATES for name, each in template.elements.items()}


def test_settings_and_their_defaults_are_described() -> None:
    told = {name.strip("`"): default.strip("`") for name, default, _ in PAGE.section("Settings").rows()}
    defaults = {
        field.name: field.default if field.default != () else [] for field in msgspec.structs.fields(ExportSettings)
    }
    assert told == {name: str(value) if value != "" else '""' for name, value in defaults.items()}


def test_settings_that_are_shown_are_settings() -> None:
    (shown,) = PAGE.section("Settings").fences("toml")
    assert msgspec.convert(tomllib.loads(shown.text)["flows"]["export"], ExportSettings)


def test_statuses_are_those_of_the_code() -> None:
    told = {
        reason: int(status.split()[0])
        for cells in PAGE.section("IPFIX").rows()
        if len(cells) == 2
        for why, status in [cells]
        for reason in re.findall("`([A-Z_]+)`", why)
    }
    assert told == {reason.name: status for reason, status in ipfix._WHY.items()}


def test_numbers_are_those_of_the_code() -> None:
    assert f"most {ipfix.UDP_BYTES} bytes" in PAGE.text.replace("\n", " ")
    assert f"is {ipfix.PORT} then" in PAGE.text
    assert f"Framework](https://schema.ocsf.io) {SCHEMA_VERSION}" in PAGE.text
