"""Whether a machine is the one that was registered: its definition, and the files that it boots from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from serai.model.registered import Registered


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """A file that a VM boots from."""

    what: str
    """E.g. ``disk vda``."""
    path: str = ""
    digest: str = ""
    """SHA-256, in hexadecimal; empty: nobody could read it."""
    why: str = ""
    """Why not."""


def altered(registered: Registered, definition: str | None, domain: str) -> Iterator[str]:
    """Say what is wrong with the digest of a machine definition; None: the host does not tell it."""
    wanted = registered.definition
    if wanted is None or definition == wanted:
        return
    if definition is None:
        yield "the agent of this host does not tell its machine definition, and one is registered: upgrade the agent"
        return
    yield (
        f"its machine definition is not the one that is registered (sha256:{wanted}): it is sha256:{definition}; "
        f"what is meant is registered by `serai agent describe {domain}`"
    )


def foreign(
    registered: Registered, images: Mapping[str, frozenset[str]], boots: Sequence[Booted], domain: str
) -> Iterator[str]:
    """Say what is wrong with what a VM boots from, file by file. ``images``: their digests, by name."""
    if not registered.images:
        return
    known = frozenset[str]().union(*(images.get(name, frozenset()) for name in registered.images))
    called = f"{'image' if len(registered.images) == 1 else 'images'} {', '.join(registered.images)}"
    if not boots:
        yield f"it boots from nothing that could be compared with the {called}"
    for each in boots:
        at = f"its {each.what}" + (f" ({each.path})" if each.path else "")
        if not each.digest:
            yield f"{at} cannot be compared with the {called}: {each.why}"
        elif each.digest not in known:
            yield (
                f"{at} is not of the {called}: it is sha256:{each.digest}; what is meant is registered by `serai agent describe {domain}`"
            )
