"""What a host joins with: one word that says who may join, and whom the host may believe."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
from typing import Final, Self

_FORM: Final = re.compile(r"serai1\.(?P<id>[A-Za-z0-9_-]{1,64})\.(?P<secret>[A-Za-z0-9_-]{43})\.(?P<ca>[0-9a-f]{64})")


class JoinTokenError(ValueError):
    """This is no join token."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """``serai1.ID.SECRET.HASH``."""

    id: str
    secret: bytes = dataclasses.field(repr=False)
    """32 bytes that the controller keeps the hash of only."""
    ca_hash: str
    """Of the authority's certificate, as ``pki.ca_hash`` writes it: the host believes no other."""

    def __str__(self) -> str:
        """Write it for a person to copy."""
        secret = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()
        return f"serai1.{self.id}.{secret}.{self.ca_hash.removeprefix('sha256:')}"

    @property
    def secret_digest(self) -> bytes:
        """What a controller keeps of the secret."""
        return hashlib.sha256(self.secret).digest()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` wrote.

        Raises:
            JoinTokenError: it is none, or not whole.
        """
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise JoinTokenError("this is no join token: copy all of what 'serai host token NAME' prints")
        try:
            secret = base64.b64decode(found["secret"] + "=", altchars=b"-_", validate=True)
        except binascii.Error as error:
            raise JoinTokenError("this is no join token: a letter of it is wrong") from error
        return cls(id=found["id"], secret=secret, ca_hash=f"sha256:{found['ca']}")
