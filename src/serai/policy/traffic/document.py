"""Suggested policies as YAML: what people would write by hand, with what was seen in comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network

from serai.model.address import Prefix, is_several
from serai.model.policy import Direction, Expression, Operator, Policy
from serai.model.tenancy import Scope
from serai.policy.questions.outside import WHOLE
from serai.policy.traffic.drafts import Draft, Peer
from serai.policy.traffic.evidence import evidence, of_subject
from serai.policy.traffic.offers import Offers
from serai.policy.traffic.selection import Selection, is_plain

_WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""What some readers of YAML take for something else than text."""
_LONGEST_NAME = 50
"""Names may have 63 letters; this leaves room for what makes them differ."""
_FIELD = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def document(drafts: Iterable[Draft], offers: Offers, policies: Iterable[Policy]) -> str:
    """Write one policy for each subject; ``policies`` are those whose names are taken."""
    subjects: dict[Selection, list[Draft]] = {}
    for draft in drafts:
        subjects.setdefault(draft.subject, []).append(draft)
    taken = {f"{policy.scope}:{policy.name}" for policy in policies}
    texts = []
    for subject, found in sorted(subjects.items(), key=lambda item: item[0].order):
        path = f"{subject.scope}:{_named(subject)}"
        name = _free(f"{path}-seen" if path in taken else path, taken)
        texts.append("\n".join(_policy(name.rpartition(":")[2], subject, found, offers)) + "\n")
    return "---\n".join(texts)


def _policy(name: str, subject: Selection, drafts: Sequence[Draft], offers: Offers) -> Iterable[str]:
    yield "apiVersion: serai.dev/v1"
    yield "kind: Policy"
    yield f"metadata: {{name: {_scalar(name)}, scope: {subject.scope}}}"
    yield "spec:"
    yield "  tier: Tenant"
    for line in of_subject(subject, drafts):
        yield f"  # {line}"
    if subject.expressions:
        yield "  subject:"
        yield f"    selector: {_selector(subject)}"
    for direction in (Direction.INGRESS, Direction.EGRESS):
        mine = [draft for draft in drafts if draft.direction is direction]
        if not mine:
            continue
        yield f"  {direction}:"
        taken: set[str] = set()
        for draft in mine:
            yield from (f"    # {line}" for line in evidence(draft))
            yield f"    - name: {_scalar(_free(_rule_name(draft), taken))}"
            yield "      action: Accept"
            yield from _list(_FIELD[direction], list(_peers(draft.peer, subject.scope)))
            yield from _list("ports", list(offers.written(draft.services, draft.ports, subject.scope)))


def _list(field: str, items: Sequence[str]) -> Iterable[str]:
    short = f"      {field}: [{', '.join(items)}]"
    if len(short) <= _WIDTH:
        yield short
        return
    yield f"      {field}:"
    yield from (f"        - {item}" for item in items)


def _peers(peer: Peer, own: Scope) -> Iterable[str]:
    if not isinstance(peer, Selection):
        yield from (f"{{cidr: {_prefix(prefix)}}}" for prefix in peer)
    elif not peer.expressions:
        yield f"{{scope: {peer.scope}}}"
    else:
        scope = "" if peer.scope == own else f"scope: {peer.scope}, "
        yield f"{{{scope}selector: {_selector(peer)}}}"


def _selector(selection: Selection) -> str:
    labels = [f"{_scalar(e.key)}: {_scalar(min(e.values))}" for e in selection.expressions if is_plain(e)]
    others = [_expression(e) for e in selection.expressions if not is_plain(e)]
    parts = []
    if labels:
        parts.append(f"matchLabels: {{{', '.join(labels)}}}")
    if others:
        parts.append(f"matchExpressions: [{', '.join(others)}]")
    return f"{{{', '.join(parts)}}}"


def _expression(expression: Expression) -> str:
    values = f", values: [{', '.join(map(_scalar, sorted(expression.values)))}]" if expression.values else ""
    return f"{{key: {_scalar(expression.key)}, operator: {expression.operator}{values}}}"


def _scalar(text: str) -> str:
    """Write text so that nobody reads anything else in it."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else f'"{text}"'


def _prefix(prefix: Prefix) -> str:
    return f'"{prefix}"' if isinstance(prefix, IPv6Network) else str(prefix)


def _rule_name(draft: Draft) -> str:
    name = f"{_FIELD[draft.direction]}-{_peer_name(draft.peer)}"
    return f"{name}-seen-once" if draft.once else name


def _peer_name(peer: Peer) -> str:
    if isinstance(peer, Selection):
        return _named(peer)
    if all(prefix in WHOLE for prefix in peer):
        return "anywhere"
    alone = len(peer) == 1 and not is_several(peer[0])
    return (_clean(str(peer[0].network_address)) if alone else "") or "outside"


def _named(selection: Selection) -> str:
    """Call VMs by the values of their labels; all VMs of a scope, by its name."""
    words = []
    for e in selection.expressions:
        values = "-".join(sorted(e.values)) or e.key.rpartition("/")[2]
        negated = e.operator in {Operator.NOT_IN, Operator.DOES_NOT_EXIST}
        words.append(f"not-{values}" if negated else values)
    return _clean("-".join(words)) or _clean(selection.scope.rpartition("/")[2]) or "all"


def _clean(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    found = next(each for each in numbered if each not in taken)
    taken.add(found)
    return found
