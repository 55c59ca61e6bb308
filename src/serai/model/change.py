"""What a change does to resources, one by one; and the digest that a person's consent is bound to."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

from serai.model.catalog import Key
from serai.model.definitions import Path, dotted

Bodies = Mapping[Key, str | None]
"""Resources as they are written; None: there is none of that name."""

_MOST_FIELDS: Final = 50
"""So many fields of one resource are told; more would be a change of all of it."""


class Does(enum.StrEnum):
    """What becomes of a resource."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a change does to one resource."""

    key: Key
    does: Does
    fields: tuple[str, ...] = ()
    """Of a change: the fields that differ, in order, such as ``spec.ingress[0].ports``."""


def steps(before: Bodies, writes: Bodies) -> tuple[Step, ...]:
    """Return what ``writes`` does to resources that are as ``before`` says, in order; what stays as it is, is not told."""
    found = []
    for key in sorted(writes):
        old, new = before.get(key), writes[key]
        if old == new:
            continue
        if old is None:
            found.append(Step(key=key, does=Does.CREATE))
        elif new is None:
            found.append(Step(key=key, does=Does.DELETE))
        else:
            differing = tuple(dict.fromkeys(map(dotted, _differing((), json.loads(old), json.loads(new)))))
            found.append(Step(key=key, does=Does.CHANGE, fields=differing[:_MOST_FIELDS]))
    return tuple(found)


def digest(before: Bodies, writes: Bodies) -> str:
    """Return the SHA-256 of a change, in hexadecimal: of what each resource is before it, and after.

    Who consents to it consents to nothing else: not to other writes, and not to the same ones on top of other resources.
    """
    told = hashlib.sha256(b"serai change v1\n")
    for key in sorted(writes):
        for part in (key.kind, key.path, before.get(key), writes[key]):
            raw = b"" if part is None else part.encode()
            told.update((b"-" if part is None else b"%d" % len(raw)) + b"\n" + raw)
    return told.hexdigest()


def _differing(at: Path, old: object, new: object) -> Iterator[Path]:
    """Go through the places where two documents differ, as deep as both have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name not in old or name not in new:
                yield (*at, name)
            else:
                yield from _differing((*at, name), old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differing((*at, number), one, other)
    elif old != new:
        yield at
