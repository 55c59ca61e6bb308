"""Who owns what: scopes, modes, and the content-derived numbers that name things."""

from __future__ import annotations

import enum
import hashlib
import re
from typing import NewType, Self

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

ContentId = NewType("ContentId", int)
"""A 64-bit number derived from what a thing is, never from when it arrived; 0 is reserved."""


def content_id(*parts: str | bytes) -> ContentId:
    """Return the 64-bit number that names ``parts`` on every machine; never 0.

    Each part is length-prefixed, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(4, "little"))
        digest.update(raw)
    return ContentId(int.from_bytes(digest.digest(), "little") or 1)


def is_name(text: str) -> bool:
    """Say whether ``text`` is a resource name: a DNS label (RFC 1123), lower case, 1 to 63 long."""
    return _NAME.fullmatch(text) is not None


class Scope(str):
    """A place in the tenancy tree: ``/`` (provider), ``/acme`` (tenant), ``/acme/shop`` (application)."""

    __slots__ = ()

    def __new__(cls, path: str) -> Self:
        """Check and take a path.

        Raises:
            ValueError: the path is not absolute or a part of it is not a name.
        """
        if path != "/" and not all((path.startswith("/"), *(is_name(p) for p in path[1:].split("/")))):
            message = (
                f"{path!r} is not a scope: write '/', '/tenant' or '/tenant/application', "
                "each part in lower-case letters, digits and '-'"
            )
            raise ValueError(message)
        return super().__new__(cls, path)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the root down; empty for ``/``."""
        return tuple(self[1:].split("/")) if self != "/" else ()

    @property
    def tenant(self) -> str | None:
        """The tenant this scope belongs to, or None for the provider's own."""
        return self.parts[0] if self != "/" else None

    @property
    def root(self) -> Scope:
        """The scope of the tenant that this one belongs to; ``/`` for the provider's own."""
        return self if self.count("/") == 1 else Scope("/" + self.parts[0])

    @property
    def lineage(self) -> tuple[Scope, ...]:
        """All scopes from ``/`` down to and including this one."""
        parts = self.parts
        return (ROOT, *(Scope("/" + "/".join(parts[: n + 1])) for n in range(len(parts))))

    def contains(self, other: Scope) -> bool:
        """Say whether ``other`` is this scope or lies below it."""
        return self in ("/", other) or other.startswith(self + "/")

    def child(self, name: str) -> Scope:
        """The scope called ``name`` directly below this one."""
        return Scope(f"/{name}" if self == "/" else f"{self}/{name}")


ROOT = Scope("/")
"""The provider's scope."""


class Mode(enum.StrEnum):
    """What a gate does with a vNIC's packets."""

    OBSERVE = "observe"
    """Verdicts are computed and recorded, packets pass."""
    ENFORCE = "enforce"
    """Denied packets are dropped."""
    ISOLATE = "isolate"
    """Quarantine: no policy is asked; only the addresses that the site's ``quarantine`` names are reached."""
