"""What is written about a VM so that nothing else may run in its stead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from serai.wire.local import BootStatus, DescribeReply

DESCRIBE_SECONDS: Final = 86400.0
"""So long files may take to be read."""
_LONGEST_NAME: Final = 63


def registration(domain: str, reply: DescribeReply) -> str:
    """Return an Image with what a domain boots from, and in comments what is to stand in its VM."""
    return "\n".join(_lines(domain, reply))


def _lines(domain: str, reply: DescribeReply) -> Iterator[str]:
    known = [boot for boot in reply.boots if boot.sha256]
    name = _name(known, domain)
    if known:
        yield from (
            "apiVersion: serai.dev/v1",
            "kind: Image",
            f"metadata: {{name: {name}}}",
            "spec:",
            "  digests:",
        )
        yield from (f"    - sha256:{boot.sha256} # {_plain(f'{boot.what}: {boot.path}')}" for boot in known)
    for boot in reply.boots:
        if not boot.sha256:
            yield f"# {_plain(f'{boot.what}, {boot.path}: {boot.why}')}"
    yield f"# And in the VirtualMachine of the domain {_plain(domain)}:"
    yield "# spec:"
    if known:
        yield f"#   images: [{name}]"
    yield f"#   definition: sha256:{reply.definition}"


def _name(known: Sequence[BootStatus], domain: str) -> str:
    """A name for an image after the file at the bottom of it."""
    stem = PurePosixPath(known[-1].path).name if known else domain
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\.(qcow2|raw|img|iso)$", "", stem.lower()))[:_LONGEST_NAME].strip("-")
    return name or "image"


def _plain(text: str) -> str:
    """Keep what others have called so from writing to the terminal, or into the YAML."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
