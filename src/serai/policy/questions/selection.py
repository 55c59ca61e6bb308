"""Some ends of connections, as people type them: a VM, a scope, labels, addresses, or all that is outside."""

from __future__ import annotations

from serai.model import address
from serai.model.address import prefix_of
from serai.model.definitions import did_you_mean
from serai.model.policy import Expression, Group, InCidr, Operator
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World
from serai.policy.questions.choice import EVERYBODY, Choice
from serai.policy.questions.question import QuestionError, parse_end

FORMS = "a VM, a scope, labels (role=web), an address, a prefix, or 'outside'"
"""What a selection may be."""


def parse_choice(world: World, text: str | None) -> Choice:
    """Read a selection; None means everybody.

    ``/acme/shop role=web`` is a scope and labels together, as answers name groups.

    Raises:
        QuestionError: it is no selection, or there is nobody whom it could mean.
    """
    if text is None:
        return EVERYBODY
    if text == "outside":
        return Choice(outside=True)
    if "=" in text:
        return _by_labels(world, text)
    if text.startswith("/") and ":" not in text:
        return Choice(peers=(Group(scope=_scope(world, text)),))
    if text[:1].isdigit() or "::" in text or text.count(":") > 1:
        return Choice(peers=(InCidr(prefix=_prefix(text)),))
    end = parse_end(world, text)
    return Choice(vnics=frozenset(vnic.id for vnic in end.vnics))


def _by_labels(world: World, text: str) -> Choice:
    before, _, written = text.rpartition(" ")
    scope = _scope(world, before) if before else ROOT
    labels: dict[str, str] = {}
    for pair in written.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key or labels.setdefault(key, value) != value:
            message = f"{text!r} is not a list of labels: write role=web, or role=web,env=test where both are meant"
            raise QuestionError(message)
    for key, value in labels.items():
        known = sorted({vm.labels[key] for vm in world.vms.values() if key in vm.labels})
        if value not in known:
            hint = did_you_mean(value, known) if known else did_you_mean(key, _keys(world))
            message = f"no VM has the label {key}={value}{hint}"
            raise QuestionError(message)
    expressions = frozenset(
        Expression(key=key, operator=Operator.IN, values=frozenset({value})) for key, value in labels.items()
    )
    group = Group(scope=scope, expressions=expressions)
    if not any(group.contains(vm.scope, vm.labels) for vm in world.vms.values()):
        message = f"no VM{f' of {scope}' if scope != ROOT else ''} has {' and '.join(written.split(','))}"
        raise QuestionError(message)
    return Choice(peers=(group,))


def _keys(world: World) -> set[str]:
    return {key for vm in world.vms.values() for key in vm.labels}


def _scope(world: World, text: str) -> Scope:
    try:
        scope = Scope(text)
    except ValueError as error:
        raise QuestionError(str(error)) from None
    known = {level for vm in world.vms.values() for level in vm.scope.lineage}
    if scope not in known:
        message = f"there is no VM in the scope {scope}{did_you_mean(scope, known - {ROOT})}"
        raise QuestionError(message)
    return scope


def _prefix(text: str) -> address.Prefix:
    try:
        found = address.parse_prefix(text) if "/" in text else prefix_of(address.parse(text))
    except address.DisguiseError as error:
        raise QuestionError(str(error)) from None
    except ValueError:
        message = f"{text!r} means nobody: write {FORMS}"
        raise QuestionError(message) from None
    written = text.partition("/")[0]
    if found.network_address != address.parse(written):
        message = f"{text!r} has bits set behind its length: write {found}, or {written} for the one address"
        raise QuestionError(message)
    return found
