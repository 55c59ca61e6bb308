"""The form of tokens: ``serai_<id>_<secret>``. They say nothing by themselves; the store knows what they are for."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets

_FORM = re.compile(r"serai_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A token as people hold it."""

    id: str
    secret: str = dataclasses.field(repr=False)

    @classmethod
    def new(cls) -> Bearer:
        """Make one, with a secret of 256 bits."""
        return cls(id=secrets.token_hex(8), secret=secrets.token_hex(32))

    @classmethod
    def read(cls, text: str) -> Bearer | None:
        """Take one apart; None: it is none."""
        match = _FORM.fullmatch(text)
        return cls(id=match[1], secret=match[2]) if match else None

    @property
    def text(self) -> str:
        """What people keep."""
        return f"serai_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What the store keeps of the secret: with so many bits a plain hash is enough."""
        return hashlib.sha256(self.secret.encode()).digest()

    def proves(self, digest: bytes) -> bool:
        """Say whether this is the token of which the store has kept ``digest``."""
        return hmac.compare_digest(self.digest, digest)
