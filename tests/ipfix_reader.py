"""Reads IPFIX messages as RFC 7011 says, and knows nothing of how they are made."""

from __future__ import annotations

import dataclasses
import struct

REVERSE = 29305
"""The enterprise of elements of the way back (RFC 5103)."""

Values = dict[tuple[int, int], bytes]
"""By enterprise (0: IANA) and number."""


@dataclasses.dataclass
class Read:
    """One message."""

    domain: int
    export_time: int
    sequence: int
    templates: list[int]
    records: list[Values]
    options: list[Values]


class Reader:
    """One collector: it remembers templates, by observation domain."""

    def __init__(self) -> None:
        self.templates: dict[tuple[int, int], tuple[list[tuple[int, int, int]], int]] = {}
        self.expected: dict[int, int] = {}

    def read(self, raw: bytes) -> Read:
        version, length, export_time, sequence, domain = struct.unpack_from(">HHIII", raw)
        assert (version, length) == (10, len(raw))
        assert sequence == self.expected.get(domain, 0)
        found = Read(domain, export_time, sequence, [], [], [])
        at = 16
        while at < length:
            number, size = struct.unpack_from(">HH", raw, at)
            assert size >= 4
            assert at + size <= length
            content = raw[at + 4 : at + size]
            if number in {2, 3}:
                found.templates += self._learn(domain, content, options=number == 3)
            else:
                assert number >= 256
                fields, scopes = self.templates[domain, number]
                (found.options if scopes else found.records).extend(_records(content, fields))
            at += size
        assert at == length
        self.expected[domain] = (sequence + len(found.records) + len(found.options)) % 2**32
        return found

    def _learn(self, domain: int, content: bytes, *, options: bool) -> list[int]:
        at, learned = 0, []
        while at < len(content):
            number, count = struct.unpack_from(">HH", content, at)
            at += 4
            scopes = 0
            if options:
                (scopes,) = struct.unpack_from(">H", content, at)
                at += 2
            fields = []
            for _ in range(count):
                element, size = struct.unpack_from(">HH", content, at)
                at += 4
                enterprise = 0
                if element & 0x8000:
                    (enterprise,) = struct.unpack_from(">I", content, at)
                    at += 4
                fields.append((enterprise, element & 0x7FFF, size))
            assert number >= 256
            assert len(set(fields)) == count
            self.templates[domain, number] = fields, scopes
            learned.append(number)
        return learned


def _records(content: bytes, fields: list[tuple[int, int, int]]) -> list[Values]:
    at, found = 0, []
    while at < len(content):
        values: Values = {}
        for enterprise, element, told in fields:
            size = told
            if size == 0xFFFF:
                size = content[at]
                at += 1
                if size == 255:
                    (size,) = struct.unpack_from(">H", content, at)
                    at += 2
            assert at + size <= len(content)
            values[enterprise, element] = content[at : at + size]
            at += size
        found.append(values)
    return found
