"""A host as a witness of the audit log: what it was shown must not be taken back."""

from __future__ import annotations


def newer(known: str, shown: str) -> str:
    """Say what is wrong with showing the checkpoint ``shown`` to who knows ``known``; empty where nothing is.

    Both are signed notes: a name, a size, and the tree's root, a line each. Who has signed them is for auditors to check.
    """
    before, after = _read(known), _read(shown)
    if before is None:
        return (
            "" if after is not None or not shown else "the controller shows a checkpoint of its audit log that is none"
        )
    if after is None:
        return "the controller shows a checkpoint of its audit log that is none"
    if before[0] != after[0]:
        return f"the controller's audit log is another ({after[0]}) than the one that this host has witnessed ({before[0]})"
    if after[1] < before[1]:
        return (
            f"the controller's audit log has {after[1]} records, and this host has witnessed {before[1]}: "
            "its database has been rolled back; 'serai audit verify' on a copy of it tells more"
        )
    if after[1] == before[1] and after[2] != before[2]:
        return f"the first {after[1]} records of the controller's audit log are not those that this host has witnessed"
    return ""


def _read(note: str) -> tuple[str, int, str] | None:
    origin, size, root, *_ = [*note.split("\n"), "", "", ""]
    if not origin or not root or not size.isascii() or not size.isdecimal() or len(size) > 20:  # noqa: PLR2004  (64 bits)
        return None
    return origin, int(size), root
